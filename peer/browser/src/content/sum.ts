import type { Bytes } from "../bytes.ts";
import { ContentError } from "./error.ts";
import { type FullHash, type Hash, LeafLength } from "./hash.ts";
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

/**
 * Read at a time. One read of a Blob costs about a millisecond whatever its
 * length, so many leaves are read together.
 */
const chunkLength = 4 << 20;

/** Chunks being read and hashed at a time: one is read while another is hashed. Bounds the memory to 12 MiB. */
const chunksInFlight = 3;

/**
 * Hashes the whole content. WebCrypto hashes the leaves on the browser's own
 * threads, many at a time. Rejects with a ContentError "content_too_short" or
 * "content_too_long" where the Blob is not of the geometry's length, and with what
 * the Blob throws where it cannot be read (the file changed on the disk).
 */
export async function sum(geometry: Geometry, content: Blob, options: SumOptions = {}): Promise<Summary> {
  geometry.check();
  const { totalLength } = geometry;
  if (content.size !== totalLength) {
    throw content.size < totalLength
      ? new ContentError("content_too_short", `the content ends before ${totalLength} bytes`)
      : new ContentError("content_too_long", `the content goes on after ${totalLength} bytes`);
  }
  const pieces: Hash[] = [];
  let leaves: Hash[] = []; // of the piece that is not whole yet
  const leavesOf = async (offset: number): Promise<Hash[]> => {
    const length = Math.min(chunkLength, totalLength - offset);
    const data = new Uint8Array(await content.slice(offset, offset + length).arrayBuffer());
    if (data.length !== length) {
      throw new ContentError("content_too_short", `the content ended before ${totalLength} bytes`);
    }
    return hashLeaves(data);
  };
  const working: Promise<Hash[]>[] = [];
  let next = 0;
  for (let hashed = 0; hashed === 0 || hashed < totalLength; ) {
    options.signal?.throwIfAborted();
    while (working.length < chunksInFlight && (next < totalLength || next === 0)) {
      const chunk = leavesOf(next);
      chunk.catch(() => {}); // told where it is awaited; what comes behind a failure is not
      working.push(chunk);
      next += chunkLength;
    }
    for (const leaf of await (working.shift() as Promise<Hash[]>)) {
      leaves.push(leaf);
      if (leaves.length === geometry.leaves(pieces.length)) {
        pieces.push(geometry.pieceRoot(leaves));
        leaves = [];
      }
    }
    hashed = Math.min(hashed + chunkLength, totalLength);
    options.progress?.(hashed);
    if (totalLength === 0) break;
  }
  return { fullHash: geometry.root(pieces), pieceHashes: pieces.length > 1 ? pieces : null };
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
  return Promise.all(leaves.map(async (leaf) => new Uint8Array(await subtle.digest("SHA-256", leaf))));
}
