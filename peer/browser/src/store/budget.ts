const mib = 1 << 20;

/** What part of the device's memory is for contents: a page is one of many programs, and its own scripts need some, too. */
const share = 1 / 64;

/**
 * The most bytes, whatever the device has. Up to there memory is worth it: 100 MiB from one
 * Chromium to another come a fifth faster into memory than onto the disk, whose cache needs as much new memory.
 */
const most = 128 * mib;

/** Bytes where the browser does not say what the device has: what one of 4 GiB, a common telephone, gives. */
const unsaid = 64 * mib;

/** How much a page of a device with so many GiB may keep in memory (navigator.deviceMemory; null: the browser does not say), in bytes. */
export function memoryFor(deviceMemory: number | null): number {
  return deviceMemory === null ? unsaid : Math.min(most, deviceMemory * 1024 * mib * share);
}

/** How many bytes the contents of a client keep in memory, all together. Counts lengths, and holds nothing itself. */
export class MemoryBudget {
  readonly #limit: number;
  #taken = 0; // may be above the limit, see take

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Whether so many bytes fit beside those that are taken. */
  fits(length: number): boolean {
    return this.#taken + length <= this.#limit;
  }

  /**
   * Takes so many bytes, until what comes back is called; it may be called again. They need
   * not fit: what has to be in memory counts, so that nothing else goes there.
   */
  take(length: number): () => void {
    this.#taken += length;
    let left = length;
    return () => {
      this.#taken -= left;
      left = 0;
    };
  }
}
