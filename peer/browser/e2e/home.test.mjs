// The page that a mediator shows at its own address: how it is right now, to whoever looks.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import * as e2e from "./harness.mjs";

/** The least contrast of text to what it stands on: WCAG 2.2, 1.4.3 (AA). */
const legible = 4.5;

/** The least contrast of what shows the focus: 1.4.11. */
const visible = 3;

/** What a visitor can have asked for; Firefox takes it as preferences. */
const dark = { features: [["prefers-color-scheme", "dark"], ["prefers-reduced-motion", "reduce"]], preferences: { "ui.systemUsesDarkTheme": 1, "ui.prefersReducedMotion": 1 } };
const light = { features: [["prefers-color-scheme", "light"], ["prefers-reduced-motion", "no-preference"]], preferences: { "ui.systemUsesDarkTheme": 0, "ui.prefersReducedMotion": 0 } };

for (const name of e2e.browserNames) {
  describe(`the home page in ${name}`, () => {
    const shared = new e2e.Stage();
    let near, far, browser, darkBrowser;

    before(async () => {
      near = await e2e.startMediator(shared, { named: true });
      far = await e2e.startMediator(shared, { named: true, bootstrap: [near] });
      browser = await e2e.startBrowser(shared, name, { preferences: light.preferences });
      darkBrowser = name === "chromium" ? browser : await e2e.startBrowser(shared, name, { preferences: dark.preferences });
    });
    after(() => shared.end());

    /** The page of a mediator, once it says how things are, as a visitor of that taste sees it. */
    async function openHome(t, mediator, taste = light) {
      const home = await e2e.open(t, taste === dark ? darkBrowser : browser, "about:blank");
      if (name === "chromium") await home.page.emulateMediaFeatures(taste.features.map(([feature, value]) => ({ name: feature, value })));
      await home.page.setViewport({ width: 1280, height: 900 });
      await home.page.goto(`${mediator.http}/`);
      await reach(home, "live");
      return home;
    }

    test("it shows the mediator, those that it knows, and how peers come and go", e2e.scene(async (t) => {
      const home = await openHome(t, near);
      const { id } = await near.status();
      assert.match(await text(home, "#live-about"), new RegExp(`^Mediator ${id}, version \\S+, running for `));
      await showsOther(home, far);
      assert.equal(await count(home, "#network-picture .places > g"), 1);
      await showsFigures(home, { peers: "0", contents: "0", points: 0 });
      assert.match(await text(home, "#live-words"), /^Nobody is connected to this mediator\. It knows 1 other mediator, with nobody there\.$/);

      const seeders = [];
      for (const [index, what] of ["one.bin", "two.bin"].entries()) {
        const seeder = await e2e.open(t, browser, near.page("seeder"));
        await e2e.seed(seeder, e2e.makeFile(t, what, 100_000));
        seeders.push(seeder);
        const so = String(index + 1);
        await showsFigures(home, { peers: so, contents: so, points: index + 1 });
      }
      assert.match(await text(home, "#live-words"), /^2 people are connected to this mediator\./);
      // What they said is in the curve, however short it was.
      await e2e.until("the curve of messages", async () => Number(/^peak ([\d.]+)$/.exec(await text(home, "#top-messages"))?.[1]) > 0);
      assert.match(await home.page.$eval("#line-messages .line", (path) => path.getAttribute("d")), /^M[\d.]+ [\d.]+L/);
      await e2e.snap(home, "home_wide_light");

      for (const { page } of seeders) await page.goto("about:blank");
      await showsFigures(home, { peers: "0", contents: "0", points: 0 });
      // Nothing was loaded twice, or from elsewhere, and nobody complained.
      assert.equal(home.requests.filter((address) => new URL(address).pathname === "/").length, 1);
      const elsewhere = home.requests.filter((address) => /^(http|ws)s?:/.test(address) && new URL(address).origin !== near.http);
      assert.deepEqual(elsewhere, []);
      assert.deepEqual(home.complaints, []);
    }));

    test("it says that the mediator is gone, and goes on when it is back", e2e.scene(async (t) => {
      const mediator = await e2e.startMediator(t);
      const home = await openHome(t, mediator);
      const { id } = await mediator.status();
      await mediator.stop("SIGKILL");
      await reach(home, "unreachable");
      assert.equal(await text(home, "#live-state"), "This mediator does not answer. This page keeps asking.");
      assert.equal(await text(home, "#live-title"), "How it was");
      assert.match(await text(home, "#live-about"), new RegExp(id));
      assert.deepEqual(await illegible(home), []);
      await e2e.snap(home, "home_gone");

      const { port } = mediator;
      const another = await (await e2e.startMediator(t, { port })).status();
      await reach(home, "live");
      assert.equal(await text(home, "#live-title"), "Right now");
      assert.match(await text(home, "#live-about"), new RegExp(another.id));
      assert.notEqual(another.id, id);
    }));

    test("it tells a volunteer that the address leads elsewhere", e2e.scene(async (t) => {
      const mediator = await e2e.startMediator(t, { flags: ["--listen", "127.0.0.1", "--public-url", near.webSocket] });
      const home = await openHome(t, mediator);
      await e2e.until("what is wrong", async () => / Seen from its own machine, the address that it gives does not lead to it\. /.test(await text(home, "#live-about")));
      assert.deepEqual(await illegible(home), []);
    }));

    for (const [scheme, taste] of Object.entries({ light, dark })) {
      test(`it can be read in ${scheme} colours, wide and narrow, and moves only where that is liked`, e2e.scene(async (t) => {
        const home = await openHome(t, near, taste);
        await showsOther(home, far);
        const ground = await home.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
        assert.equal(ground, scheme === "dark" ? "rgb(16, 22, 21)" : "rgb(244, 246, 246)");
        assert.deepEqual(await illegible(home), []);
        const moving = await home.page.evaluate(() => document.getAnimations().length);
        if (taste === dark) assert.equal(moving, 0);
        else assert.ok(moving > 0, "the sign of life does not move");
        await e2e.snap(home, `home_wide_${scheme}`);

        await home.page.setViewport({ width: 360, height: 740 });
        await e2e.until("the narrow picture", () => home.page.$eval("#network-picture", (picture) => picture.viewBox.baseVal.width === picture.clientWidth && picture.clientWidth < 360));
        assert.deepEqual(await home.page.evaluate(tooWide), []);
        assert.deepEqual(await illegible(home), []);
        await e2e.snap(home, `home_narrow_${scheme}`);
      }));
    }

    test("it can be used with the keyboard alone", e2e.scene(async (t) => {
      const home = await openHome(t, near);
      await showsOther(home, far);
      await home.page.bringToFront();
      const stops = await home.page.evaluate(focusable);
      const reached = [];
      for (const stop of stops) {
        await home.page.keyboard.press("Tab");
        const { what, width, line } = await home.page.evaluate(focused);
        reached.push(what);
        const contrast = contrastOf(line);
        assert.ok(width >= 2 && contrast >= visible, `the focus on ${stop} is ${width} px wide, with a contrast of ${contrast}`);
      }
      assert.deepEqual(reached, stops);
      for (const link of ["/preview/seeder_preview.html", "/preview/leecher_preview.html", "/preview/", "/id", "/healthz", "/status.json"]) {
        assert.ok(stops.includes(`${near.http}${link}`), `${link} is not in ${stops}`);
      }
      assert.ok(stops.includes(`${far.http}/`), `the other mediator is not in ${stops}`);
    }));
  });
}

