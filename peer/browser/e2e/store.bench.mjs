// How fast the store on the disk is, in each browser: blocks written, read back and
// checked, and what that costs the page's own thread.
//
//   node peer/browser/e2e/store.bench.mjs [MiB]
//
// The thread's cost is Chromium's own figure (TaskDuration of its DevTools protocol): all that the
// page's thread did, the making of the blocks included, of which there is a row of its own.

import { startPageWithStore } from "./store.page.mjs";
import { browserNames, open, Stage, startBrowser } from "./harness.mjs";

const total = Number(process.argv[2] ?? 512) << 20;
const block = 48 << 10; // with its head it fits the frames of all browsers

/** Runs in the page. */
async function measure(what, total, block) {
  const pieceLength = 1 << 20;
  const geometry = new bench.Geometry(total, pieceLength);
  const pieceHashes = Array(geometry.pieces).fill(geometry.pieceRoot(await bench.hashLeaves(new Uint8Array(pieceLength)))); // all zeros
  const info = { fullHash: geometry.root(pieceHashes), fileName: "", contentType: "", totalLength: total, pieceLength, pieceHashes };
  const inFlight = 128; // 6 MiB: what fast peers together may have on the way
  const started = performance.now();
  const rate = (bytes) => bytes / 1e3 / (performance.now() - started);

  /** Does all of it with so many at a time. */
  async function each(length, work) {
    let next = 0;
    const worker = async () => {
      while (next < total) {
        const at = next;
        next += Math.min(length, pieceLength - (at % pieceLength)); // no block crosses a piece
        await work(at / pieceLength | 0, at % pieceLength, next - at);
      }
    };
    await Promise.all(Array.from({ length: inFlight }, worker));
  }
  const made = (length) => new Uint8Array(11 + length).subarray(11);

  switch (what) {
    case "make": // the yardstick
      await each(block, async (_piece, _begin, length) => void made(length));
      return rate(total);
    case "keep": {
      globalThis.store ??= (await bench.openStore(info, "disk", bench.disk)).store;
      await each(block, (piece, begin, length) => store.keep(piece, begin, made(length)));
      return rate(total);
    }
    case "settle":
      for (let piece = 0; piece < total / pieceLength; piece++) store.settle(piece);
      await store.read(total / pieceLength - 1, 0, 1);
      return performance.now() - started;
    case "read":
      await each(block, (piece, begin, length) => store.read(piece, begin, length));
      return rate(total);
    case "scattered": { // blocks of many peers at different places: no two of one chunk in a row
      let seed = 1;
      await each(pieceLength, () => {
        seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
        return store.read(seed % (total / pieceLength), 0, block);
      });
      return rate(total / pieceLength * block);
    }
    case "complete":
      await store.complete();
      return performance.now() - started;
    case "read the Blob":
      await each(block, (piece, begin, length) => store.read(piece, begin, length));
      return rate(total);
    case "close":
      await store.close(false);
      return performance.now() - started;
    case "open": {
      globalThis.store = (await bench.openStore(info, "disk", bench.disk)).store;
      return performance.now() - started;
    }
    case "check": {
      if (!(await store.check(info)).all) throw new Error("what was written is not there");
      return rate(total);
    }
    case "discard":
      await store.close(true);
      return performance.now() - started;
  }
}
const inMilliseconds = ["settle", "complete", "close", "open", "discard"];

const stage = new Stage();
try {
  const site = await startPageWithStore(stage);
  for (const name of browserNames) {
    const browser = await startBrowser(stage, name);
    const { page } = await open(stage, browser, `${site}/`);
    const thread = async () => (name === "chromium" ? (await page.metrics()).TaskDuration : Number.NaN);
    for (const what of ["make", "keep", "keep", "settle", "read", "scattered", "close", "open", "check", "complete", "read the Blob", "discard"]) {
      const [before, started] = [await thread(), performance.now()];
      const value = await page.evaluate(measure, what, total, block);
      const busy = ((await thread()) - before) * 1000;
      const share = (100 * busy) / (performance.now() - started);
      const cost = Number.isNaN(busy) ? "" : `thread ${busy.toFixed(0).padStart(5)} ms (${share.toFixed(0)} %)`;
      const shown = inMilliseconds.includes(what) ? `${value.toFixed(0)} ms` : `${value.toFixed(0)} MB/s`;
      console.log(`${name.padEnd(9)} ${what.padEnd(14)} ${shown.padStart(10)}  ${cost}`);
    }
  }
} finally {
  await stage.end();
}
