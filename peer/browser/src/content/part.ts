import type { Bytes } from "../bytes.ts";
import { ContentError } from "./error.ts";
import { type Hash, LeafLength } from "./hash.ts";
import { readBlob } from "./read.ts";
import { type Geometry, sha256Sync } from "./tree.ts";

/** Some pieces of a content that follow each other. */
export interface Part {
  readonly geometry: Geometry;
  /** The first piece. */
  readonly first: number;
  /** The piece behind the last. */
  readonly end: number;
  /** The bytes of those pieces alone. */
  readonly blob: Blob;
}

export interface HashOptions {
  /** Called with the bytes hashed so far; they only grow. */
  readonly progress?: ((hashed: number) => void) | undefined;
  /** Ends the work, which then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Read at a time, in bytes. As measured, 256 KiB to 1 MiB are alike, and less and more are slower. */
const chunkLength = 1 << 20;

/** Chunks at a time: one is read while others are hashed. Bounds the memory to 3 MiB. */
const chunksInFlight = 3;

/** Hashes some pieces: the nodes of the piece layer that cover them. Rejects as readLeaves. */
export async function hashPart(part: Part, options: HashOptions): Promise<Hash[]> {
  const layer = new GrowingLayer(part.geometry, part.first);
  await readLeaves(part, options, (leaves) => layer.add(leaves));
  return layer.pieces;
}

/** The nodes of the piece layer that cover some pieces, of all their leaves. */
export function foldPart({ geometry, first }: Part, leaves: readonly Hash[]): Hash[] {
  const layer = new GrowingLayer(geometry, first);
  layer.add(leaves);
  return layer.pieces;
}

/**
 * Hashes the leaves of some pieces and hands them over in their order. WebCrypto hashes them, in most
 * browsers on threads of its own and many at a time. Rejects with a ContentError "content_too_short" where
 * the Blob ends before them, and with what the Blob throws where it cannot be read (the file changed on the disk).
 */
export async function readLeaves(
  { geometry, first, end, blob }: Part,
  { progress, signal }: HashOptions,
  take: (leaves: readonly Hash[]) => void,
): Promise<void> {
  const total = Math.min(geometry.totalLength, geometry.pieceOffset(end)) - geometry.pieceOffset(first);
  const reader = readBlob(blob);
  const working: Working[] = [];
  let spare: ArrayBuffer | null = null;
  let hashed = 0;
  const settle = async ({ data, leaves }: Working): Promise<void> => {
    take(await leaves);
    spare = data.buffer;
    hashed += data.length;
    progress?.(hashed);
  };
  try {
    for (let next = 0; next < total || next === 0; next += chunkLength) {
      signal?.throwIfAborted();
      if (working.length === chunksInFlight) await settle(working.shift() as Working);
      const length = Math.min(chunkLength, total - next);
      const data = await reader.read(length, spare);
      spare = null;
      if (data.length !== length) throw tooShort(geometry.totalLength);
      const leaves = hashLeaves(data);
      leaves.catch(() => {}); // told where it is awaited; what comes behind a failure is not
      working.push({ data, leaves });
    }
    for (const chunk of working) await settle(chunk);
  } finally {
    reader.close();
  }
}

/** A chunk whose leaves are being hashed. */
interface Working {
  readonly data: Bytes;
  readonly leaves: Promise<Hash[]>;
}

export function tooShort(totalLength: number): ContentError {
  return new ContentError("content_too_short", `the content ends before ${totalLength} bytes`);
}

/** The piece layer of a content whose leaves come in order. Leaves are folded as soon as their piece is whole. */
class GrowingLayer {
  /** Those that are whole. */
  readonly pieces: Hash[] = [];
  readonly #geometry: Geometry;
  readonly #first: number; // where the first leaf is from
  #leaves: Hash[] = []; // of the piece that is not whole yet

  constructor(geometry: Geometry, first: number) {
    this.#geometry = geometry;
    this.#first = first;
  }

  add(leaves: readonly Hash[]): void {
    for (const leaf of leaves) {
      this.#leaves.push(leaf);
      if (this.#leaves.length < this.#geometry.leaves(this.#first + this.pieces.length)) continue;
      this.pieces.push(this.#geometry.pieceRoot(this.#leaves));
      this.#leaves = [];
    }
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