function text({ page }, selector) {
  return page.$eval(selector, (node) => node.textContent);
}

function count({ page }, selector) {
  return page.$$eval(selector, (nodes) => nodes.length);
}

/** Waits for the page to be "live" or "unreachable". It asks only while it is in front. */
async function reach(home, state) {
  await home.page.bringToFront();
  await e2e.until(`the home page to be ${state}`, () => home.page.$eval("#live", (live, wanted) => live.dataset.state === wanted && !live.hidden, state));
}

/** Waits for another mediator in the list, with a link to its page. */
async function showsOther(home, other) {
  await home.page.bringToFront();
  await e2e.until("the other mediator", () => home.page.$$eval("#mediator-rows a", (links, address) => links.some(({ href }) => href === address), `${other.http}/`));
}

/** Waits for the figures of peers and contents, and for the points of the picture. */
async function showsFigures(home, figures) {
  await home.page.bringToFront();
  const now = async () => ({
    peers: await text(home, "#live-peers"),
    contents: await text(home, "#live-contents"),
    points: await count(home, "#network-picture .crowd circle"),
  });
  const wanted = JSON.stringify(figures);
  await e2e.until(`the figures ${wanted}`, async () => JSON.stringify(await now()) === wanted);
}

/** The texts that cannot be read, each with its contrast. */
async function illegible({ page }) {
  const texts = await page.evaluate(visibleTexts);
  assert.ok(texts.length > 40, `only ${texts.length} texts are seen`);
  return texts.map(({ what, ...colours }) => ({ what, contrast: contrastOf(colours) })).filter(({ contrast }) => !(contrast >= legible));
}

