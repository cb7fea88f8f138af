// Contents are watched while they are downloaded: in the leecher page, and on a site of
// its own through the service worker.

import assert from "node:assert/strict";
import { hostname } from "node:os";
import { after, before, describe, test } from "node:test";

import { film } from "./film.mjs";
import * as e2e from "./harness.mjs";

/** What the seeder may send, in bytes/s: 1.7 times what the film needs, so that it comes in some 14 s. */
const limit = "1M";

for (const name of e2e.browserNames) {
  describe(`streaming in ${name}`, () => {
    const shared = new e2e.Stage();
    let near, far, browser, movie;

    before(async () => {
      movie = await film(shared);
      [near, far] = await e2e.startMediators(shared);
      browser = await e2e.startBrowser(shared, name);
    });
    after(() => shared.end());

    test("a film plays while it is downloaded, and from another place before what is between has come", e2e.scene(async (t) => {
      const link = await e2e.seedWithGo(t, movie, near, "--upload-limit", limit);
      const leecher = await e2e.open(t, browser, far.page("leecher"));
      const { page } = leecher;
      await e2e.paste(leecher, link);
      await page.waitForSelector("#result video");
      await page.$eval("#result video", (video) => {
        video.muted = true;
        void video.play();
      });
      const begun = await e2e.until("the film to play", () => playing(page, 0.5));
      assert.ok(begun.progress < 0.6, `it played only when ${begun.progress} was there`);
      await e2e.snap(leecher, "film_plays");

      const place = movie.seconds - 2;
      await page.$eval("#result video", (video, place) => (video.currentTime = place), place);
      const moved = await e2e.until("the film to play from another place", () => playing(page, place + 0.5));
      assert.ok(moved.progress < 0.85, `it played there only when ${moved.progress} was there`);
      await e2e.snap(leecher, "film_sought");

      await e2e.reach(leecher, "complete");
      assert.equal(await page.$eval("#result figcaption", (line) => line.textContent), "All of it is here.");
      assert.equal(e2e.sha256((await e2e.save(leecher)).bytes), movie.sha256);
      await e2e.snap(leecher, "film_complete");
    }));

    test("over plain http a film is shown when it is complete, and the page says so before", e2e.scene(async (t) => {
      const link = await e2e.seedWithGo(t, movie, near, "--upload-limit", "4M");
      const address = far.page("leecher", `#${link.replace("p2pcdn:", "")}`).replace("localhost", hostname());
      const leecher = await e2e.open(t, browser, address);
      const { page } = leecher;
      assert.equal(await page.evaluate(() => isSecureContext), false);
      await e2e.until("the words", () => page.$eval("#result-note", (note) => /^You can watch when all of it is here: .*https/.test(note.textContent) && !note.hidden));
      assert.equal(await page.$("#result video"), null);
      await e2e.snap(leecher, "film_insecure");
      await e2e.reach(leecher, "complete");
      await page.waitForSelector("#result video");
      await page.$eval("#result video", (video) => {
        video.muted = true;
        void video.play();
      });
      await e2e.until("the film to play", () => playing(page, 0.2));
      assert.equal(await page.$eval("#result-note", (note) => note.hidden), true);
    }));

    test("a site of its own reads any part of a content at its address, whichever tab has it", e2e.scene(async (t) => {
      const site = await startSite(t);
      const one = await e2e.open(t, browser, `${site}/`);
      const seed = async (mediator, first) => {
        const bytes = Uint8Array.from({ length: 3_000_001 }, (_, i) => (i * 31 + (i >> 8) + first) & 255);
        const client = new cdn.Client({ mediators: [mediator] });
        globalThis.content = client.seed(new File([bytes], "daten 1.bin", { type: "application/x-data" }));
        await content.ready;
        await cdn.registerStreaming();
        return cdn.streamURL(content);
      };
      const url = await one.page.evaluate(seed, near.webSocket, 1);
      assert.match(url, new RegExp(`^${site}/p2pcdn/[0-9a-f]{64}/daten%201\\.bin$`));
      const expected = Buffer.from(Uint8Array.from({ length: 3_000_001 }, (_, i) => (i * 31 + (i >> 8) + 1) & 255));
      const parts = [
        [undefined, 200, expected],
        ["bytes=0-", 206, expected],
        ["bytes=1000000-1999999", 206, expected.subarray(1_000_000, 2_000_000)],
        ["bytes=-5", 206, expected.subarray(-5)],
        ["bytes=3000001-", 416, Buffer.alloc(0)],
      ];
      for (const [range, status, bytes] of parts) {
        assert.deepEqual(await get(one, url, range), { status, sha256: e2e.sha256(bytes), type: status === 416 ? null : "application/x-data" }, range);
      }
      // It is content from anybody: no script and no document of this site.
      assert.equal(await one.page.evaluate((url) => new Promise((resolve) => {
        const script = document.createElement("script");
        script.onload = () => resolve("ran");
        script.onerror = () => resolve("refused");
        script.src = url;
        document.body.append(script);
      }), url), "refused");

      // Another tab has another content: each reads both.
      const two = await e2e.open(t, browser, `${site}/`);
      const other = await two.page.evaluate(seed, near.webSocket, 2);
      assert.notEqual(other, url);
      for (const [opened, address, status] of [[one, other, 206], [two, url, 206], [two, other, 206]]) {
        assert.equal((await get(opened, address, "bytes=0-9")).status, status);
      }

      // What is left is gone; so is what a tab had that was loaded anew, until it has an address again.
      await two.page.evaluate(() => content.stop());
      assert.equal((await get(one, other)).status, 404);
      await one.page.reload();
      assert.equal((await get(one, url)).status, 404);
      assert.equal(await one.page.evaluate(seed, near.webSocket, 1), url);
      assert.equal((await get(two, url, "bytes=0-")).sha256, e2e.sha256(expected));
    }));
  });
}

