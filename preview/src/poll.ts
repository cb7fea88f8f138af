/** Asks again and again, one question at a time, and less often where nobody answers. */

import type { Cancel, Clock } from "../../peer/browser/src/clock.ts";

/** From one question to the next, in ms: often enough to look alive, seldom enough to cost nothing. */
export const interval = 2_000;

/** The most between two questions where nobody answers, in ms. */
const longest = 30_000;

/** How long an answer may take, in ms. */
const patience = 8_000;

/** What a Poll works with. */
export interface PollSeams<T> {
  readonly clock: Clock;
  /** Asks once. Null, or a promise that rejects, is no answer; signal ends it. */
  readonly ask: (signal: AbortSignal) => Promise<T | null>;
  readonly answered: (answer: T) => void;
  readonly unanswered: () => void;
}

/** Asks nothing before `resume`. */
export class Poll<T> {
  readonly #seams: PollSeams<T>;
  #running = false;
  #asking = false;
  /** When the latest question was asked. */
  #asked = -Infinity;
  /** Questions without an answer since the latest answer. */
  #failures = 0;
  /** Takes back the next question. */
  #cancel: Cancel = () => undefined;

  constructor(seams: PollSeams<T>) {
    this.#seams = seams;
  }

  /** Asks from now on: whoever comes back wants to know now, however long nobody answered. */
  resume(): void {
    if (this.#running) return;
    this.#running = true;
    this.#plan(this.#asked + interval);
  }

  /** Asks no more; the answer to the last question is still told. */
  pause(): void {
    this.#running = false;
    this.#cancel();
  }

  /** Asks at that time, or now where it has passed. */
  #plan(at: number): void {
    if (!this.#running || this.#asking) return;
    const { clock } = this.#seams;
    this.#cancel = clock.after(Math.max(0, at - clock.now()), () => void this.#ask());
  }

  async #ask(): Promise<void> {
    const { clock, ask, answered, unanswered } = this.#seams;
    this.#asking = true;
    this.#asked = clock.now();
    const abort = new AbortController();
    const cancel = clock.after(patience, () => abort.abort());
    const answer = await ask(abort.signal).catch(() => null);
    cancel();
    this.#asking = false;
    if (answer === null) {
      // From now on: a mediator that is slow because it is busy is left alone.
      this.#plan(clock.now() + Math.min(longest, interval * 2 ** this.#failures++));
      unanswered();
    } else {
      this.#failures = 0;
      this.#plan(this.#asked + interval);
      answered(answer);
    }
  }
}
