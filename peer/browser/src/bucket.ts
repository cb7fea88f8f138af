import { MaxBlock } from "./wire.ts";

/**
 * How long what was not used may be made up for, in ms: the timers of a hidden page ring
 * once a second.
 */
const span = 1_000;

/**
 * A token bucket: holds something to so many bytes per second. It begins with a block's
 * worth, so that a limit is never exceeded in the long run. Times are ms of one clock.
 */
export class Bucket {
  readonly #rate: number; // bytes/ms
  readonly #most: number; // bytes
  #bytes = MaxBlock; // that may go now; below 0: that went ahead
  #at = Number.NEGATIVE_INFINITY; // when #bytes was right

  /** bytesPerSecond must be positive. */
  constructor(bytesPerSecond: number) {
    this.#rate = bytesPerSecond / 1000;
    this.#most = Math.max(MaxBlock, this.#rate * span);
  }

  /** Takes so many bytes, at most a block, and returns 0; or takes none, and returns after how many ms they may be there. */
  take(bytes: number, now: number): number {
    this.#fill(now);
    const lacking = bytes - this.#bytes;
    if (lacking >= 1) return lacking / this.#rate; // parts of a byte are only rounding
    this.#bytes -= bytes;
    return 0;
  }

  /** Takes so many bytes in any case, and returns after how many ms they are there. */
  reserve(bytes: number, now: number): number {
    this.#fill(now);
    this.#bytes -= bytes;
    return Math.max(0, -this.#bytes / this.#rate);
  }

  #fill(now: number): void {
    if (this.#at !== Number.NEGATIVE_INFINITY) this.#bytes = Math.min(this.#most, this.#bytes + (now - this.#at) * this.#rate);
    this.#at = now;
  }
}

/** The bucket of a limit in bytes/s; null for 0, which is none. */
export function bucketOf(bytesPerSecond: number): Bucket | null {
  return bytesPerSecond > 0 ? new Bucket(bytesPerSecond) : null;
}
