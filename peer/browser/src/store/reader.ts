import type { Bytes } from "../bytes.ts";

/**
 * Bytes that are read at a time, a power of two. Reading a Blob costs about a
 * millisecond however little is read, and the blocks of a piece are mostly asked for
 * one after the other.
 */
export const chunkLength = 1 << 20;

/** Chunks that are kept for the next block: those of several peers at different places. Bounds the memory to 16 MiB. */
const maxChunks = 16;

/** Reads a content in chunks and remembers the latest ones. */
export class Reader {
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
