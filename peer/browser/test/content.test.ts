import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { fromHex, toHex } from "../src/bytes.ts";
import {
  checkMediatorURL,
  DefaultPieceLength,
  encodeInfo,
  formatLink,
  Geometry,
  type Hash,
  hashLeaves,
  hashPiece,
  type InfoDictionary,
  infoOfLink,
  type Link,
  linkFragment,
  linkTo,
  parseFullHash,
  parseInfo,
  parseLink,
  Proofs,
  sum,
  toDictionary,
} from "../src/content.ts";
import { join } from "../src/content/join.ts";
import { codeOf, sample, vectors } from "./vectors.ts";

function bytes(hex: string): Hash {
  return fromHex(hex, hex.length / 2) as Hash;
}

interface Root {
  total_length: number;
  piece_length: number;
  default?: boolean;
  full_hash: string;
  piece_hashes_count: number;
  piece_hashes_sha256: string | null;
}

async function checkRoot(vector: Root): Promise<void> {
  const geometry = new Geometry(vector.total_length, vector.piece_length);
  if (vector.default) assert.equal(DefaultPieceLength(vector.total_length), vector.piece_length);
  const seen: number[] = [];
  const content = new Blob([sample(vector.total_length)]);
  const { fullHash, pieceHashes } = await sum(geometry, content, { progress: (hashed) => seen.push(hashed) });
  assert.equal(fullHash, vector.full_hash);
  assert.equal(pieceHashes?.length ?? 0, vector.piece_hashes_count);
  assert.equal(seen.at(-1), vector.total_length);
  if (pieceHashes === null) {
    assert.equal(vector.piece_hashes_sha256, null);
    return;
  }
  const digest = createHash("sha256").update(Buffer.concat(pieceHashes)).digest("hex");
  assert.equal(digest, vector.piece_hashes_sha256);
}

for (const file of ["bep52.json", "roots.json"]) {
  describe(file, () => {
    for (const vector of vectors<{ vectors: Root[] }>("content", file).vectors) {
      test(`${vector.total_length} bytes in pieces of ${vector.piece_length}`, () => checkRoot(vector));
    }
  });
}

test("without a secure context the hashes are the same", async (t) => {
  const subtle = Object.getOwnPropertyDescriptor(Crypto.prototype, "subtle") as PropertyDescriptor;
  t.after(() => Object.defineProperty(Crypto.prototype, "subtle", subtle));
  Object.defineProperty(Crypto.prototype, "subtle", { ...subtle, get: () => undefined });
  for (const vector of vectors<{ vectors: Root[] }>("content", "bep52.json").vectors) await checkRoot(vector);
});

test("a content of another length than the geometry's is refused", async () => {
  const geometry = new Geometry(100_000, 65536);
  await assert.rejects(sum(geometry, new Blob([sample(99_999)])), { code: "content_too_short" });
  await assert.rejects(sum(geometry, new Blob([sample(100_001)])), { code: "content_too_long" });
});

test("a content that gets shorter while it is read is refused", async () => {
  const whole = new Blob([sample(100_000)]);
  const shrinking = { size: whole.size, slice: () => whole.slice(0, 10) } as unknown as Blob;
  await assert.rejects(sum(new Geometry(100_000, 65536), shrinking), { code: "content_too_short" });
});

test("what a Blob throws, sum throws", async () => {
  const broken = new Error("the file changed");
  const blob = { size: 20 << 20, slice: () => ({ arrayBuffer: () => Promise.reject(broken) }) } as unknown as Blob;
  await assert.rejects(sum(new Geometry(20 << 20, 65536), blob), broken);
});

/** A Blob of that size whose stream of bytes is this source. */
function streaming(size: number, source: Omit<UnderlyingByteSource, "type">): Blob {
  return { size, stream: () => new ReadableStream({ type: "bytes", ...source }) } as unknown as Blob;
}

