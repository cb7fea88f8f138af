/**
 * Where the pieces of a content are kept. Two stores are here, both of Blobs, which the
 * browser may move from memory to disk; another one (OPFS) has only to be a Store.
 */

import type { Bytes } from "./bytes.ts";
import type { Geometry } from "./content.ts";

/** Keeps pieces that are verified already. Its methods may be called together. */
export interface Store {
  /** Keeps a whole piece, once. Rejects where it cannot be kept. The data is the store's own then. */
  write(piece: number, data: Bytes): Promise<void>;
  /**
   * A block of a piece that is kept; begin and length in bytes. The result must not be
   * changed. Rejects where it cannot be read (the file changed).
   */
  read(piece: number, begin: number, length: number): Promise<Bytes>;
  /** The whole content; every piece must be kept. */
  blob(): Blob;
}

/**
 * Bytes that are read at a time, a power of two. Reading a Blob costs about a
 * millisecond however little is read, and the blocks of a piece are mostly asked for
 * one after the other.
 */
const chunkLength = 1 << 20;

/** Chunks that are kept for the next block: those of several peers at different places. Bounds the memory to 16 MiB. */
const maxChunks = 16;

/** Reads a content in chunks and remembers the latest ones. */
class Reader {
  readonly #chunk: number;
  readonly #total: number;
  readonly #load: (offset: number, length: number) => Promise<ArrayBuffer>;
  readonly #chunks = new Map<number, Promise<Bytes>>(); // latest use last; bounded by maxChunks

  /** No load crosses a multiple of chunk, a power of two. */
  constructor(chunk: number, total: number, load: (offset: number, length: number) => Promise<ArrayBuffer>) {
    this.#chunk = chunk;
    this.#total = total;
    this.#load = load;
  }

  async read(offset: number, length: number): Promise<Bytes> {
    const first = Math.floor(offset / this.#chunk);
    const last = Math.floor((offset + Math.max(length, 1) - 1) / this.#chunk);
    const begin = offset - first * this.#chunk;
    if (first === last) return (await this.#get(first)).subarray(begin, begin + length);
    const parts: Bytes[] = [];
    for (let index = first; index <= last; index++) parts.push(await this.#get(index));
    const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      joined.set(part, at);
      at += part.length;
    }
    return joined.subarray(begin, begin + length);
  }

  #get(index: number): Promise<Bytes> {
    const known = this.#chunks.get(index);
    this.#chunks.delete(index);
    const chunk = known ?? this.#read(index);
    this.#chunks.set(index, chunk);
    for (const oldest of this.#chunks.keys()) {
      if (this.#chunks.size <= maxChunks) break;
      this.#chunks.delete(oldest);
    }
    return chunk;
  }

  async #read(index: number): Promise<Bytes> {
    const offset = index * this.#chunk;
    const length = Math.min(this.#chunk, this.#total - offset);
    try {
      const data = new Uint8Array(await this.#load(offset, length));
      if (data.length !== length) throw new Error(`${data.length} bytes instead of ${length}`);
      return data;
    } catch (error) {
      this.#chunks.delete(index); // so that the next one tries again
      throw error;
    }
  }
}

/** Keeps the pieces that come, each as a Blob. */
export class MemoryStore implements Store {
  readonly #geometry: Geometry;
  readonly #type: string;
  readonly #pieces: Blob[] = [];
  readonly #reader: Reader;

  /** type is the media type of the whole content. */
  constructor(geometry: Geometry, type: string) {
    this.#geometry = geometry;
    this.#type = type;
    const { pieceLength, totalLength } = geometry;
    this.#reader = new Reader(Math.min(chunkLength, pieceLength), totalLength, async (offset, length) => {
      const begin = offset % pieceLength;
      const piece = this.#pieces[Math.floor(offset / pieceLength)];
      if (piece === undefined) throw new Error("a piece that is not kept");
      return piece.slice(begin, begin + length).arrayBuffer();
    });
  }

  async write(piece: number, data: Bytes): Promise<void> {
    this.#pieces[piece] = new Blob([data]);
  }

  read(piece: number, begin: number, length: number): Promise<Bytes> {
    return this.#reader.read(this.#geometry.pieceOffset(piece) + begin, length);
  }

  blob(): Blob {
    return new Blob(this.#pieces, { type: this.#type });
  }
}

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

  async write(): Promise<void> {
    throw new Error("the whole content is there already");
  }

  read(piece: number, begin: number, length: number): Promise<Bytes> {
    return this.#reader.read(this.#geometry.pieceOffset(piece) + begin, length);
  }

  blob(): Blob {
    return this.#blob;
  }
}
