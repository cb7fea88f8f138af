/** Time, handed in so that tests own it. */

/** Ends what `after` began; harmless when it is over. */
export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  /** Calls fn once, after so many milliseconds. */
  after(ms: number, fn: () => void): Cancel;
}

/** The page's own clock: performance.now(). */
export const pageClock: Clock = {
  now: () => performance.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
};