test("a stream may give any number of bytes at a time", async () => {
  const data = sample((3 << 20) + 5);
  const { fullHash } = await sum(new Geometry(data.length, 65536), new Blob([data]));
  let at = 0;
  const trickle = streaming(data.length, {
    pull(controller) {
      const end = Math.min(data.length, at + 1 + ((at * 7919) % 300_000));
      controller.enqueue(data.slice(at, end));
      at = end;
      if (at === data.length) controller.close();
    },
  });
  assert.equal((await sum(new Geometry(data.length, 65536), trickle)).fullHash, fullHash);
  assert.equal(at, data.length);
});

test("without streams of bytes the hashes are the same", async () => {
  const data = sample((9 << 20) + 5);
  const whole = new Blob([data]);
  const slices: number[] = [];
  const old = {
    size: whole.size,
    stream: () => new ReadableStream(),
    slice: (begin: number, end: number) => {
      slices.push(end - begin);
      return whole.slice(begin, end);
    },
  } as unknown as Blob;
  const geometry = new Geometry(data.length, 65536);
  assert.equal((await sum(geometry, old)).fullHash, (await sum(geometry, whole)).fullHash);
  assert.equal(Math.max(...slices), 1 << 20);
  assert.equal(slices.reduce((a, b) => a + b), data.length);
});

test("a stream that ends early or breaks is told, and closed", async () => {
  const geometry = new Geometry(3 << 20, 65536);
  const pieces = [1 << 20, 17];
  const short = streaming(3 << 20, {
    pull(controller) {
      const length = pieces.shift();
      if (length !== undefined) return controller.enqueue(new Uint8Array(length));
      controller.close();
      controller.byobRequest?.respond(0);
    },
  });
  await assert.rejects(sum(geometry, short), { code: "content_too_short" });
  const broken = new Error("the file changed");
  let pulls = 0;
  const breaking = streaming(3 << 20, {
    pull(controller) {
      if (++pulls > 2) throw broken;
      controller.enqueue(new Uint8Array(1 << 20));
    },
  });
  await assert.rejects(sum(geometry, breaking), broken);
  const abort = new AbortController();
  let closed = false;
  const endless = streaming(30 << 20, {
    pull: (controller) => controller.enqueue(new Uint8Array(1 << 20)),
    cancel: () => void (closed = true),
  });
  const ended = sum(new Geometry(30 << 20, 65536), endless, { signal: abort.signal, progress: () => abort.abort(new Error("enough")) });
  await assert.rejects(ended, /enough/);
  assert.ok(closed);
});

test("no more than 3 MiB are held while a content is hashed", async () => {
  const size = 20 << 20;
  const buffers = new Set<ArrayBuffer>();
  let left = size;
  const watched = streaming(size, {
    pull(controller) {
      const view = controller.byobRequest?.view as Uint8Array<ArrayBuffer>;
      buffers.add(view.buffer); // each transfer makes another object of the same memory
      left -= view.length;
      controller.byobRequest?.respond(view.length);
      if (left === 0) controller.close();
    },
  });
  const lengths: number[] = [];
  const allocate = globalThis.ArrayBuffer;
  globalThis.ArrayBuffer = class extends allocate {
    constructor(length: number) {
      super(length);
      lengths.push(length);
    }
  } as ArrayBufferConstructor;
  try {
    await sum(new Geometry(size, 65536), watched);
  } finally {
    globalThis.ArrayBuffer = allocate;
  }
  assert.equal(buffers.size, 20);
  assert.deepEqual(lengths.filter((length) => length >= 1 << 20), [1 << 20, 1 << 20, 1 << 20]);
});

test("a sum can be ended", async () => {
  const abort = new AbortController();
  const hashing = sum(new Geometry(12 << 20, 65536), new Blob([new Uint8Array(12 << 20)]), {
    signal: abort.signal,
    progress: () => abort.abort(new Error("enough")),
  });
  await assert.rejects(hashing, /enough/);
});

