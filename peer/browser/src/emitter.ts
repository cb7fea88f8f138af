import type { Off } from "./api.ts";

/** Tells events to whoever listens, in the order in which they began to. */
export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(value: never) => void>>();
  readonly #failed: (error: unknown) => void;

  /** `failed` hears what a listener throws; the other listeners are told all the same. */
  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  on<E extends keyof Events>(event: E, fn: (value: Events[E]) => void): Off {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners);
    const own = (value: Events[E]): void => fn(value); // the same function may listen twice
    listeners.add(own);
    return () => void listeners.delete(own);
  }

  emit<E extends keyof Events>(event: E, value: Events[E]): void {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        (listener as (value: Events[E]) => void)(value);
      } catch (error) {
        this.#failed(error);
      }
    }
  }

  /** Whether anybody listens. */
  heard(event: keyof Events): boolean {
    return (this.#listeners.get(event)?.size ?? 0) > 0;
  }
}
