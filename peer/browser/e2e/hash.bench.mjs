// How fast a page and its workers hash a file for seeding, the workers' start included, against what
// WebCrypto does with 16 KiB leaves that are in memory already, in each browser. The two take turns, so
// that a noisy machine disturbs both; the ratio is the median of the turns. Where the machine does other
// work at the same time, the sum, which keeps several cores busy, loses more than the yardstick, which in
// Chromium is one.
//
// Beside it stands what the machine allows: the same file read by as many workers that do not hash, and as many workers that
// hash what is in memory. Each of the two keeps all cores busy on a machine of two, so that together they take
// at least the sum of their times: the bound. (With more cores than a reader can feed, it is no bound.)
//
//   node peer/browser/e2e/hash.bench.mjs [--json] [--rounds N] [browser ...]
//
// --json prints {browser: {webcrypto, sum, ratio, read, digest, bound}} instead, the rates in MB/s.
// The file lies in the system's page cache, as one that was just made.

import { parseArgs } from "node:util";

import { bundleContent } from "./hash.page.mjs";
import { browserNames, makeFile, Stage, startBrowser, startWebServer } from "./harness.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean", default: false }, rounds: { type: "string", default: "7" } },
});
const rounds = Number(options.rounds);
const names = positionals.length > 0 ? positionals : browserNames;

const total = 256 << 20; // bytes hashed a turn: a few tenths of a second
const pieceLength = 256 << 10; // bytes, as DefaultPieceLength gives

/** How many digests are in flight at a time. The one with the best median is the yardstick. */
const depths = [4, 32, 256];

/** The room under test, as a script with the global `content`. */
const script = bundleContent();

/** Runs in the page: how many milliseconds WebCrypto takes for so many bytes in leaves, that many at a time. */
async function digest(total, depth) {
  const length = 16 << 10;
  window.leaves ??= Array.from({ length: (32 << 20) / length }, () => crypto.getRandomValues(new Uint8Array(length)));
  const { leaves } = window;
  let next = 0;
  const started = performance.now();
  await Promise.all(
    Array.from({ length: depth }, async () => {
      while (next < total / length) await crypto.subtle.digest("SHA-256", leaves[next++ % leaves.length]);
    }),
  );
  return performance.now() - started;
}

/** Runs in the page: how many milliseconds the chosen file takes. */
async function hashFile(pieceLength) {
  const file = document.getElementById("file").files[0];
  const started = performance.now();
  window.crew ??= window.content.pageCrew(); // one, as a client has
  await window.content.sum(new window.content.Geometry(file.size, pieceLength), file, { crew: window.crew });
  return performance.now() - started;
}

/** The program of the bound's workers: reads a Blob, or hashes as many bytes in memory; says when it is done. */
const halves = `
  const chunk = 1 << 20, leaf = 16 << 10;
  const ring = Array.from({ length: 8 * chunk / leaf }, () => crypto.getRandomValues(new Uint8Array(leaf)));
  let reader; // a global: Chromium collects one that only a read waits for
  onmessage = async ({ data: { what, blob } }) => {
    if (what === "read") {
      reader = blob.stream().getReader({ mode: "byob" });
      for (let view = new Uint8Array(chunk), done = false; !done; ) {
        const part = await reader.read(view, { min: chunk });
        done = part.done;
        view = part.value && new Uint8Array(part.value.buffer);
      }
    } else {
      for (let at = 0; at < blob.size; at += chunk) {
        const first = (at / leaf) % ring.length;
        await Promise.all(ring.slice(first, first + chunk / leaf).map((bytes) => crypto.subtle.digest("SHA-256", bytes)));
      }
    }
    postMessage(null);
  };`;

/** Runs in the page: how many milliseconds as many workers as a crew has take to read the file, or to hash as much. */
async function half(what, program) {
  const file = document.getElementById("file").files[0];
  const count = Math.min(8, 2 * navigator.hardwareConcurrency); // as content/crew.ts
  window.halves ??= Array.from({ length: count }, () => new Worker(URL.createObjectURL(new Blob([program]))));
  const length = file.size / count;
  const started = performance.now();
  await Promise.all(window.halves.map((worker, i) => new Promise((resolve, reject) => {
    worker.onmessage = resolve;
    worker.onerror = reject;
    worker.postMessage({ what, blob: file.slice(i * length, (i + 1) * length) });
  })));
  return performance.now() - started;
}

/** MB/s, of milliseconds. */
const rate = (ms) => total / 1000 / ms;

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

const stage = new Stage();
try {
  const site = await startWebServer(stage, "preview", { "/": '<!doctype html><title>bench</title><input type="file" id="file">' });
  const file = makeFile(stage, "file", total);
  const results = {};
  for (const name of names) {
    const { browser } = await startBrowser(stage, name);
    const page = await browser.newPage();
    await page.goto(`${site}/`);
    await page.addScriptTag({ content: `${script}; window.content = content;` });
    await (await page.$("#file")).uploadFile(file.path);
    const ours = [];
    const parts = { read: [], digest: [] };
    const yardsticks = new Map(depths.map((depth) => [depth, []]));
    for (let round = 0; round <= rounds; round++) {
      ours.push(rate(await page.evaluate(hashFile, pieceLength)));
      for (const [depth, all] of yardsticks) all.push(rate(await page.evaluate(digest, total, depth)));
      for (const [what, all] of Object.entries(parts)) all.push(rate(await page.evaluate(half, what, halves)));
    }
    // One turn more than asked for: the browser's compilers had not seen the code yet.
    for (const all of [ours, parts.read, parts.digest, ...yardsticks.values()]) all.shift();
    const best = [...yardsticks.values()].reduce((one, other) => (median(one) >= median(other) ? one : other));
    results[name] = {
      webcrypto: median(best),
      sum: median(ours),
      ratio: median(ours.map((sum, turn) => sum / best[turn])),
      read: median(parts.read),
      digest: median(parts.digest),
      bound: median(parts.read.map((read, turn) => 1 / (1 / read + 1 / parts.digest[turn]))),
    };
    await browser.close();
  }
  if (options.json) console.log(JSON.stringify(results));
  else for (const [name, { webcrypto, sum, ratio, read, digest, bound }] of Object.entries(results)) {
    const mb = (rate) => `${rate.toFixed(0).padStart(5)} MB/s`;
    console.log(`${name.padEnd(9)} WebCrypto ${mb(webcrypto)}  sum ${mb(sum)}  ratio ${ratio.toFixed(2)}  of the bound ${(sum / bound).toFixed(2)}: ${mb(bound)} (workers read ${mb(read)}, hash ${mb(digest)})`);
  }
} finally {
  await stage.end();
}
