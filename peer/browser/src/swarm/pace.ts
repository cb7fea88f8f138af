import { LeafLength } from "../content.ts";

/**
 * What may be asked of a peer of which nothing is known, in bytes: more than a channel's slow
 * start takes in its first round trips, and little where eight leechers ask one slow seeder.
 */
export const firstBudget = 256 << 10;

/** Asked even of the slowest, in bytes: a few blocks, so that one is on its way while others are behind it. */
const leastBudget = 128 << 10;

/**
 * How many blocks a peer owes at least: few enough that those of a fast one are long, and so many
 * that those of a slow one come one by one, and can be taken back one by one.
 */
const blocksAtATime = 4;

/**
 * How much is asked for at a time, in one frame, as the time in which it comes, in ms. Of a fast
 * peer that is several blocks: with a frame for each, a transfer between Chromiums takes a tenth longer. More
 * than that only makes those of whom nothing is left to ask wait for the others at the end.
 */
const together = 20;

/**
 * Added to the round trip, in ms: a busy page or process answers only now and then, and what
 * it sends meanwhile has to have been asked for.
 */
export const jitter = 300;

/**
 * The most that may be asked for on account of jitter, in bytes. What is on its way beyond the
 * bandwidth-delay product only overruns the sockets' buffers: in Chromium, a window of up
 * to 1 MiB over a short path carries 35 MB/s from the first moment, and 2 MiB are lost and
 * repeated for seconds before it goes as fast.
 */
export const calm = 1 << 20;

/** How long a delivery rate counts at least, in ms; then it is forgotten in favour of what came later. */
const paceWindow = 5_000;

/**
 * How long a rate must last to count, in ms. An upload limit lets a tenth of a second's worth
 * through at once, and so does every buffer on the way: over less than this, a slow peer looks
 * fast, is asked for far too much, and holds up the end.
 */
const paceSpan = 200;

/**
 * How long a peer may owe a block in any case, in ms: a page in the background, a collector
 * or a lost packet stop a peer for a second or two.
 */
const leastPatience = 3_000;

/** How many times longer than usual a fast peer may take for a block. */
const patientBlocks = 20;

/**
 * When others may be asked, too, for what a peer owes, in ms, where nothing else is left to
 * ask for or somebody waits.
 */
export const stallAfter = 1_000;

/** The shortest time that counts as an answer's, in ms: a page's clock may stand still meanwhile. */
const leastTime = 0.001;

/**
 * How fast a peer delivers. The number of bytes to have asked for follows from it: its
 * bandwidth-delay product, twice so that the rate can be seen to grow (as in BBR, Cardwell et
 * al., ACM Queue 14(5), 2016), and what comes in during a jitter, where that is little. Times are in ms.
 */
export class Pace {
  #delivered = 0; // bytes, ever
  #rtt = 0; // the least time from a question to its answer; 0: none yet
  #since: number | null = null; // when this measurement began: with a block that came; null: it will with the next one
  #then = 0; // what was delivered then
  #best = 0; // bytes/s: the best rate of this window
  #before = 0; // and of the one before
  #window = Number.NEGATIVE_INFINITY; // when this window began

  /** Bytes of blocks, ever. */
  get delivered(): number {
    return this.#delivered;
  }

  /** The least time from a question to its answer; 0: none yet. */
  get rtt(): number {
    return this.#rtt;
  }

  /** Bytes/s; 0 where nothing came yet. */
  get rate(): number {
    return Math.max(this.#best, this.#before);
  }

  /** Notes how long an answer took. */
  answered(took: number): void {
    const rtt = Math.max(took, leastTime);
    if (this.#rtt === 0 || rtt < this.#rtt) this.#rtt = rtt;
  }

  /** Notes the bytes of a block that came. */
  came(bytes: number, now: number): void {
    this.#delivered += bytes;
    if (this.#since !== null) {
      const span = now - this.#since;
      if (span < paceSpan) return;
      this.#lasted((1000 * (this.#delivered - this.#then)) / span, now);
    }
    this.#since = now;
    this.#then = this.#delivered;
  }

  /** Notes a rate that lasted long enough to count. */
  #lasted(rate: number, now: number): void {
    if (now - this.#window >= paceWindow) {
      this.#before = this.#best;
      this.#best = 0;
      this.#window = now;
    }
    this.#best = Math.max(this.#best, rate);
  }

  /** Says that the peer owes nothing at the moment: time passes that is not its own. */
  idle(): void {
    this.#since = null;
    this.#then = this.#delivered;
  }

  /** How many bytes the peer may owe. */
  budget(most: number): number {
    if (this.rate === 0) return Math.min(firstBudget, most);
    const product = (2 * this.rate * this.#rtt) / 1000;
    const slack = (this.rate * jitter) / 1000;
    return Math.max(leastBudget, Math.min(most, Math.max(product, Math.min(calm, product + slack))));
  }

  /** What has to be missing in the budget, in bytes, before more is asked for. */
  portion(budget: number): number {
    return Math.min(budget / 2, (this.rate * together) / 1000);
  }

  /**
   * The longest block that the peer is to be asked for, in bytes: its part of the budget, and a
   * power of two, so that pieces are cut evenly.
   */
  block(most: number): number {
    const part = Math.max(LeafLength, this.budget(most) / blocksAtATime);
    return 2 ** Math.floor(Math.log2(part));
  }

  /** How long the peer may owe a block of that many bytes and send nothing. */
  patience(block: number, most: number): number {
    if (this.rate === 0) return most;
    return Math.min(most, Math.max(leastPatience, (1000 * patientBlocks * block) / this.rate));
  }

  /**
   * How long the peer needs for so many bytes, those that it owes included. One whose rate is
   * not known is taken to send in time what it is asked for at first.
   */
  takes(bytes: number): number {
    if (this.rate === 0) return (stallAfter * bytes) / firstBudget;
    return this.#rtt + (1000 * bytes) / this.rate;
  }
}
