import type { Cancel, Clock } from "../src/clock.ts";

/** Time that passes only when a test says so. */
export class FakeClock implements Clock {
  #now = 0;
  #timers: { at: number; fn: () => void }[] = []; // in the order in which they were set

  now(): number {
    return this.#now;
  }

  after(ms: number, fn: () => void): Cancel {
    const timer = { at: this.#now + ms, fn };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** How many timers wait. */
  get waiting(): number {
    return this.#timers.length;
  }

  /** Time passes without anything of what is due: that happens late, when it next passes. */
  sleep(ms: number): void {
    this.#now += ms;
  }

  /**
   * Lets time pass: what is due happens in order, and what promises do in between. Ends
   * early, and says true, where done does.
   */
  async pass(ms: number, done: () => boolean = () => false): Promise<boolean> {
    const end = this.#now + ms;
    for (;;) {
      await settled();
      if (done()) return true;
      let next: { at: number; fn: () => void } | undefined;
      for (const timer of this.#timers) {
        if (timer.at <= end && (next === undefined || timer.at < next.at)) next = timer;
      }
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#now = Math.max(this.#now, next.at);
      next.fn();
    }
    this.#now = end;
    return done();
  }
}

/** Resolves when every promise that can go on has gone on. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * A Blob whose reads need no thread, only promises, so that time and work stay in step.
 */
class PromptBlob {
  readonly type: string;
  readonly #bytes: Uint8Array<ArrayBuffer>;

  constructor(parts: readonly unknown[] = [], options: { type?: string } = {}) {
    this.type = options.type ?? "";
    this.#bytes = new Uint8Array(
      Buffer.concat(parts.map((part) => (part instanceof PromptBlob ? part.#bytes : Buffer.from(part as Uint8Array)))),
    );
  }

  get size(): number {
    return this.#bytes.length;
  }

  slice(begin = 0, end = this.size, type = ""): PromptBlob {
    return new PromptBlob([this.#bytes.subarray(begin, end)], { type });
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    return this.#bytes.slice().buffer;
  }
}

/** Takes every thread out of the program: Blobs and hashes work by promises alone. For a whole test file. */
export function withoutThreads(): void {
  Object.defineProperty(globalThis, "Blob", { value: PromptBlob, configurable: true });
  Object.defineProperty(Crypto.prototype, "subtle", { get: () => undefined, configurable: true });
}