describe("geometry.json", () => {
  interface Vector {
    total_length: number;
    piece_length: number;
    pieces?: number;
    proof_span?: number;
    some?: { piece: number; offset: number; size: number; leaves: number }[];
    code?: string;
  }
  const file = vectors<{ defaults: { total_length: number; piece_length: number }[]; vectors: Vector[] }>("content", "geometry.json");
  test("default piece lengths", () => {
    for (const { total_length, piece_length } of file.defaults) assert.equal(DefaultPieceLength(total_length), piece_length);
  });
  for (const vector of file.vectors) {
    test(`${vector.total_length} bytes in pieces of ${vector.piece_length}`, () => {
      const geometry = new Geometry(vector.total_length, vector.piece_length);
      if (vector.code !== undefined) return assert.equal(codeOf(() => geometry.check()), vector.code);
      geometry.check();
      assert.equal(geometry.pieces, vector.pieces);
      assert.equal(geometry.proofSpan, vector.proof_span);
      for (const { piece, offset, size, leaves } of vector.some ?? []) {
        assert.deepEqual([geometry.pieceOffset(piece), geometry.pieceSize(piece), geometry.leaves(piece)], [offset, size, leaves]);
      }
    });
  }
});

describe("proofs.json", () => {
  interface Vector {
    name: string;
    total_length: number;
    piece_length: number;
    full_hash: string;
    index: number;
    first: number;
    count: number;
    proof: string[];
    replace?: { at: number; hash: string };
    code?: string;
  }
  const layer = (count: number): Hash[] =>
    Array.from({ length: count }, (_, i) => {
      const number = Buffer.alloc(4);
      number.writeUInt32BE(i);
      return Uint8Array.from(createHash("sha256").update(number).digest());
    });
  for (const vector of vectors<{ vectors: Vector[] }>("content", "proofs.json").vectors) {
    test(`${vector.name}, from ${vector.index}`, () => {
      const geometry = new Geometry(vector.total_length, vector.piece_length);
      const full = parseFullHash(vector.full_hash);
      const hashes = layer(vector.first + vector.count).slice(vector.first);
      if (vector.replace !== undefined) hashes[vector.replace.at] = bytes(vector.replace.hash);
      const check = (): void => geometry.checkProof(full, vector.index, hashes, vector.proof.map(bytes));
      if (vector.code !== undefined) return assert.equal(codeOf(check), vector.code);
      check();
      const proven = new Proofs(geometry, layer(geometry.pieces)).prove(vector.index);
      assert.deepEqual(proven?.hashes.map(toHex), hashes.map(toHex));
      assert.deepEqual(proven.proof.map(toHex), vector.proof);
    });
  }
  test("an index from a stranger does no harm", () => {
    const geometry = new Geometry(600 * 16384, 16384);
    const proofs = new Proofs(geometry, layer(600));
    for (const index of [-256, -1, 1, 255, 513, 600, 768, 2 ** 32, 2 ** 53, 0.5, NaN, Infinity]) {
      assert.equal(proofs.prove(index), null, String(index));
    }
    assert.equal(proofs.prove(512)?.hashes.length, 600 - 512);
    assert.equal(new Proofs(geometry, layer(599)).prove(0), null);
    assert.equal(new Proofs(geometry, layer(601)).prove(0), null);
  });
  test("every span of a wide layer is proven, and nothing is joined anew for it", () => {
    const geometry = new Geometry(5000 * 16384, 16384);
    const hashes = layer(5000);
    const full = geometry.root(hashes);
    const proofs = new Proofs(geometry, hashes);
    for (let index = 0; index < geometry.pieces; index += geometry.proofSpan) {
      const proven = proofs.prove(index);
      assert.ok(proven !== null);
      geometry.checkProof(full, index, proven.hashes, proven.proof);
    }
    const kept = proofs.prove(256)?.proof;
    for (const hash of hashes) hash.fill(0);
    assert.deepEqual(proofs.prove(256)?.proof, kept);
  });
});

