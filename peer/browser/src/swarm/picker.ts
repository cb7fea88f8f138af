import type { Bits } from "../wire.ts";

const notOffered = -1;

/**
 * Pieces that lie beside each other are fetched in runs of so many bytes, where nothing speaks
 * for another order: whoever sends them reads them at once, and reading a file in a page costs by the call.
 */
const runBytes = 1 << 20;

/** At least so many runs there are, so that leechers who start together have something to exchange. */
const leastRuns = 32;

/**
 * Offers the pieces that are missing and that nobody fetches, rarest first. They stand in one
 * list, ordered by availability and at random, in runs, within the same, so that whatever changes is an
 * exchange of a few places: no pass over all pieces. Its swarm owns it.
 */
export class Picker {
  readonly #random: () => number;
  readonly #order: Int32Array; // the pieces that are offered: the first #length
  #length = 0;
  readonly #place: Int32Array; // per piece: where it stands in #order; notOffered
  readonly #count: Int32Array; // per piece: how many peers have it (not counting those that have everything)
  readonly #ends: number[]; // #ends[n]: where the pieces in #order with at most n peers end

  /** It offers every piece that is not in have; pieceLength in bytes. */
  constructor(have: Bits, pieceLength: number, random: () => number) {
    this.#random = random;
    this.#order = new Int32Array(have.pieces);
    this.#place = new Int32Array(have.pieces).fill(notOffered);
    this.#count = new Int32Array(have.pieces);
    const run = Math.max(1, Math.floor(Math.min(runBytes / pieceLength, have.pieces / leastRuns)));
    const runs = Array.from({ length: Math.ceil(have.pieces / run) }, (_, i) => i * run);
    for (let i = runs.length - 1; i > 0; i--) {
      const j = this.#below(i + 1);
      [runs[i], runs[j]] = [runs[j] as number, runs[i] as number]; // a shuffle
    }
    for (const first of runs) {
      // The last ones first: whatever is taken, the last of its rarity takes its place.
      for (let piece = Math.min(first + run, have.pieces) - 1; piece >= first; piece--) {
        if (!have.has(piece)) this.#put(piece, this.#length++);
      }
    }
    this.#ends = [this.#length];
  }

  get empty(): boolean {
    return this.#length === 0;
  }

  /** How many are offered. */
  get length(): number {
    return this.#length;
  }

  offers(piece: number): boolean {
    return this.#place[piece] !== notOffered;
  }

  /** How many of the set are offered. */
  among(bits: Bits): number {
    let among = 0;
    for (let i = 0; i < this.#length; i++) if (bits.has(this.#at(i))) among++;
    return among;
  }

  /** Notes that one more peer has the piece. */
  more(piece: number): void {
    const n = this.#peers(piece);
    this.#count[piece] = n + 1;
    if (!this.offers(piece)) return;
    this.#grow(n + 1);
    this.#swap(this.#place[piece] as number, this.#end(n, -1));
    this.#mix(piece);
  }

  /** Notes that one peer less has it. */
  fewer(piece: number): void {
    const n = this.#peers(piece);
    this.#count[piece] = n - 1;
    if (!this.offers(piece)) return;
    this.#swap(this.#place[piece] as number, this.#begin(n));
    this.#end(n - 1, 1);
    this.#mix(piece);
  }

  /** Takes a piece out of the offer: it is fetched, or there. */
  remove(piece: number): void {
    if (!this.offers(piece)) return;
    for (let n = this.#peers(piece); n < this.#ends.length; n++) {
      this.#swap(this.#place[piece] as number, this.#end(n, -1));
    }
    this.#length--;
    this.#place[piece] = notOffered;
  }

  /** Offers a piece again. */
  add(piece: number): void {
    if (this.offers(piece)) return;
    const peers = this.#peers(piece);
    this.#grow(peers);
    this.#put(piece, this.#length++);
    for (let n = this.#ends.length - 1; n >= peers; n--) {
      this.#end(n, 1);
      if (n > peers) this.#swap(this.#place[piece] as number, this.#begin(n));
    }
    this.#mix(piece);
  }

  /** The first piece in the order that may be taken, or -1. */
  rarest(may: (piece: number) => boolean): number {
    for (let i = 0; i < this.#length; i++) if (may(this.#at(i))) return this.#at(i);
    return -1;
  }

  /** A piece that may be taken, each about as likely, or -1. */
  any(may: (piece: number) => boolean): number {
    const start = this.#below(this.#length);
    for (let i = 0; i < this.#length; i++) {
      const piece = this.#at((start + i) % this.#length);
      if (may(piece)) return piece;
    }
    return -1;
  }

  #at(place: number): number {
    return this.#order[place] as number;
  }

  #peers(piece: number): number {
    return this.#count[piece] as number;
  }

  /** Moves the end of the pieces with at most n peers, and returns it. */
  #end(n: number, by: number): number {
    const end = (this.#ends[n] as number) + by;
    this.#ends[n] = end;
    return end;
  }

  #begin(n: number): number {
    return n === 0 ? 0 : (this.#ends[n - 1] as number);
  }

  /** Makes room for pieces with n peers. */
  #grow(n: number): void {
    while (this.#ends.length <= n) this.#ends.push(this.#length);
  }

  #put(piece: number, place: number): void {
    this.#order[place] = piece;
    this.#place[piece] = place;
  }

  #swap(i: number, j: number): void {
    const [a, b] = [this.#at(i), this.#at(j)];
    this.#put(a, j);
    this.#put(b, i);
  }

  /** Exchanges a piece with any that has as many peers: which of them comes first is chance. */
  #mix(piece: number): void {
    const n = this.#peers(piece);
    const begin = this.#begin(n);
    this.#swap(this.#place[piece] as number, begin + this.#below((this.#ends[n] as number) - begin));
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n);
  }
}
