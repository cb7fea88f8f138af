import type { Crew } from "./crew.ts";
import { ContentError } from "./error.ts";
import type { FullHash, Hash } from "./hash.ts";
import { type HashOptions, hashPart, tooShort } from "./part.ts";
import type { Geometry } from "./tree.ts";

/** What hashing a content yields. */
export interface Summary {
  readonly fullHash: FullHash;
  /** One a piece; null where there is one piece only. */
  readonly pieceHashes: Hash[] | null;
}

export interface SumOptions extends HashOptions {
  /** Workers for large contents; without them all is done on this thread. */
  readonly crew?: Crew | undefined;
}

/**
 * Hashes the whole content, a large one in workers where there are some. Rejects with a ContentError
 * "content_too_short" or "content_too_long" where the Blob is not of the geometry's length, and
 * with what the Blob throws where it cannot be read (the file changed on the disk).
 */
export async function sum(geometry: Geometry, content: Blob, options: SumOptions = {}): Promise<Summary> {
  geometry.check();
  const { totalLength } = geometry;
  if (content.size !== totalLength) {
    throw content.size < totalLength
      ? tooShort(totalLength)
      : new ContentError("content_too_long", `the content goes on after ${totalLength} bytes`);
  }
  const pieces = options.crew?.takes(geometry)
    ? await options.crew.hash(geometry, content, options)
    : await hashPart({ geometry, first: 0, end: geometry.pieces, blob: content }, options);
  return { fullHash: geometry.root(pieces), pieceHashes: pieces.length > 1 ? pieces : null };
}
