// A page hashes a file as people choose it, from the disk: right in each browser, and to
// the end whatever the garbage collector does meanwhile.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import * as e2e from "./harness.mjs";

const source = join(dirname(fileURLToPath(import.meta.url)), "../src/content.ts");

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
  let script, site;

  before(async () => {
    script = execFileSync("go", ["tool", "esbuild", "--bundle", "--format=iife", "--global-name=content", source], { encoding: "utf8", cwd: dirname(source) });
    site = await e2e.startWebServer(shared, "preview", { "/": '<!doctype html><title>hashing</title><link rel="icon" href="data:,"><input type="file" id="file">' });
  });
  after(() => shared.end());

  for (const name of e2e.browserNames) {
    test(`a file in ${name}`, e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "random.bin", (64 << 20) + 12_345);
      const { page } = await e2e.open(t, await e2e.startBrowser(t, name), `${site}/`);
      await page.addScriptTag({ content: `${script}; window.content = content;` });
      await (await page.$("#file")).uploadFile(file.path);
      let hashing = true;
      const hashed = page
        .evaluate(async () => {
          const [file] = document.getElementById("file").files;
          const told = [];
          const { fullHash } = await window.content.sum(new window.content.Geometry(file.size, 65536), file, { progress: (bytes) => told.push(bytes) });
          return { fullHash, told };
        })
        .finally(() => (hashing = false));
      hashed.catch(() => {}); // told below
      // Firefox has no way to be told to collect its garbage; it does so by itself.
      const collector = name === "chromium" ? await page.createCDPSession() : null;
      while (hashing && collector !== null) {
        await collector.send("HeapProfiler.collectGarbage");
        await delay(1);
      }
      const { fullHash: sum, told } = await hashed;
      assert.equal(sum, fullHash(file.bytes));
      assert.equal(told.at(-1), file.bytes.length);
      assert.ok(told.every((bytes, i) => i === 0 || bytes > told[i - 1]), "progress goes back");
    }));
  }
});
