import assert from "node:assert/strict";
import { test } from "node:test";
import { Geometry, hashLeaves, hashPiece } from "../src/content.ts";
import { BlobStore, MemoryStore } from "../src/store.ts";
import { randomBytes } from "./world.ts";

const mib = 1 << 20;

/** A Blob that counts how often it is read. */
function counted(data: Uint8Array<ArrayBuffer>): { blob: Blob; reads: () => number; bytes: () => number; fail: (error: Error | null) => void } {
  const whole = new Blob([data]);
  let reads = 0;
  let bytes = 0;
  let broken: Error | null = null;
  const wrap = (blob: Blob): Blob =>
    ({
      size: blob.size,
      slice: (begin: number, end: number) => wrap(blob.slice(begin, end)),
      arrayBuffer: () => {
        reads++;
        bytes += blob.size;
        return broken === null ? blob.arrayBuffer() : Promise.reject(broken);
      },
    }) as unknown as Blob;
  return { blob: wrap(whole), reads: () => reads, bytes: () => bytes, fail: (error) => (broken = error) };
}

/** Keeps a whole piece and settles it. */
async function put(store: MemoryStore, piece: number, data: Uint8Array<ArrayBuffer>): Promise<void> {
  await store.keep(piece, 0, data);
  store.settle(piece);
}

test("a memory store gives back what it was given, before and after it is complete", async () => {
  // The last one is more than is kept in the page's own memory.
  for (const [total, pieceLength] of [[200_001, 65536], [5 * mib + 3, 2 * mib], [10, 16384], [70 * mib + 5, 4 * mib]] as const) {
    const data = randomBytes(1, total);
    const geometry = new Geometry(total, pieceLength);
    const store = new MemoryStore(geometry, "text/plain");
    const pieces = Array.from({ length: geometry.pieces }, (_, piece) => piece).reverse();
    const readEach = async (): Promise<void> => {
      for (const piece of pieces) {
        const length = Math.min(16384, geometry.pieceSize(piece));
        const begin = geometry.pieceSize(piece) - length;
        const offset = geometry.pieceOffset(piece) + begin;
        assert.ok(Buffer.from(await store.read(piece, begin, length)).equals(data.subarray(offset, offset + length)));
      }
    };
    for (const piece of pieces) {
      const offset = geometry.pieceOffset(piece);
      await put(store, piece, data.slice(offset, offset + geometry.pieceSize(piece)));
    }
    await readEach();
    const blob = await store.complete();
    assert.equal(blob.type, "text/plain");
    assert.ok(Buffer.from(await blob.arrayBuffer()).equals(data));
    await readEach();
    assert.equal(await store.complete(), blob);
  }
});

test("a piece that is not kept cannot be read, and can be once it is", async () => {
  const store = new MemoryStore(new Geometry(100_000, 65536), "");
  await assert.rejects(store.read(1, 0, 10));
  await put(store, 1, new Uint8Array(100_000 - 65536).fill(7));
  assert.deepEqual(await store.read(1, 0, 2), Uint8Array.of(7, 7));
});

test("a memory store hashes blocks as they come, and gives what is settled", async () => {
  const data = randomBytes(4, 200_001);
  const geometry = new Geometry(data.length, 65536);
  const store = new MemoryStore(geometry, "text/plain");
  assert.equal((await store.check()).count, 0);
  for (const piece of [3, 0, 2, 1]) {
    const whole = data.slice(geometry.pieceOffset(piece), geometry.pieceOffset(piece) + geometry.pieceSize(piece));
    await store.keep(piece, 0, new Uint8Array(Math.min(whole.length, 16384))); // wrong, and written over
    const leaves = [];
    for (let begin = 0; begin < whole.length; begin += 32768) {
      const hashes = await store.keep(piece, begin, whole.slice(begin, begin + 32768));
      assert.deepEqual(hashes, await hashLeaves(whole.slice(begin, begin + 32768)));
      leaves.push(...hashes);
    }
    assert.deepEqual(geometry.pieceRoot(leaves), await hashPiece(geometry, whole));
    await assert.rejects(store.read(piece, 0, 10), /not kept/);
    await assert.rejects(store.complete(), /not kept/);
    store.settle(piece);
    await store.keep(piece, 0, new Uint8Array(100)); // too late: it is settled
    assert.deepEqual(await store.read(piece, 1, 10), whole.slice(1, 11));
  }
  const blob = await store.complete();
  assert.equal(blob.type, "text/plain");
  assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), data);
  await store.close();
  await assert.rejects(store.read(0, 0, 1), /closed/);
  await assert.rejects(store.keep(0, 0, new Uint8Array(1)), /closed/);
  assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), data);
});

