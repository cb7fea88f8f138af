import type { Bytes } from "../bytes.ts";
import { type Geometry, type Hash, hashLeaves } from "../content.ts";
import { Bits } from "../wire.ts";
import { StoreError } from "./error.ts";
import { chunkLength, Reader } from "./reader.ts";
import type { Store } from "./store.ts";

/**
 * Keeps the pieces that come, each as a Blob, which the browser keeps outside of the
 * page's heap. A piece that is not settled yet is a buffer of its length: as many of them as
 * pieces are begun at a time.
 */
export class MemoryStore implements Store {
  readonly #geometry: Geometry;
  readonly #type: string;
  readonly #begun = new Map<number, Bytes>();
  readonly #pieces: Blob[] = []; // settled; by piece
  readonly #reader: Reader;
  #closed = false;

  /** type is the media type of the whole content. */
  constructor(geometry: Geometry, type: string) {
    this.#geometry = geometry;
    this.#type = type;
    const { pieceLength, totalLength } = geometry;
    this.#reader = new Reader(Math.min(chunkLength, pieceLength), totalLength, async (offset, length) => {
      const begin = offset % pieceLength;
      return this.#piece(Math.floor(offset / pieceLength)).slice(begin, begin + length).arrayBuffer();
    });
  }

  async check(): Promise<Bits> {
    return new Bits(this.#geometry.pieces);
  }

  async keep(piece: number, begin: number, data: Bytes): Promise<readonly Hash[]> {
    if (this.#closed) throw closed();
    if (this.#pieces[piece] === undefined) {
      let buffer = this.#begun.get(piece);
      if (buffer === undefined) {
        buffer = new Uint8Array(this.#geometry.pieceSize(piece));
        this.#begun.set(piece, buffer);
      }
      buffer.set(data, begin);
    }
    return hashLeaves(data);
  }

  settle(piece: number): void {
    const buffer = this.#begun.get(piece);
    if (buffer === undefined) return;
    this.#pieces[piece] = new Blob([buffer]);
    this.#begun.delete(piece);
  }

  async read(piece: number, begin: number, length: number): Promise<Bytes> {
    this.#piece(piece);
    return this.#reader.read(this.#geometry.pieceOffset(piece) + begin, length);
  }

  async complete(): Promise<Blob> {
    for (let piece = 0; piece < this.#geometry.pieces; piece++) this.#piece(piece);
    return this.blob();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#begun.clear();
    this.#pieces.length = 0; // a Blob that was made of them lives on
  }

  async write(piece: number, data: Bytes): Promise<void> {
    this.#pieces[piece] = new Blob([data]);
  }

  blob(): Blob {
    return new Blob(this.#pieces, { type: this.#type });
  }

  #piece(piece: number): Blob {
    if (this.#closed) throw closed();
    const blob = this.#pieces[piece];
    if (blob === undefined) throw new StoreError("broken", `piece ${piece} is not kept`);
    return blob;
  }
}

function closed(): StoreError {
  return new StoreError("closed", "the store is closed");
}
