// A page hashes a file as people choose it, from the disk: right in each browser, by itself and in
// workers, and to the end whatever the garbage collector does meanwhile.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { truncateSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import * as e2e from "./harness.mjs";
import { bundleContent } from "./hash.page.mjs";

/** Enough for workers, and no multiple of anything. */
const total = (64 << 20) + 12_345;

/** The full hash by its definition: leaves of 16 KiB, folded up to the root, with zeros for those that are missing. */
function fullHash(bytes) {
  let nodes = [];
  for (let at = 0; at === 0 || at < bytes.length; at += 16384) nodes.push(bytes.subarray(at, at + 16384));
  nodes = nodes.map((leaf) => createHash("sha256").update(leaf).digest());
  while ((nodes.length & (nodes.length - 1)) !== 0) nodes.push(Buffer.alloc(32));
  while (nodes.length > 1) {
    nodes = nodes.flatMap((left, i) => (i % 2 === 0 ? [createHash("sha256").update(left).update(nodes[i + 1]).digest()] : []));
  }
  return nodes[0].toString("hex");
}

describe("hashing", () => {
  const shared = new e2e.Stage();
  const page = (head = "") => `<!doctype html><title>hashing</title><link rel="icon" href="data:,">${head}<input type="file" id="file">`;
  const browsers = {};
  let script, site;

  before(async () => {
    script = bundleContent();
    for (const name of e2e.browserNames) browsers[name] = await e2e.startBrowser(shared, name);
    site = await e2e.startWebServer(shared, "preview", {
      "/": page(),
      "/strict": page(`<meta http-equiv="Content-Security-Policy" content="worker-src 'self'">`),
    });
  });
  after(() => shared.end());

  /** Chooses a file in a page. */
  async function choose(t, page) {
    const file = e2e.makeFile(t, "random.bin", total);
    await page.addScriptTag({ content: `${script}; window.content = content;` });
    await (await page.$("#file")).uploadFile(file.path);
    return file;
  }

  /**
   * Runs in the page: hashes the file; what came of it, and what it was told of workers and progress. With wait
   * the page itself does not hash before a worker has come up: alone it might be done before.
   */
  async function hash(crewed, wait = false) {
    const { Geometry, pageCrew, sum } = window.content;
    const [file] = document.getElementById("file").files;
    const told = [];
    let workers = 0; // that came up
    let running = 0;
    let cameUp;
    const up = new Promise((resolve) => (cameUp = resolve));
    const { digest } = SubtleCrypto.prototype;
    crypto.subtle.digest = async (...args) => {
      if (wait) await up;
      return digest.apply(crypto.subtle, args);
    };
    window.Worker = class extends window.Worker {
      constructor(...args) {
        super(...args);
        running++;
        this.addEventListener("message", ({ data }) => {
          if (data.type !== "ready") return;
          workers++;
          cameUp();
        });
      }
      terminate() {
        super.terminate();
        running--;
      }
    };
    const result = await sum(new Geometry(file.size, 65536), file, { crew: crewed ? pageCrew() : undefined, progress: (bytes) => told.push(bytes) }).then(
      ({ fullHash }) => fullHash,
      (error) => `${error.name}: ${error.message}`,
    );
    return { result, told, workers, running };
  }

  function check({ result, told }, file) {
    assert.equal(result, fullHash(file.bytes));
    assert.equal(told.at(-1), file.bytes.length);
    assert.ok(told.every((bytes, i) => i === 0 || bytes > told[i - 1]), "progress goes back");
  }

  for (const name of e2e.browserNames) {
    test(`a file in ${name}`, e2e.scene(async (t) => {
      const { page } = await e2e.open(t, browsers[name], `${site}/`);
      const file = await choose(t, page);
      let hashing = true;
      const hashed = page.evaluate(hash, false).finally(() => (hashing = false));
      hashed.catch(() => {}); // told below
      // Firefox has no way to be told to collect its garbage; it does so by itself.
      const collector = name === "chromium" ? await page.createCDPSession() : null;
      while (hashing && collector !== null) {
        await collector.send("HeapProfiler.collectGarbage");
        await delay(1);
      }
      check(await hashed, file);
      assert.equal((await hashed).workers, 0);
    }));

    test(`a file in workers of ${name}, until it gets shorter`, e2e.scene(async (t) => {
      const { page } = await e2e.open(t, browsers[name], `${site}/`);
      const file = await choose(t, page);
      const hashed = await page.evaluate(hash, true, true);
      check(hashed, file);
      assert.ok(hashed.workers > 0, "no worker came up");
      assert.equal(hashed.running, hashed.workers, "those that came up are kept for the next file, and no others");
      truncateSync(file.path, total - 1);
      const changed = await page.evaluate(hash, true);
      assert.match(changed.result, /^(TypeError|NotReadableError|ContentError): /);
      assert.equal(changed.result, (await page.evaluate(hash, false)).result, "without workers it fails otherwise");
    }));

    test(`a file in ${name} where a policy forbids workers`, e2e.scene(async (t) => {
      const { browser } = browsers[name];
      const page = await browser.newPage(); // which tells the console of its policy
      await page.goto(`${site}/strict`);
      const file = await choose(t, page);
      const hashed = await page.evaluate(hash, true);
      check(hashed, file);
      assert.deepEqual([hashed.workers, hashed.running], [0, 0]);
    }));
  }
});