/** Runs in the page: the texts that are seen, with their colour, how opaque it is, and what is behind them, the furthest first. */
function visibleTexts() {
  return [...document.querySelectorAll("body *")].flatMap((node) => {
    const what = [...node.childNodes].filter((child) => child.nodeType === Node.TEXT_NODE).map(({ data }) => data.trim()).join("");
    if (what === "" || node.localName === "title" || !node.checkVisibility()) return [];
    const around = [];
    for (let at = node; at !== null; at = at.parentElement) around.unshift(getComputedStyle(at));
    const { color, fill } = around.at(-1);
    const opacity = around.reduce((product, style) => product * Number(style.opacity), 1);
    return [{ what, colour: node instanceof SVGElement ? fill : color, opacity, behind: around.map(({ backgroundColor }) => backgroundColor) }];
  });
}

/** The contrast of a colour to what is behind it, from 1 to 21, as WCAG defines it. */
function contrastOf({ colour, opacity, behind }) {
  const ground = behind.map(parseColour).reduce((below, above) => lay(above, below), [1, 1, 1, 1]);
  const [r, g, b, a] = parseColour(colour);
  const [low, high] = [ground, lay([r, g, b, a * opacity], ground)].map(luminance).sort((one, other) => one - other);
  return (high + 0.05) / (low + 0.05);
}

/** Red, green, blue and opacity of a computed colour, each from 0 to 1. */
function parseColour(text) {
  const [r, g, b, a = 1] = /^rgba?\(([^)]+)\)$/.exec(text)[1].split(", ").map(Number);
  return [r / 255, g / 255, b / 255, a];
}

function lay([r, g, b, a], [R, G, B]) {
  return [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
}

function luminance(colour) {
  const [r, g, b] = colour.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Runs in the page: what reaches over its right edge. */
function tooWide() {
  const over = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && node.getBoundingClientRect().right > window.innerWidth);
  const overflow = document.documentElement.scrollWidth - window.innerWidth;
  return [...(overflow > 0 ? [`the page, by ${overflow} px`] : []), ...over.map(({ outerHTML }) => outerHTML.slice(0, 80))];
}

/** Runs in the page: what the Tab key must reach, in order: an address for a link, else a tag. */
function focusable() {
  return [...document.querySelectorAll("a[href], summary")].filter((node) => node.checkVisibility()).map((node) => node.href ?? node.localName);
}

/** Runs in the page: what has the focus, and the line around it, which stands on what is around that. */
function focused() {
  const node = document.activeElement;
  const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(node);
  const behind = [];
  for (let at = node.parentElement; at !== null; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
  return { what: node.href ?? node.localName, width: outlineStyle === "none" ? 0 : parseFloat(outlineWidth), line: { colour: outlineColor, opacity: 1, behind } };
}
