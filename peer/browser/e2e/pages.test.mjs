// What a person meets on the preview pages: every way to name a file, every way
// to get it wrong, and what is shown of it.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import * as e2e from "./harness.mjs";

for (const name of e2e.browserNames) {
  describe(`pages in ${name}`, () => {
    const shared = new e2e.Stage();
    let mediator, other, browser;

    before(async () => {
      [mediator, other] = await e2e.startMediators(shared);
      browser = await e2e.startBrowser(shared, name);
    });
    after(() => shared.end());

    /** A seeder page that shares the file, and its link. */
    async function shareFile(t, file) {
      const seeder = await e2e.open(t, browser, mediator.page("seeder"));
      return { seeder, link: await e2e.seed(seeder, file) };
    }

    /** Waits for a leecher page to be complete, and compares what it saves. */
    async function getsFile(leecher, file) {
      await e2e.reach(leecher, "complete");
      const saved = await e2e.save(leecher);
      assert.equal(saved.name, file.name);
      assert.equal(e2e.sha256(saved.bytes), file.sha256);
    }

    test("a link is followed", e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "followed.bin", 200_000);
      const { link } = await shareFile(t, file);
      await getsFile(await e2e.open(t, browser, link), file);
    }));

    test("an info dictionary is pasted", e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "dictionary.bin", 200_000);
      const { seeder } = await shareFile(t, file);
      const dictionary = await seeder.page.$eval("#info-dictionary", (field) => field.value);
      const { full_hash: hash, piece_hashes: pieces, ...rest } = JSON.parse(dictionary);
      assert.match(hash, /^[0-9a-f]{64}$/);
      assert.equal(pieces.length, 4);
      assert.deepEqual(rest, { file_name: file.name, content_type: "application/octet-stream", total_length: 200_000, piece_length: 65_536 });
      const leecher = await e2e.open(t, browser, other.page("leecher"));
      await e2e.paste(leecher, dictionary);
      await getsFile(leecher, file);
    }));

    test("how long each step took is saved, and told to the browser's own tools", e2e.scene(async (t) => {
      const { link } = await shareFile(t, e2e.makeFile(t, "timed.bin", 200_000));
      const leecher = await e2e.open(t, browser, link);
      await e2e.reach(leecher, "complete");
      const saved = await e2e.save(leecher, "#timings:not([hidden])");
      assert.equal(saved.name, "timed.bin.timings.csv");
      const [columns, values, ...rest] = saved.bytes.toString().split("\n").map((line) => line.split(","));
      assert.deepEqual(rest, [[""]]);
      const row = Object.fromEntries(columns.map((column, i) => [column, values[i]]));
      const { endpoint, role, content_bytes: bytes, outcome } = row;
      assert.deepEqual({ endpoint, role, bytes, outcome }, { endpoint: name, role: "leecher", bytes: "200000", outcome: "complete" });
      // The lookup may come before or after established: a busy browser is late with its offer.
      const order = ["started", "mediator_open", "lookup_sent", "peers_named", "answer_received", "ice_connected", "channel_open", "first_piece", "complete"];
      const stamps = order.map((phase) => Number(row[phase] || "NaN"));
      assert.deepEqual(stamps, [...stamps].sort((a, b) => a - b), saved.bytes.toString());
      const measures = await leecher.page.evaluate(() =>
        performance.getEntriesByType("measure").map(({ name, duration, detail }) => [name, duration.toFixed(3), detail.fullHash]));
      const hash = /#([0-9a-f]{64})/.exec(link)[1];
      for (const phase of order.slice(1)) {
        assert.ok(measures.some(([name, , about]) => name === `p2pcdn:${phase}` && about === hash), `${phase} is no entry: ${measures}`);
      }
    }));

    test("an empty file and a file of one byte", e2e.scene(async (t) => {
      for (const size of [1, 0]) {
        const file = e2e.makeFile(t, `${size}.bin`, size);
        const { link } = await shareFile(t, file);
        const leecher = await e2e.open(t, browser, link);
        await e2e.reach(leecher, "complete");
        assert.equal(await leecher.page.$eval("#progress", (bar) => bar.value), 1);
        if (size > 0) await getsFile(leecher, file);
      }
    }));

    test("another web server serves the pages", e2e.scene(async (t) => {
      const server = await e2e.startWebServer(t, "preview");
      const search = `?mediator=${encodeURIComponent(mediator.webSocket)}`;
      const file = e2e.makeFile(t, "elsewhere.bin", 200_000);
      const seeder = await e2e.open(t, browser, `${server}/seeder_preview.html${search}`);
      const link = await e2e.seed(seeder, file);
      assert.ok(link.startsWith(`${server}/leecher_preview.html${search}#`), link);
      await getsFile(await e2e.open(t, browser, link), file);
    }));

    test("what is no link fails in plain words", e2e.scene(async (t) => {
      const hash = "ab".repeat(32);
      const leecher = await e2e.open(t, browser, mediator.page("leecher"));
      for (const [what, text, words] of [
        ["bad_link", "my holiday film", /not a link/],
        ["nothing", "", /not a link/],
        ["link_without_length", `p2pcdn:${hash}`, /lacks the file’s length/],
        ["bad_length", `p2pcdn:${hash}?xl=-3`, /xl must be a number/],
        ["bad_dictionary", '{"full_hash": 3', /not an info dictionary/],
        ["contradiction", contradictingDictionary(hash), /contradicts itself/],
      ]) {
        await e2e.paste(leecher, text);
        await e2e.reach(leecher, "failed");
        assert.match(await e2e.said(leecher), words, what);
        await e2e.snap(leecher, `failed_${what}`);
      }
    }));

    test("a page recovers from a bad link", e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "second-try.bin", 100_000);
      const { link } = await shareFile(t, file);
      const leecher = await e2e.open(t, browser, mediator.page("leecher", "#nonsense"));
      await e2e.reach(leecher, "failed");
      await e2e.paste(leecher, link);
      await getsFile(leecher, file);
      assert.deepEqual(await e2e.states(leecher), ["idle", "failed", "searching", "connecting", "downloading", "complete"]);
    }));

    test("a file that nobody has is searched for until somebody comes", e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "late.bin", 100_000);
      const first = await shareFile(t, file);
      await first.seeder.page.goto("about:blank");
      const leecher = await e2e.open(t, browser, other.page("leecher"));
      await e2e.paste(leecher, first.link);
      await e2e.reach(leecher, "searching");
      await e2e.snap(leecher, "searching");
      await shareFile(t, file);
      await getsFile(leecher, file);
    }));

    test("a picture is shown", e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "picture.png", e2e.drawSample());
      const { seeder, link } = await shareFile(t, file);
      await e2e.snap(seeder, "seeding");
      const leecher = await e2e.open(t, browser, link);
      await e2e.reach(leecher, "complete");
      const width = await e2e.until("the picture", () => leecher.page.$eval("#result", (result) => result.querySelector("img")?.naturalWidth));
      assert.equal(width, 1440);
      await e2e.snap(leecher, "picture");
      await leecher.page.emulateMediaFeatures?.([{ name: "prefers-color-scheme", value: "dark" }]).catch(() => {}); // Chromium alone can
      await leecher.page.setViewport({ width: 360, height: 740 });
      await e2e.snap(leecher, "picture_narrow");
      const overflow = await leecher.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(overflow <= 0, `a narrow page is ${overflow} px too wide`);
    }));

    test("an HTML page and an SVG picture never run", e2e.scene(async (t) => {
      const script = "<script>document.title = 'taken over'; window.parent.taken = true;</script>";
      for (const [fileName, text, shownAs] of [
        ["page.html", `<!doctype html>${script}<img src=x onerror="document.title='taken over'">`, "pre"],
        ["drawing.svg", `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/>${script}</svg>`, "img"],
      ]) {
        const file = e2e.makeFile(t, fileName, text);
        const { link } = await shareFile(t, file);
        const leecher = await e2e.open(t, browser, link);
        await e2e.reach(leecher, "complete");
        await leecher.page.waitForSelector(`#result ${shownAs}`);
        if (shownAs === "pre") assert.equal(await leecher.page.$eval("#result pre", (pre) => pre.textContent), text);
        assert.equal(await leecher.page.title(), "Fetch a file · p2pcdn");
        assert.equal(await leecher.page.evaluate(() => window.taken), undefined);
        await getsFile(leecher, file);
      }
    }));

    test("a file is dropped", e2e.scene(async (t) => {
      const seeder = await e2e.open(t, browser, mediator.page("seeder"));
      await seeder.page.evaluate(() => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File(["dropped"], "dropped.txt", { type: "text/plain" }));
        document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
      });
      await e2e.reach(seeder, "seeding");
      assert.equal(JSON.parse(await seeder.page.$eval("#info-dictionary", (field) => field.value)).file_name, "dropped.txt");
    }));

    test("both pages side by side", e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "side-by-side.bin", 300_000);
      const index = await e2e.open(t, browser, `${mediator.http}/preview/`);
      await index.page.setViewport({ width: 1280, height: 900 });
      const [left, right] = await e2e.until("both frames", async () => {
        const frames = ["seeder", "leecher"].map((page) => index.page.frames().find((frame) => frame.url().includes(`/${page}_preview.html`)));
        return frames.every(Boolean) && frames;
      });
      const input = await left.waitForSelector("#file-input");
      await input.uploadFile(file.path);
      await e2e.reach({ page: left }, "seeding");
      // The link lies ready on the right.
      await e2e.until("the link on the right", () => right.$eval("#info-dictionary", (field) => field.value.includes("?xl=300000")));
      await right.$eval("#start", (button) => button.click());
      await e2e.reach({ page: right }, "complete");
      await e2e.snap(index, "index");
    }));

    test("a mediator that is down is named, and found again", e2e.scene(async (t) => {
      const port = await e2e.freePort();
      const server = await e2e.startWebServer(t, "preview");
      const address = (page) => `${server}/${page}_preview.html?mediator=ws://localhost:${port}/mediation`;
      const leecher = await e2e.open(t, browser, address("leecher"));
      const seeder = await e2e.open(t, browser, address("seeder"));
      for (const opened of [leecher, seeder]) {
        await e2e.until("the trouble", async () => /cannot be reached/.test(await e2e.said(opened)));
        assert.match(await e2e.said(opened), new RegExp(`ws://localhost:${port}/mediation`));
        await e2e.snap(opened, `mediator_down_${opened === seeder ? "seeder" : "leecher"}`);
      }
      const file = e2e.makeFile(t, "after-all.bin", 100_000);
      await (await seeder.page.$("#file-input")).uploadFile(file.path);
      await e2e.reach(seeder, "connecting");
      await e2e.startMediator(t, { port });
      await e2e.reach(seeder, "seeding");
      await e2e.paste(leecher, await seeder.page.$eval("#share-link", (link) => link.href));
      await getsFile(leecher, file);
    }));
  });
}

/** A dictionary of two pieces whose hashes do not hash up to the full hash. */
function contradictingDictionary(hash) {
  return JSON.stringify({
    full_hash: hash, file_name: "x", content_type: "", total_length: 100_000, piece_length: 65_536,
    piece_hashes: [hash, hash],
  });
}