describe("info.json", () => {
  interface Vector {
    name: string;
    text?: string;
    base64?: string;
    spaces?: number;
    info?: InfoDictionary;
    code?: string;
  }
  for (const { name, text, base64, spaces, info, code } of vectors<{ vectors: Vector[] }>("content", "info.json").vectors) {
    // A string in JavaScript cannot hold what is no UTF-8: a reader of bytes refuses it before.
    if (base64 !== undefined) {
      test(`${name}: no text`, () => {
        assert.equal(code, "bad_dictionary");
        assert.throws(() => new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(base64, "base64")));
      });
      continue;
    }
    test(name, () => {
      const source = (text as string) + " ".repeat(spaces ?? 0);
      if (code !== undefined) return assert.equal(codeOf(() => parseInfo(source)), code);
      const parsed = parseInfo(source);
      assert.deepEqual(toDictionary(parsed), info);
      assert.deepEqual(parseInfo(encodeInfo(parsed)), parsed);
    });
  }
});

describe("links.json", () => {
  interface Vector {
    name: string;
    text: string;
    link?: Record<string, unknown>;
    printed?: string;
    code?: string;
  }
  const file = vectors<{ vectors: Vector[]; mediator_urls: { url: string; ok: boolean }[] }>("content", "links.json");
  const plain = (link: Link): Record<string, unknown> => ({
    full_hash: link.fullHash,
    total_length: link.totalLength,
    file_name: link.fileName,
    content_type: link.contentType,
    piece_length: link.pieceLength,
    mediators: link.mediators,
  });
  for (const { name, text, link, printed, code } of file.vectors) {
    test(name, () => {
      if (code !== undefined) return assert.equal(codeOf(() => parseLink(text)), code);
      const parsed = parseLink(text);
      assert.deepEqual(plain(parsed), link);
      assert.equal(formatLink(parsed), printed);
      assert.deepEqual(parseLink(formatLink(parsed)), parsed);
      assert.deepEqual(parseLink(linkFragment(parsed)), parsed);
      assert.deepEqual(linkTo(infoOfLink(parsed), parsed.mediators), parsed);
    });
  }
  test("mediator URLs", () => {
    for (const { url, ok } of file.mediator_urls) {
      if (ok) checkMediatorURL(url);
      else assert.equal(codeOf(() => checkMediatorURL(url)), "bad_mediator_url", url);
    }
  });
});

test("a link holds no more mediators than a link may name", () => {
  const info = parseInfo(JSON.stringify({ full_hash: "0".repeat(64), total_length: 5 }));
  const many = Array.from({ length: 20 }, (_, i) => `ws://mediator-${i}/mediation`);
  assert.deepEqual(parseLink(formatLink(linkTo(info, many))).mediators, many.slice(0, 16));
});

test("leaves are hashed each for itself, the last one at its own length", async () => {
  for (const length of [0, 1, 16383, 16384, 16385, 5 * 16384 + 7]) {
    const data = sample(length);
    const leaves: string[] = [];
    for (let begin = 0; begin === 0 || begin < length; begin += 16384) {
      leaves.push(createHash("sha256").update(data.subarray(begin, begin + 16384)).digest("hex"));
    }
    assert.deepEqual((await hashLeaves(data)).map(toHex), leaves, `${length} bytes`);
  }
});

test("a join is the SHA-256 of both hashes", () => {
  const sha256 = (data: Uint8Array): Hash => Uint8Array.from(createHash("sha256").update(data).digest());
  const extremes = [new Uint8Array(32), new Uint8Array(32).fill(0xff), new Uint8Array(32).fill(0x80)];
  for (const left of extremes) for (const right of extremes) assert.deepEqual(join(left, right), sha256(Buffer.concat([left, right])));
  // Every one depends on those before, and none may change what it was given.
  let [left, right] = [sha256(sample(1)), sha256(sample(2))];
  for (let i = 0; i < 2000; i++) {
    const kept = Buffer.concat([left, right]);
    const joined = join(left, right);
    assert.deepEqual(joined, sha256(kept));
    assert.deepEqual(Buffer.concat([left, right]), kept);
    [left, right] = [right, joined];
  }
});

test("a piece of several has a taller tree than content of one", async () => {
  const data = sample(16384);
  const [alone, one] = [new Geometry(16384, 65536), new Geometry(65536 + 16384, 65536)];
  assert.equal(toHex(await hashPiece(alone, data)), createHash("sha256").update(data).digest("hex"));
  assert.notDeepEqual(await hashPiece(one, data), await hashPiece(alone, data));
});
