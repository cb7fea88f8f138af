// The storage of a page alone, in real browsers: on the disk, over a reload, in two tabs.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import * as e2e from "./harness.mjs";
import { pieceBytes, startHasher, startPageWithStore } from "./store.page.mjs";

const mib = 1 << 20;

// The last piece is short.
const pieceLength = mib;
const lastLength = 70_001;
const pieces = 20;
const total = (pieces - 1) * pieceLength + lastLength;
const content = [total, pieceLength];
const all = Array.from({ length: pieces }, (_, piece) => piece);

/** The hash of the whole content, or of a larger one. */
function sha256Of(seed, length = total) {
  const hash = createHash("sha256");
  for (let begin = 0; begin < length; begin += pieceLength) {
    hash.update(pieceBytes(Math.min(pieceLength, length - begin), begin / pieceLength, seed));
  }
  return hash.digest("hex");
}

for (const name of e2e.browserNames) {
  describe(`storage in ${name}`, () => {
    const shared = new e2e.Stage();
    let browser, site;

    before(async () => {
      browser = await e2e.startBrowser(shared, name);
      site = await startPageWithStore(shared);
    });
    after(() => shared.end());

    test("a reload in the middle: what was settled is there, the rest comes, and the whole is right", e2e.scene(async (t) => {
      const { page } = await e2e.open(t, browser, `${site}/`);
      const first = await page.evaluate(async (total, pieceLength) => {
        const info = await bench.describe(total, pieceLength, 1);
        const { store, why } = await bench.openStore(info, "disk", bench.disk);
        const before = bench.have(await store.check(info));
        await bench.fill(store, info, [0, 3, 4, 7, 19], 1);
        // A block of a piece that is not whole, and a whole piece that nobody found right.
        await store.keep(9, 0, new Uint8Array(65536).fill(1));
        await store.keep(10, 0, bench.bytesOf(new bench.Geometry(total, pieceLength), 10, 1));
        const read = await store.read(3, 16384, 16384);
        const right = bench.bytesOf(new bench.Geometry(total, pieceLength), 3, 1).subarray(16384, 32768);
        return { why, before, same: read.length === right.length && read.every((value, i) => value === right[i]) };
      }, ...content);
      assert.deepEqual(first, { why: null, before: [], same: true });

      await page.reload();
      const second = await page.evaluate(async (total, pieceLength) => {
        const info = await bench.describe(total, pieceLength, 1);
        // A link has no piece hashes; the disk knows them.
        const { store, info: known } = await bench.openStore({ ...info, pieceHashes: null }, "disk", bench.disk);
        const told = [];
        const before = bench.have(await store.check(known, (done, all) => told.push([done, all])));
        const lacking = Array.from({ length: 20 }, (_, piece) => piece).filter((piece) => !before.includes(piece));
        await bench.fill(store, info, lacking, 1);
        const blob = await store.complete();
        const served = await store.read(19, 0, 10);
        globalThis.store = store;
        return {
          before, hashes: known.pieceHashes?.length, last: told.at(-1), size: blob.size, type: blob.type,
          sha256: await bench.sha256(blob), served: served.length,
        };
      }, ...content);
      const settled = 4 * pieceLength + lastLength;
      assert.deepEqual(second, {
        before: [0, 3, 4, 7, 19], hashes: pieces, last: [settled, settled], size: total, type: "video/mp4",
        sha256: sha256Of(1), served: 10,
      });
    }));

    test("a second tab: each has its own copy while it is fetched, and one is enough once it is whole", e2e.scene(async (t) => {
      const [one, two, three] = [await e2e.open(t, browser, `${site}/`), await e2e.open(t, browser, `${site}/`), await e2e.open(t, browser, `${site}/`)];
      const begin = async (pieces, total, pieceLength) => {
        const info = await bench.describe(total, pieceLength, 2);
        const { store } = await bench.openStore(info, "disk", bench.disk);
        const before = bench.have(await store.check(info));
        await bench.fill(store, info, pieces, 2);
        Object.assign(globalThis, { store, info });
        return before;
      };
      assert.deepEqual(await one.page.evaluate(begin, [0, 1], ...content), []);
      assert.deepEqual(await two.page.evaluate(begin, all, ...content), []);
      assert.equal(await two.page.evaluate(async () => bench.sha256(await store.complete())), sha256Of(2));

      // The third one finds the whole content of the second, and both have it at once.
      assert.deepEqual(await three.page.evaluate(begin, [], ...content), all);
      assert.equal(await three.page.evaluate(async () => bench.sha256(await store.complete())), sha256Of(2));
      assert.equal(await two.page.evaluate(async () => (await store.read(5, 0, 100)).length), 100);

      // The first one goes on as if nobody else was there.
      await one.page.evaluate((rest) => bench.fill(store, info, rest, 2), all.slice(2));
      assert.equal(await one.page.evaluate(async () => bench.sha256(await store.complete())), sha256Of(2));

      // What another tab uses is not thrown away.
      await three.page.evaluate(() => store.close(true));
      assert.equal(await two.page.evaluate(async () => bench.sha256(await store.complete())), sha256Of(2));
    }));

    test("what is discarded is gone", e2e.scene(async (t) => {
      const { page } = await e2e.open(t, browser, `${site}/`);
      const left = await page.evaluate(async (total, pieceLength) => {
        const info = await bench.describe(total, pieceLength, 3);
        const folders = async () => {
          const home = await (await navigator.storage.getDirectory()).getDirectoryHandle("p2pcdn");
          const names = [];
          for await (const folder of home.keys()) names.push(folder);
          return names.filter((folder) => folder.startsWith(info.fullHash)).length;
        };
        const { store } = await bench.openStore(info, "disk", bench.disk);
        await bench.fill(store, info, [0], 3);
        const before = await folders();
        await store.close(true);
        return [before, await folders()];
      }, ...content);
      assert.deepEqual(left, [1, 0]);
    }));

    // In Chromium, which tells what it holds, twice what it may hold. (1 GiB, by way of the network, is a row of scripts/bench.)
    const large = (name === "chromium" ? 512 : 128) * mib;
    test("a large content: what went in block by block comes out, and is never in memory", e2e.scene(async (t) => {
      const { page } = await e2e.open(t, browser, `${site}/`);
      const hasher = await startHasher(t);
      const held = name === "chromium" ? await e2e.memoryOf(page) : async () => 0;
      let peak = 0;
      /** Does something in the page, and looks at its memory meanwhile. */
      const inPage = async (...work) => {
        let over = false;
        const done = page.evaluate(...work).finally(() => (over = true));
        for (; !over; await Promise.race([done, delay(100)])) peak = Math.max(peak, await held());
        return done;
      };
      await inPage(async (total, pieceLength) => {
        const info = await bench.describe(total, pieceLength, 7);
        const { store } = await bench.openStore(info, "disk", bench.disk);
        Object.assign(globalThis, { store, info });
      }, large, pieceLength);
      await inPage((all) => bench.fill(store, info, all, 7), Array.from({ length: large / pieceLength }, (_, piece) => piece));
      const out = await inPage(async (hasher) => {
        const blob = await store.complete();
        return [blob.size, await bench.sha256At(hasher, blob)];
      }, hasher);
      await page.evaluate(() => store.close(true));
      assert.deepEqual(out, [large, sha256Of(7, large)]);
      // 160 MiB were measured, most of it blocks that wait for the garbage collector.
      assert.ok(peak < 256 * mib, `the page held ${peak} bytes`);
      assert.ok(peak > 0 || name !== "chromium", "nobody looked");
    }));

    // Firefox has no way to leave a page less room than the machine has.
    if (name === "chromium") {
      test("little room: the content that was there goes, and one that does not fit is refused", e2e.scene(async (t) => {
        const { page } = await e2e.open(t, browser, `${site}/`);
        const devtools = await page.createCDPSession();
        const leave = (quotaSize) => devtools.send("Storage.overrideQuotaForOrigin", { origin: site, quotaSize });
        const begin = (seed) =>
          page.evaluate(async (seed, pieces, total, pieceLength) => {
            const info = await bench.describe(total, pieceLength, seed);
            const opened = await bench.openStore(info, "disk", bench.disk).catch((error) => error);
            if (opened instanceof Error) return [opened.reason, opened.message];
            const before = bench.have(await opened.store.check(info));
            await bench.fill(opened.store, info, pieces, seed);
            await opened.store.close(false);
            return before;
          }, seed, all, ...content);
        await leave(45 * mib); // Chromium needs 32 MiB to begin a file of 20
        assert.deepEqual(await begin(5), []);
        assert.deepEqual(await begin(5), all);
        assert.deepEqual(await begin(6), []);
        assert.deepEqual(await begin(5), [], "it had to go");
        await leave(10 * mib);
        const [reason, message] = await begin(6);
        assert.equal(reason, "quota");
        assert.match(message, /used up/);
      }));
    }

    test("a policy that forbids the worker: what is for the disk stays in memory, and it says why", e2e.scene(async (t) => {
      // Not by e2e.open: that a policy was broken is an error to Firefox, and what is meant here.
      const page = await browser.browser.newPage();
      t.after(() => page.close());
      await page.goto(`${site}/strict`);
      const [why, code, text] = await page.evaluate(async (total, pieceLength) => {
        const info = await bench.describe(total, pieceLength, 4);
        const { store, why } = await bench.openStore(info, "auto", bench.disk);
        await bench.fill(store, info, [0], 4);
        const failure = await bench.openStore(info, "disk", bench.disk).catch((error) => error);
        return [why, failure.code, failure.reason];
      }, ...content);
      assert.match(why, /in memory: .*worker-src blob:/);
      assert.deepEqual([code, text], ["store_failed", "unavailable"]);
    }));
  });
}
