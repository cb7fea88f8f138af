/** Reads a content while it is fetched, as Go's peer/client/reader.go. */

import type { Bytes } from "./bytes.ts";
import type { Geometry } from "./content.ts";
import type { Range } from "./swarm.ts";

/**
 * How much behind a reader's place is fetched before everything else, in bytes: half a
 * minute of a film, and enough for all peers to be asked for something.
 */
const readAhead = 8 << 20;

/** Bounds the same, in pieces; what is fetched next is looked for among them block by block. */
const maxAhead = 128;

/** The most that a stream hands out at a time, in bytes; it holds one chunk more. */
const chunk = 256 << 10;

/** What readers need of a content. */
export interface Readable {
  /** Resolves once it is known how the content is cut; rejects where that never is. */
  cut(): Promise<Geometry>;
  /** Whether the piece can be read. Throws what ended the content. */
  has(piece: number): boolean;
  /** A part of a piece that is there. */
  read(piece: number, begin: number, length: number): Promise<Bytes>;
  /** What readers wait for changed. */
  urged(): void;
}

/** Who reads. */
interface Reader {
  over: boolean; // it was cancelled, or has everything
}

/** The readers of one content. */
export class Readers {
  readonly #content: Readable;
  readonly #ahead = new Map<Reader, Range>(); // per reader: what it waits for
  readonly #waiting = new Map<number, (() => void)[]>(); // per piece: who waits for it; bounded by the readers

  constructor(content: Readable) {
    this.#content = content;
  }

  /** What the readers wait for. Several take turns: the last one to go on comes first. */
  get ranges(): readonly Range[] {
    return [...this.#ahead.values()].reverse();
  }

  /**
   * The bytes from begin up to end. It waits for what is not there yet, and has it fetched
   * before everything else; what it hands out is verified. Nothing is read before somebody asks. It errors
   * with what ended the content.
   */
  stream(begin: number, end: number): ReadableStream<Uint8Array> {
    const reader: Reader = { over: false };
    let at = begin;
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          try {
            const data = at < end ? await this.#some(reader, at, end) : null;
            if (reader.over) return;
            if (data !== null) {
              at += data.length;
              controller.enqueue(data);
            }
            if (at < end) return;
            this.#leave(reader);
            controller.close();
          } catch (error) {
            this.#leave(reader);
            throw error;
          }
        },
        cancel: () => {
          this.#leave(reader);
          this.wakeAll();
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** The piece is there. */
  wake(piece: number): void {
    const waiting = this.#waiting.get(piece) ?? [];
    this.#waiting.delete(piece);
    for (const go of waiting) go();
  }

  /** Lets every reader look again. */
  wakeAll(): void {
    for (const piece of [...this.#waiting.keys()]) this.wake(piece);
  }

  /** What is there at the offset, up to the end of its piece, after waiting for it; null once the reader is over. */
  async #some(reader: Reader, offset: number, end: number): Promise<Bytes | null> {
    const geometry = await this.#content.cut();
    if (reader.over) return null;
    const piece = Math.floor(offset / geometry.pieceLength);
    this.#look(reader, piece, Math.ceil(end / geometry.pieceLength), geometry);
    while (!this.#content.has(piece)) {
      await this.#come(piece);
      if (reader.over) return null;
    }
    const begin = offset - geometry.pieceOffset(piece);
    const length = Math.min(chunk, end - offset, geometry.pieceSize(piece) - begin);
    // What the store gives is its own, and shared; a page may do with its chunk what it likes.
    return (await this.#content.read(piece, begin, length)).slice();
  }

  /** Notes where a reader is, and so what it waits for. */
  #look(reader: Reader, piece: number, end: number, geometry: Geometry): void {
    if (this.#ahead.get(reader)?.first === piece) return;
    const ahead = Math.max(2, Math.min(Math.floor(readAhead / geometry.pieceLength), maxAhead));
    this.#ahead.delete(reader);
    this.#ahead.set(reader, { first: piece, end: Math.min(piece + ahead, end) });
    this.#content.urged();
  }

  #come(piece: number): Promise<void> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(piece) ?? [];
      this.#waiting.set(piece, waiting);
      waiting.push(resolve);
    });
  }

  #leave(reader: Reader): void {
    reader.over = true;
    if (this.#ahead.delete(reader)) this.#content.urged();
  }
}
