import type { Bytes } from "../bytes.ts";
import { ContentError } from "./error.ts";
import { type FullHash, type Hash, LeafLength } from "./hash.ts";
import { readBlob } from "./read.ts";
import { type Geometry, sha256Sync } from "./tree.ts";

/** What hashing a content yields. */
export interface Summary {
  readonly fullHash: FullHash;
  /** One a piece; null where there is one piece only. */
  readonly pieceHashes: Hash[] | null;
}

export interface SumOptions {
  /** Called with the bytes hashed so far. */
  readonly progress?: (hashed: number) => void;
  /** Ends the work; sum then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Read at a time, in bytes. As measured, 256 KiB to 1 MiB are alike, and less and more are slower. */
const chunkLength = 1 << 20;

/** Chunks at a time: one is read while others are hashed. Bounds the memory to 3 MiB. */
const chunksInFlight = 3;

/**
 * Hashes the whole content. WebCrypto hashes the leaves, in most browsers on threads of its
 * own and many at a time. Rejects with a ContentError "content_too_short" or
 * "content_too_long" where the Blob is not of the geometry's length, and with what
 * the Blob throws where it cannot be read (the file changed on the disk).
 */
export async function sum(geometry: Geometry, content: Blob, options: SumOptions = {}): Promise<Summary> {
  geometry.check();
  const { totalLength } = geometry;
  if (content.size !== totalLength) {
    throw content.size < totalLength
      ? tooShort(totalLength)
      : new ContentError("content_too_long", `the content goes on after ${totalLength} bytes`);
  }
  const tree = new GrowingTree(geometry);
  const reader = readBlob(content);
  const working: Working[] = [];
  let spare: ArrayBuffer | null = null;
  let hashed = 0;
  const settle = async ({ data, leaves }: Working): Promise<void> => {
    tree.add(await leaves);
    spare = data.buffer;
    hashed += data.length;
    options.progress?.(hashed);
  };
  try {
    for (let next = 0; next < totalLength || next === 0; next += chunkLength) {
      options.signal?.throwIfAborted();
      if (working.length === chunksInFlight) await settle(working.shift() as Working);
      const length = Math.min(chunkLength, totalLength - next);
      const data = await reader.read(length, spare);
      spare = null;
      if (data.length !== length) throw tooShort(totalLength);
      const leaves = hashLeaves(data);
      leaves.catch(() => {}); // told where it is awaited; what comes behind a failure is not
      working.push({ data, leaves });
    }
    for (const chunk of working) await settle(chunk);
  } finally {
    reader.close();
  }
  return tree.summary();
}

/** A chunk whose leaves are being hashed. */
interface Working {
  readonly data: Bytes;
  readonly leaves: Promise<Hash[]>;
}

function tooShort(totalLength: number): ContentError {
  return new ContentError("content_too_short", `the content ends before ${totalLength} bytes`);
}

/** The tree of a content whose leaves come in order. Leaves are folded as soon as their piece is whole. */
class GrowingTree {
  readonly #geometry: Geometry;
  readonly #pieces: Hash[] = [];
  #leaves: Hash[] = []; // of the piece that is not whole yet

  constructor(geometry: Geometry) {
    this.#geometry = geometry;
  }

  add(leaves: readonly Hash[]): void {
    for (const leaf of leaves) {
      this.#leaves.push(leaf);
      if (this.#leaves.length < this.#geometry.leaves(this.#pieces.length)) continue;
      this.#pieces.push(this.#geometry.pieceRoot(this.#leaves));
      this.#leaves = [];
    }
  }

  /** Every leaf was added. */
  summary(): Summary {
    const pieces = this.#pieces;
    return { fullHash: this.#geometry.root(pieces), pieceHashes: pieces.length > 1 ? pieces : null };
  }
}

/**
 * The node of the piece layer that covers data, which must be the whole piece. For
 * content of one piece that node is the full hash.
 */
export async function hashPiece(geometry: Geometry, data: Bytes): Promise<Hash> {
  return geometry.pieceRoot(await hashLeaves(data));
}

/**
 * The hashes of the leaves of data, which begins on the border of a leaf: one for each
 * 16 KiB, and one for no data at all.
 */
export async function hashLeaves(data: Bytes): Promise<Hash[]> {
  const leaves: Bytes[] = [];
  do {
    const begin = leaves.length * LeafLength;
    leaves.push(data.subarray(begin, begin + LeafLength));
  } while (leaves.length * LeafLength < data.length);
  // Pages without a secure context (http, and not localhost) have no WebCrypto.
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined;
  if (subtle === undefined) return leaves.map(sha256Sync);
  return Promise.all(leaves.map((leaf) => subtle.digest("SHA-256", leaf).then(toHash)));
}

function toHash(digest: ArrayBuffer): Hash {
  return new Uint8Array(digest);
}
