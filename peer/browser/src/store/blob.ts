import type { Bytes } from "../bytes.ts";
import type { Geometry, Hash } from "../content.ts";
import { Bits } from "../wire.ts";
import { StoreError } from "./error.ts";
import { chunkLength, Reader } from "./reader.ts";
import type { Store } from "./store.ts";

/** Reads from a Blob that has the whole content: a File that is seeded. */
export class BlobStore implements Store {
  readonly #geometry: Geometry;
  readonly #blob: Blob;
  readonly #reader: Reader;

  constructor(geometry: Geometry, blob: Blob) {
    this.#geometry = geometry;
    this.#blob = blob;
    this.#reader = new Reader(chunkLength, geometry.totalLength, (offset, length) =>
      blob.slice(offset, offset + length).arrayBuffer(),
    );
  }

  /** Every piece: whoever seeds a Blob has hashed it. */
  async check(): Promise<Bits> {
    return Bits.full(this.#geometry.pieces);
  }

  async keep(): Promise<readonly Hash[]> {
    throw new StoreError("broken", "the whole content is there already");
  }

  settle(): void {}

  read(piece: number, begin: number, length: number): Promise<Bytes> {
    return this.#reader.read(this.#geometry.pieceOffset(piece) + begin, length);
  }

  async complete(): Promise<Blob> {
    return this.#blob;
  }

  /** The Blob is its owner's: nothing is discarded. */
  async close(): Promise<void> {}
}
