import type { Bytes } from "../bytes.ts";

/** Reads a Blob from its beginning to its end. One read at a time. */
export interface BlobReader {
  /**
   * The next bytes: `length` of them, fewer only where the Blob ends. They may lie in the spare
   * buffer, of at least that length, which is the reader's own from then on. Rejects with what the Blob throws.
   */
  read(length: number, spare: ArrayBuffer | null): Promise<Bytes>;
  /** Gives up what has not been read. */
  close(): void;
}

/**
 * Opens a Blob. As a stream of bytes it can be read into the same few buffers again and again, which takes a third
 * off the whole time of a sum: slices of it need new memory of the system each time.
 */
export function readBlob(blob: Blob): BlobReader {
  try {
    return new StreamReader(blob.stream().getReader({ mode: "byob" }));
  } catch {
    return new SliceReader(blob); // not all browsers can: Safari learnt it in version 26
  }
}

/**
 * The stream readers in use. Chromium (156) forgets that a read is under way: where only the waiting for
 * it leads to a reader, it is collected as garbage, and the read never ends.
 */
const inUse = new Set<StreamReader>();

/** A reader as the standard has it today, which the compiler's library does not know yet. */
interface ByteReader {
  read(view: Bytes, options: { min: number }): Promise<{ done: boolean; value: Bytes | undefined }>;
  cancel(): Promise<void>;
}

class StreamReader implements BlobReader {
  readonly #reader: ByteReader;

  constructor(reader: ReadableStreamBYOBReader) {
    this.#reader = reader as unknown as ByteReader;
    inUse.add(this);
  }

  async read(length: number, spare: ArrayBuffer | null): Promise<Bytes> {
    let buffer = spare ?? new ArrayBuffer(length);
    let have = 0;
    while (have < length) {
      const missing = length - have;
      // Not all know min, and give what there is.
      const { done, value } = await this.#reader.read(new Uint8Array(buffer, have, missing), { min: missing });
      if (value === undefined) return new Uint8Array(0); // closed meanwhile
      buffer = value.buffer;
      have += value.length;
      if (done) break;
    }
    return new Uint8Array(buffer, 0, have);
  }

  close(): void {
    inUse.delete(this);
    this.#reader.cancel().catch(() => {}); // it had failed already: told by the read
  }
}

class SliceReader implements BlobReader {
  readonly #blob: Blob;
  #next = 0;

  constructor(blob: Blob) {
    this.#blob = blob;
  }

  async read(length: number): Promise<Bytes> {
    const begin = this.#next;
    this.#next += length;
    return new Uint8Array(await this.#blob.slice(begin, begin + length).arrayBuffer());
  }

  close(): void {}
}
