// Large contents are kept on the disk: a page that is loaded anew goes on with what is there.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import * as e2e from "./harness.mjs";

const mib = 1 << 20;

/** Large enough to be loaded anew in the middle, at what the seeder may send: some 8 s in all. */
const size = 32 * mib;
const limit = "4M";

for (const name of e2e.browserNames) {
  describe(`resume in ${name}`, () => {
    const shared = new e2e.Stage();
    let near, browser;

    before(async () => {
      near = await e2e.startMediator(shared);
      browser = await e2e.startBrowser(shared, name);
    });
    after(() => shared.end());

    test("the leecher page goes on after a reload, and removes what it kept", e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "long.bin", size);
      const link = await e2e.seedWithGo(t, file, near, "--upload-limit", limit);
      const leecher = await e2e.open(t, browser, near.page("leecher", `?storage=disk#${link.replace("p2pcdn:", "")}`));
      const { page } = leecher;
      const before = await e2e.until("the middle", () => pieces(page).then(({ have, of }) => have > of / 3 && have));
      await page.reload();
      const words = await e2e.until("the words", async () => /Going on with ([\d,]+) of ([\d,]+) pieces/.exec(await e2e.said(leecher)));
      const [there, all] = words.slice(1).map((digits) => Number(digits.replace(",", "")));
      assert.equal(all, size / 65536);
      assert.ok(there > before / 2 && there < all, `of ${before} pieces ${there} were there`);
      await e2e.snap(leecher, "resume");
      await e2e.reach(leecher, "complete");
      assert.equal(e2e.sha256((await e2e.save(leecher)).bytes), file.sha256);

      // Loaded anew it is complete at once, whoever is there; and removed it is gone.
      await page.reload();
      await e2e.reach(leecher, "complete");
      assert.equal(e2e.sha256((await e2e.save(leecher)).bytes), file.sha256);
      assert.equal(await kept(page, link), 1);
      await page.bringToFront();
      await page.click("#remove");
      await e2e.reach(leecher, "idle");
      assert.match(await e2e.said(leecher), /Nothing of the file is left/);
      assert.equal(await page.evaluate(() => location.hash), "");
      await e2e.until("the disk to be empty", async () => (await kept(page, link)) === 0);
      await e2e.snap(leecher, "removed");
    }));

    test("no more is fetched after a reload than was missing, also where the disk was not asked for", e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "long.bin", size);
      const link = await e2e.seedWithGo(t, file, near, "--upload-limit", limit);
      const site = await e2e.startWebServer(t, "preview/dist", {
        "/": `<!doctype html><meta charset="utf-8"><title>A site</title><link rel="icon" href="data:,"><script src="/cdn.js"></script>`,
      });
      const { page } = await e2e.open(t, browser, `${site}/`);
      const begin = (link, mediator, options) => {
        const client = new cdn.Client({ mediators: [mediator], ...options });
        globalThis.content = client.get(link);
        globalThis.found = 0; // bytes that were there
        content.on("progress", ({ bytes, received }) => (found ||= Math.max(0, bytes - received)));
        content.done.catch(() => {}); // the page is loaded anew
      };
      await page.evaluate(begin, link, near.webSocket, { storage: "disk" });
      await e2e.until("the middle", () => page.evaluate(() => content.progress.bytes > content.progress.total / 3));
      await page.reload();
      await page.evaluate(begin, link, near.webSocket, {}); // it would fit the memory
      const { found, received, sha256 } = await page.evaluate(async () => {
        const blob = await content.done;
        const hash = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
        const sha256 = Array.from(new Uint8Array(hash), (value) => value.toString(16).padStart(2, "0")).join("");
        return { found, received: content.progress.received, sha256 };
      });
      assert.equal(sha256, file.sha256);
      assert.ok(found > size / 6, `${found} bytes were there`);
      assert.ok(received >= size - found - mib && received <= size - found + mib, `${received} bytes came, where ${size - found} were missing`);
    }));
  });
}

// What Chromium alone tells is its heap. 1 GiB of the same is a row of scripts/bench.
describe("a large content", () => {
  const shared = new e2e.Stage();
  after(() => shared.end());

  test("goes to the disk, from there to the visitor, and is never in memory", e2e.scene(async (t) => {
    const near = await e2e.startMediator(t);
    const browser = await e2e.startBrowser(t, "chromium");
    const file = e2e.makeFile(t, "large.bin", 192 * mib);
    const link = await e2e.seedWithGo(t, file, near);
    const leecher = await e2e.open(t, browser, near.page("leecher", `#${link.replace("p2pcdn:", "")}`));
    const { page } = leecher;
    const held = await e2e.memoryOf(page);
    let peak = 0;
    const look = async () => (peak = Math.max(peak, await held()));
    await e2e.until("all of it", async () => {
      await look();
      return (await page.$eval("#status", (status) => status.dataset.state)) === "complete";
    });
    const saving = e2e.save(leecher);
    for (let over = false; !over; ) {
      over = await Promise.race([saving.then(() => true), look().then(() => false)]);
    }
    assert.equal(e2e.sha256((await saving).bytes), file.sha256);
    assert.equal(await kept(page, link), 1);
    assert.ok(peak < 100 * mib, `the page held ${peak} bytes`);
  }));
});

/** How many pieces the leecher page has, as its map says. */
async function pieces(page) {
  const label = await page.$eval("#pieces", (map) => map.ariaLabel);
  const [, have, of] = /(\d+) of (\d+) pieces/.exec(label) ?? [0, 0, 1];
  return { have: Number(have), of: Number(of) };
}

/** How many copies of the content the site's disk has. */
function kept(page, link) {
  const [hash] = /[0-9a-f]{64}/.exec(link);
  return page.evaluate(async (hash) => {
    const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("p2pcdn");
    let copies = 0;
    for await (const folder of home.keys()) copies += folder.startsWith(hash) ? 1 : 0;
    return copies;
  }, hash);
}
