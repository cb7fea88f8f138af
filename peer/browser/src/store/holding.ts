import { type Bytes, equal, utf8 } from "../bytes.ts";
import { encodeInfo, type Geometry, geometryOf, type Hash, hashLeaves, type Info, pieceHash } from "../content.ts";
import { Bits } from "../wire.ts";
import { StoreError, storeError } from "./error.ts";
import { readAt, writeAt, writeFile } from "./files.ts";
import type { Complete, Partial, Vault } from "./vault.ts";

/** Bytes of a piece that are read and hashed at a time where pieces are checked, a power of two. */
const checkLength = 1 << 20;

/** Pieces that are checked at a time: one is read while others are hashed. Bounds the memory to 3 MiB. */
const piecesAtATime = 3;

/**
 * One content on the disk, in the worker; its methods are those of Store, but for
 * settle, which can fail here and takes several pieces.
 */
export class Holding {
  readonly #vault: Vault;
  readonly #geometry: Geometry;
  #place: Partial | Complete;
  #bits: Bits; // settled
  #finishing: Promise<Complete> | null = null;
  #closed = false;
  readonly #working = new Set<Promise<unknown>>(); // close waits for them

  /** The place is the holding's own. */
  constructor(vault: Vault, place: Partial | Complete) {
    this.#vault = vault;
    this.#place = place;
    this.#bits = new Bits(place.bits.pieces); // until check
    this.#geometry = geometryOf(place.info);
  }

  /** With the piece hashes of an earlier visit, where there were any. */
  get info(): Info {
    return this.#place.info;
  }

  check(info: Info, progress: (done: number, total: number) => void): Promise<Bits> {
    return this.#work("what is on the disk cannot be checked", () => this.#check(info, progress));
  }

  keep(piece: number, begin: number, data: Bytes): Promise<readonly Hash[]> {
    return this.#work("a block cannot be kept on the disk", () => {
      const place = this.#place;
      // At once, in the order of the calls; the hashes come when they come.
      if (place.kind === "partial" && !this.#bits.has(piece)) writeAt(place.data, data, this.#geometry.pieceOffset(piece) + begin);
      return hashLeaves(data);
    });
  }

  settle(pieces: readonly number[]): Promise<void> {
    return this.#work("pieces cannot be remembered", async () => {
      for (const piece of pieces) this.#bits.add(piece);
      this.#remember();
    });
  }

  read(piece: number, begin: number, length: number): Promise<Bytes> {
    return this.#work("a block cannot be read from the disk", async () => {
      if (!this.#bits.has(piece)) throw new StoreError("broken", `piece ${piece} is not kept`);
      return this.#load(this.#geometry.pieceOffset(piece) + begin, length);
    });
  }

  complete(): Promise<File> {
    return this.#work("the content cannot be finished on the disk", async () => {
      if (!this.#bits.all) throw new StoreError("broken", `${this.#bits.count} of ${this.#bits.pieces} pieces are kept`);
      if (this.#place.kind === "partial") {
        this.#finishing ??= this.#vault.finish(this.#place);
        this.#place = await this.#finishing;
      }
      return this.#place.file;
    });
  }

  async close(discard: boolean): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled(this.#working);
    const place = this.#place;
    try {
      if (place.kind === "partial") this.#vault.shut(place);
    } finally {
      await (discard ? this.#vault.discard(place) : place.lock.release());
    }
  }

  async #check(info: Info, progress: (done: number, total: number) => void): Promise<Bits> {
    const claimed = this.#place.bits;
    const right = new Bits(claimed.pieces);
    let total = 0;
    for (let piece = 0; piece < claimed.pieces; piece++) if (claimed.has(piece)) total += this.#geometry.pieceSize(piece);
    let done = 0;
    let next = 0;
    const checkOn = async (): Promise<void> => {
      while (next < claimed.pieces) {
        const piece = next++;
        if (!claimed.has(piece)) continue;
        if (equal(await this.#hash(piece), pieceHash(info, piece))) right.add(piece);
        done += this.#geometry.pieceSize(piece);
        progress(done, total);
      }
    };
    await Promise.all(Array.from({ length: piecesAtATime }, checkOn));
    if (this.#place.kind === "complete" && !right.all) {
      // It has to be written to again, if need be in another folder.
      const { lock } = this.#place;
      await lock.release();
      this.#place = await this.#vault.repair(info);
      return this.#check(info, progress);
    }
    this.#bits = right;
    this.#remember();
    if (this.#place.kind === "partial") await writeFile(this.#place.folder, "info.json", utf8(encodeInfo(info)));
    const answer = new Bits(right.pieces);
    for (let piece = 0; piece < right.pieces; piece++) if (right.has(piece)) answer.add(piece);
    return answer;
  }

  /** The hash of the piece that is on the disk; an empty one where it cannot be read whole. */
  async #hash(piece: number): Promise<Hash> {
    const end = this.#geometry.pieceSize(piece);
    const offset = this.#geometry.pieceOffset(piece);
    const leaves: Hash[] = [];
    let begin = 0;
    do {
      this.#mustBeOpen();
      const length = Math.min(checkLength, end - begin);
      const data = await this.#load(offset + begin, length).catch(() => null);
      if (data === null) return new Uint8Array();
      leaves.push(...(await hashLeaves(data)));
      begin += length;
    } while (begin < end);
    return this.#geometry.pieceRoot(leaves);
  }

  async #load(offset: number, length: number): Promise<Bytes> {
    const place = await (this.#finishing ?? this.#place); // its files close as it finishes
    if (place.kind === "partial") return readAt(place.data, offset, length);
    return new Uint8Array(await place.file.slice(offset, offset + length).arrayBuffer());
  }

  /** Writes which pieces are settled: 8 KiB at most. */
  #remember(): void {
    if (this.#place.kind === "partial") writeAt(this.#place.pieces, this.#bits.bytes(), 0);
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new StoreError("closed", "the store is closed");
  }

  /** Does something that close waits for. */
  async #work<T>(doing: string, work: () => Promise<T>): Promise<T> {
    this.#mustBeOpen();
    const working = (async () => work())();
    this.#working.add(working);
    try {
      return await working;
    } catch (error) {
      throw storeError(error, doing);
    } finally {
      this.#working.delete(working);
    }
  }
}
