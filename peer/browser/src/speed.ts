/** The span over which a speed is taken, in ms: short enough to follow, long enough not to flicker. */
const span = 3_000;

/** How often a sample is kept, in ms. */
const interval = 250;

/** Measures bytes per second over the last few seconds. */
export class Speed {
  #total = 0;
  readonly #samples: { at: number; total: number }[] = []; // oldest first; bounded by span / interval

  /** The bytes so far. */
  get total(): number {
    return this.#total;
  }

  add(bytes: number, now: number): void {
    const last = this.#samples.at(-1);
    if (last === undefined || now - last.at >= interval) this.#samples.push({ at: now, total: this.#total });
    this.#total += bytes;
    this.#forget(now);
  }

  /** Bytes per second. */
  at(now: number): number {
    this.#forget(now);
    const first = this.#samples[0];
    // A first block says nothing about a speed: at least an interval is assumed.
    return first === undefined ? 0 : (1000 * (this.#total - first.total)) / Math.max(now - first.at, interval);
  }

  #forget(now: number): void {
    while (this.#samples[0] !== undefined && now - this.#samples[0].at > span) this.#samples.shift();
  }
}
