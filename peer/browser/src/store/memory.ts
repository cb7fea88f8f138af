import type { Bytes } from "../bytes.ts";
import { type Geometry, type Hash, hashLeaves } from "../content.ts";
import { Bits } from "../wire.ts";
import { BlobStore } from "./blob.ts";
import { StoreError } from "./error.ts";
import type { Store } from "./store.ts";

/**
 * How much of a content is kept in the page's own memory, in bytes: all of one that is there by
 * choice. Above that it goes into Blobs, which the browser keeps elsewhere; making one stops the page for
 * milliseconds, so it is not done for each piece.
 */
const ownLimit = 128 << 20;

/** Keeps the pieces that come in memory. */
export class MemoryStore implements Store {
  readonly #geometry: Geometry;
  readonly #type: string;
  readonly #begun = new Map<number, Bytes>(); // by piece: those that are not settled, as many as are begun at a time
  readonly #own = new Map<number, Bytes>(); // by piece: settled; bounded by ownLimit
  #ownBytes = 0;
  readonly #elsewhere = new Map<number, Blob>(); // by piece: settled
  #whole: BlobStore | null = null; // once it is complete: the only one that still has the pieces
  #closed = false;

  /** type is the media type of the whole content. */
  constructor(geometry: Geometry, type: string) {
    this.#geometry = geometry;
    this.#type = type;
  }

  async check(): Promise<Bits> {
    return new Bits(this.#geometry.pieces);
  }

  async keep(piece: number, begin: number, data: Bytes): Promise<readonly Hash[]> {
    if (this.#closed) throw closed();
    if (!this.#settled(piece)) {
      // A whole piece is kept as it came: fresh memory costs more than what comes from the network.
      if (data.length === this.#geometry.pieceSize(piece)) this.#begun.set(piece, data);
      else this.#buffer(piece).set(data, begin);
    }
    return hashLeaves(data);
  }

  settle(piece: number): void {
    const buffer = this.#begun.get(piece);
    if (buffer === undefined) return;
    this.#begun.delete(piece);
    this.#own.set(piece, buffer);
    this.#ownBytes += buffer.length;
    if (this.#ownBytes > ownLimit) this.#moveOut();
  }

  async read(piece: number, begin: number, length: number): Promise<Bytes> {
    if (this.#closed) throw closed();
    if (this.#whole !== null) return this.#whole.read(piece, begin, length);
    const own = this.#own.get(piece);
    if (own !== undefined) return own.subarray(begin, begin + length);
    const blob = this.#elsewhere.get(piece);
    if (blob === undefined) throw new StoreError("broken", `piece ${piece} is not kept`);
    return new Uint8Array(await blob.slice(begin, begin + length).arrayBuffer());
  }

  async complete(): Promise<Blob> {
    if (this.#closed) throw closed();
    if (this.#whole === null) {
      const parts: (Bytes | Blob)[] = [];
      for (let piece = 0; piece < this.#geometry.pieces; piece++) {
        const part = this.#own.get(piece) ?? this.#elsewhere.get(piece);
        if (part === undefined) throw new StoreError("broken", `piece ${piece} is not kept`);
        parts.push(part);
      }
      this.#whole = new BlobStore(this.#geometry, new Blob(parts, { type: this.#type }));
      this.#forget();
    }
    return this.#whole.complete();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#whole = null; // a Blob that somebody has lives on
    this.#forget();
  }

  /** The memory of a piece that comes in blocks. */
  #buffer(piece: number): Bytes {
    const buffer = this.#begun.get(piece) ?? new Uint8Array(this.#geometry.pieceSize(piece));
    this.#begun.set(piece, buffer);
    return buffer;
  }

  #settled(piece: number): boolean {
    return this.#whole !== null || this.#own.has(piece) || this.#elsewhere.has(piece);
  }

  /** Moves what is in our own memory into a Blob, of which each piece is a part. */
  #moveOut(): void {
    const blob = new Blob([...this.#own.values()]);
    let offset = 0;
    for (const [piece, { length }] of this.#own) {
      this.#elsewhere.set(piece, blob.slice(offset, offset + length));
      offset += length;
    }
    this.#own.clear();
    this.#ownBytes = 0;
  }

  #forget(): void {
    this.#begun.clear();
    this.#own.clear();
    this.#ownBytes = 0;
    this.#elsewhere.clear();
  }
}

function closed(): StoreError {
  return new StoreError("closed", "the store is closed");
}
