import type { Bytes } from "../bytes.ts";

/**
 * The most that is read at a time, in bytes, a power of two. Reading a Blob costs about a
 * millisecond however little is read, and sixteen times as much in blocks.
 */
export const chunkLength = 1 << 20;

/**
 * What is read at a time where nobody has read what lies before it, in bytes: it takes hardly longer than
 * one block. Whoever fetches pieces in random order would otherwise have everything read several times.
 */
const partLength = 256 << 10;

/** What is kept for the next block, in bytes: those of several peers at different places. */
const maxKept = 16 << 20;

/** Reads a content in parts and remembers the latest ones. */
export class Reader {
  readonly #chunk: number;
  readonly #part: number;
  readonly #total: number;
  readonly #load: (offset: number, length: number) => Promise<ArrayBuffer>;
  readonly #parts = new Map<number, Promise<Bytes>>(); // by place, latest use last; bounded by maxKept

  /** No load crosses a multiple of chunk, a power of two. */
  constructor(chunk: number, total: number, load: (offset: number, length: number) => Promise<ArrayBuffer>) {
    this.#chunk = chunk;
    this.#part = Math.min(chunk, partLength);
    this.#total = total;
    this.#load = load;
  }

  async read(offset: number, length: number): Promise<Bytes> {
    const first = Math.floor(offset / this.#part);
    const last = Math.floor((offset + Math.max(length, 1) - 1) / this.#part);
    const begin = offset - first * this.#part;
    if (first === last) return (await this.#get(first)).subarray(begin, begin + length);
    const parts: Bytes[] = [];
    for (let place = first; place <= last; place++) parts.push(await this.#get(place));
    const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      joined.set(part, at);
      at += part.length;
    }
    return joined.subarray(begin, begin + length);
  }

  #get(place: number): Promise<Bytes> {
    const known = this.#parts.get(place);
    if (known === undefined) return this.#fetch(place);
    this.#keep(place, known);
    return known;
  }

  #keep(place: number, part: Promise<Bytes>): void {
    this.#parts.delete(place);
    this.#parts.set(place, part);
    for (const oldest of this.#parts.keys()) {
      if (this.#parts.size * this.#part <= maxKept) break;
      this.#parts.delete(oldest);
    }
  }

  /** Reads a part, and with it the rest of its chunk if the part before was read. */
  #fetch(place: number): Promise<Bytes> {
    const inChunk = this.#chunk / this.#part;
    const parts = this.#parts.has(place - 1) ? inChunk - (place % inChunk) : 1;
    const loaded = this.#read(place, parts);
    for (let i = parts - 1; i >= 0; i--) {
      const part = loaded.then((data) => data.subarray(i * this.#part, (i + 1) * this.#part));
      part.catch(() => {}); // told to whoever reads it
      this.#keep(place + i, part);
    }
    return this.#parts.get(place) as Promise<Bytes>;
  }

  async #read(place: number, parts: number): Promise<Bytes> {
    const offset = place * this.#part;
    const length = Math.min(parts * this.#part, this.#total - offset);
    try {
      const data = new Uint8Array(await this.#load(offset, length));
      if (data.length !== length) throw new Error(`${data.length} bytes instead of ${length}`);
      return data;
    } catch (error) {
      for (let i = 0; i < parts; i++) this.#parts.delete(place + i); // so that the next one tries again
      throw error;
    }
  }
}