test("a memory store keeps a whole piece as it came, and takes blocks of it before and after", async () => {
  const data = randomBytes(6, 65536);
  const store = new MemoryStore(new Geometry(data.length + 1, 65536), "");
  await store.keep(0, 16384, new Uint8Array(16384)); // of an attempt that was given up
  const frame = new Uint8Array(data.length + 11); // a block lies in its frame
  frame.set(data, 11);
  const leaves = await store.keep(0, 0, frame.subarray(11));
  assert.deepEqual(leaves, await hashLeaves(data));
  await store.keep(0, 32768, data.slice(32768, 49152)); // asked for twice
  store.settle(0);
  assert.deepEqual(await store.read(0, 0, data.length), data);
  assert.equal((await store.read(0, 5, 7)).buffer, frame.buffer, "it was copied");
});

test("a Blob that is seeded is complete, and nothing can be kept in it", async () => {
  const blob = new Blob([new Uint8Array(100_000)]);
  const store = new BlobStore(new Geometry(100_000, 65536), blob);
  assert.ok((await store.check()).all);
  assert.equal(await store.complete(), blob);
  await assert.rejects(store.keep(), /there already/);
});

test("the empty content can be kept and read", async () => {
  const store = new MemoryStore(new Geometry(0, 65536), "");
  await put(store, 0, new Uint8Array());
  assert.equal((await store.read(0, 0, 0)).length, 0);
  assert.equal((await store.complete()).size, 0);
});

test("a Blob is read in chunks where it is read in order, each once for the blocks in it", async () => {
  const data = randomBytes(2, 3 * mib);
  const { blob, reads } = counted(data);
  const store = new BlobStore(new Geometry(data.length, 65536), blob);
  for (let piece = 0; piece < 48; piece++) {
    assert.deepEqual(await store.read(piece, 16384, 49152), data.slice(piece * 65536 + 16384, (piece + 1) * 65536));
  }
  assert.equal(reads(), 4); // a part, the rest of its chunk, and two chunks
});

test("a Blob is read in parts where it is read in no order", async () => {
  const data = randomBytes(5, 4 * mib);
  const { blob, reads, bytes } = counted(data);
  const store = new BlobStore(new Geometry(data.length, 131_072), blob);
  const pieces = [...Array(32).keys()].sort((a, b) => ((a * 13) % 32) - ((b * 13) % 32));
  for (const piece of pieces) {
    for (const begin of [0, 65_536]) {
      const offset = piece * 131_072 + begin;
      assert.deepEqual(await store.read(piece, begin, 65_536), data.slice(offset, offset + 65_536));
    }
  }
  assert.ok(reads() <= 32, `${reads()} reads`);
  assert.ok(bytes() <= 2 * data.length, `${bytes()} bytes were read of ${data.length}`);
});

test("a block across two chunks is whole", async () => {
  const data = randomBytes(3, 4 * mib);
  const store = new BlobStore(new Geometry(data.length, 4 * mib), new Blob([data]));
  const begin = mib - 16384;
  assert.deepEqual(await store.read(0, begin, 49152), data.slice(begin, begin + 49152));
});

test("a bounded number of chunks is remembered", async () => {
  const data = new Uint8Array(40 * mib);
  const { blob, reads } = counted(data);
  const store = new BlobStore(new Geometry(data.length, 512 << 10), blob);
  for (const round of [1, 2]) {
    for (let piece = 0; piece < 80; piece++) await store.read(piece, 0, 16384);
    assert.equal(reads(), 80 * round);
  }
  await store.read(79, 16384, 16384);
  assert.equal(reads(), 160);
});

test("a read that failed is tried again", async () => {
  const { blob, fail } = counted(new Uint8Array(100_000).fill(1));
  const store = new BlobStore(new Geometry(100_000, 65536), blob);
  fail(new Error("the disk"));
  await assert.rejects(store.read(0, 0, 16384), /the disk/);
  fail(null);
  assert.equal((await store.read(0, 0, 16384))[0], 1);
});