// Browsers stop service workers when they like; Chromium and Firefox are made to, each in its own way.
const stops = {
  chromium: {
    preferences: {},
    async stop(page) {
      const tools = await page.createCDPSession();
      await tools.send("ServiceWorker.enable");
      await tools.send("ServiceWorker.stopAllWorkers");
    },
  },
  firefox: {
    preferences: { "dom.serviceWorkers.idle_timeout": 500, "dom.serviceWorkers.idle_extended_timeout": 500 }, // ms, over and over
    async stop() {},
  },
};

for (const name of e2e.browserNames) {
  test(`the film plays on when ${name} stops the service worker`, e2e.scene(async (t) => {
    const movie = await film(t);
    const near = await e2e.startMediator(t);
    const browser = await e2e.startBrowser(t, name, { preferences: stops[name].preferences });
    const link = await e2e.seedWithGo(t, movie, near, "--upload-limit", limit);
    const leecher = await e2e.open(t, browser, near.page("leecher", `#${link.replace("p2pcdn:", "")}`));
    const { page } = leecher;
    await page.waitForSelector("#result video");
    await page.$eval("#result video", (video) => {
      globalThis.workers = new Set();
      navigator.serviceWorker.addEventListener("message", ({ data }) => workers.add(data.worker));
      video.muted = true;
      void video.play();
    });
    await e2e.until("the film to play", () => playing(page, 0.5));
    await stops[name].stop(page);
    const { progress } = await playing(page, 0);
    assert.ok(progress < 0.6, `it was stopped only when ${progress} was there`);
    // What is played there came through another worker.
    await e2e.until("the film to play on", () => playing(page, Math.ceil((progress + 0.1) * movie.seconds)));
    await stops[name].stop(page);
    await page.$eval("#result video", (video, place) => (video.currentTime = place), movie.seconds - 1.5);
    await e2e.until("the film to play from another place", () => playing(page, movie.seconds - 1));
    assert.ok((await page.evaluate(() => workers.size)) >= 2, "one worker did all");
  }));
}

/** A site with the scripts, and nothing else. */
function startSite(t) {
  return e2e.startWebServer(t, "preview/dist", {
    "/": `<!doctype html><meta charset="utf-8"><title>A site</title><link rel="icon" href="data:,"><script src="/cdn.js"></script><p>A site</p>`,
  });
}

/** What a page gets at an address. */
function get({ page }, url, range) {
  return page.evaluate(async (url, range) => {
    const response = await fetch(url, range === undefined ? {} : { headers: { Range: range } });
    const hash = await crypto.subtle.digest("SHA-256", await response.arrayBuffer());
    const sha256 = Array.from(new Uint8Array(hash), (value) => value.toString(16).padStart(2, "0")).join("");
    return { status: response.status, sha256, type: response.headers.get("content-type") };
  }, url, range);
}

/** Where the film is and how much has come, once it plays beyond that place; else null. */
function playing(page, place) {
  return page.evaluate((place) => {
    const video = document.querySelector("#result video");
    if (video.error !== null) throw new Error(video.error.message);
    const plays = !video.paused && !video.seeking && video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA || video.ended;
    return plays && video.currentTime >= place ? { at: video.currentTime, progress: document.getElementById("progress").value } : null;
  }, place);
}
