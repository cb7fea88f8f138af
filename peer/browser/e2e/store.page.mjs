// A page that has the store, for its test and its benchmark.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

import { startServer, startWebServer } from "./harness.mjs";

const here = dirname(fileURLToPath(import.meta.url));

/** A web server with the page at "/", and at "/strict" with a policy that forbids its worker. */
export function startPageWithStore(t) {
  return startWebServer(t, "preview", {
    "/": page(),
    "/strict": page(`<meta http-equiv="Content-Security-Policy" content="worker-src 'self'">`),
  });
}

/** A web server that any page may post to; it answers with the SHA-256 of what came. */
export function startHasher(t) {
  return startServer(t, async (request, response) => {
    const hash = createHash("sha256");
    for await (const part of request) hash.update(part);
    response.writeHead(200, { "access-control-allow-origin": "*" }).end(hash.digest("hex"));
  });
}

/** Bundles a source as compile.sh does. */
function bundle(source, ...options) {
  return execFileSync(
    "go",
    ["tool", "esbuild", `../src/${source}`, "--bundle", "--minify", "--target=es2022", "--format=iife", "--log-level=warning", ...options],
    { cwd: here, encoding: "utf8", maxBuffer: 16 << 20 },
  );
}

/** A page with the global "bench": the store, and what its test does with it. */
function page(policy = "") {
  const worker = bundle("store/worker.ts");
  const script = bundle("store.ts", "--global-name=storage", `--define:P2PCDN_STORE_WORKER=${JSON.stringify(worker)}`);
  const content = bundle("content.ts", "--global-name=content");
  return `<!doctype html><meta charset="utf-8">${policy}<title>A site</title><link rel="icon" href="data:,">
    <script>${script}</script><script>${content}</script><script>${pieceBytes}(${helpers})()</script>`;
}

/** The bytes of a piece: the same on every visit, in the page and here. */
export function pieceBytes(length, piece, seed) {
  const data = new Uint8Array(length);
  for (let i = 0, x = seed * 7919 + piece * 104729; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    data[i] = x >>> 24;
  }
  return data;
}

/** Runs in the page: what the tests do there. */
function helpers() {
  const { MemoryBudget, openStore, pageDisk } = globalThis.storage;
  const { Geometry, hashLeaves } = globalThis.content;
  const disk = pageDisk();
  const blockLength = 64 << 10;

  /** With no memory to spare: everything is for the disk, large or small. */
  const open = (info, storage, disk) => openStore(info, storage, disk, new MemoryBudget(0));

  const bytesOf = (geometry, piece, seed) => pieceBytes(geometry.pieceSize(piece), piece, seed);

  /** Describes a content that bytesOf makes. */
  async function describe(total, pieceLength, seed) {
    const geometry = new Geometry(total, pieceLength);
    const pieceHashes = [];
    for (let piece = 0; piece < geometry.pieces; piece++) {
      pieceHashes.push(geometry.pieceRoot(await hashLeaves(bytesOf(geometry, piece, seed))));
    }
    return {
      fullHash: geometry.root(pieceHashes), fileName: "film.mp4", contentType: "video/mp4",
      totalLength: total, pieceLength, pieceHashes: geometry.pieces > 1 ? pieceHashes : null,
    };
  }

  /** Keeps pieces block by block, as they come from peers, and settles those that are right. */
  async function fill(store, info, pieces, seed) {
    const geometry = new Geometry(info.totalLength, info.pieceLength);
    for (const piece of pieces) {
      const data = bytesOf(geometry, piece, seed);
      const blocks = [];
      for (let begin = 0; begin === 0 || begin < data.length; begin += blockLength) {
        const frame = new Uint8Array(11 + Math.min(blockLength, data.length - begin));
        frame.set(data.subarray(begin, begin + blockLength), 11);
        blocks.push(store.keep(piece, begin, frame.subarray(11)));
      }
      const leaves = (await Promise.all(blocks)).flat();
      const root = geometry.pieceRoot(leaves);
      const wanted = info.pieceHashes[piece];
      if (root.some((value, i) => value !== wanted[i])) throw new Error(`piece ${piece} has another hash`);
      store.settle(piece);
    }
  }

  /** Hashed by the browser in one go, independently of the Merkle tree. */
  async function sha256(blob) {
    const hash = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
    return Array.from(new Uint8Array(hash), (value) => value.toString(16).padStart(2, "0")).join("");
  }

  /** The same of a Blob that is too large for memory: somebody else hashes it as it comes. */
  async function sha256At(hasher, blob) {
    const answer = await fetch(hasher, { method: "POST", body: blob.slice(0, blob.size, "text/plain") });
    return answer.text();
  }

  const have = (bits) => Array.from({ length: bits.pieces }, (_, piece) => piece).filter((piece) => bits.has(piece));
  globalThis.bench = { openStore: open, disk, describe, fill, have, bytesOf, Geometry, hashLeaves, sha256, sha256At };
}
