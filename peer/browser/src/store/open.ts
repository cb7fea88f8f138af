import { geometryOf, type Info } from "../content.ts";
import type { MemoryBudget } from "./budget.ts";
import type { Disk } from "./disk.ts";
import type { StoreError } from "./error.ts";
import { MemoryStore } from "./memory.ts";
import type { Store } from "./store.ts";

/**
 * Where a content is kept: "memory", "disk", or "auto": on the disk where an earlier visit left some of it, else in memory
 * where it fits the client's {@link MemoryBudget}, beside the others that are kept there, else on the disk where there is
 * one, else in memory.
 */
export type Storage = "auto" | "memory" | "disk";

/** An opened store. */
export interface Opened {
  readonly store: Store;
  /** What was asked for, with the piece hashes where an earlier visit knew them. */
  readonly info: Info;
  /** Whether nothing of it can be there: it need not be looked at. */
  readonly fresh: boolean;
  /** Why a content is in memory that does not fit the budget, in a sentence for people; null where it fits, or was to be there. */
  readonly why: string | null;
}

/**
 * Opens the store of a content that is to be fetched. Rejects with a StoreError where the disk was asked for and
 * there is none, and where it has too little room for a content that is too large for memory.
 *
 * Whatever is in memory counts, also where memory was asked for and where there is no disk, which no
 * budget bounds. It counts until it is closed, or complete: it is a Blob then, and the browser keeps it where it likes.
 */
export async function openStore(info: Info, storage: Storage, disk: Disk, budget: MemoryBudget): Promise<Opened> {
  const begun = storage === "auto" && (await disk.keeps(info.fullHash));
  const fits = (): boolean => storage === "auto" && budget.fits(info.totalLength); // now: others may have come meanwhile
  if (storage === "memory" || (!begun && fits())) return inMemory(info, budget, null);
  try {
    return { ...(await disk.open(info)), fresh: false, why: null };
  } catch (error) {
    if (fits()) return inMemory(info, budget, null); // what an earlier visit left is lost, and fetched anew
    const { reason, message } = error as StoreError;
    if (storage === "disk" || reason === "quota") throw error;
    return inMemory(info, budget, `the content is kept in memory: ${message}`);
  }
}

function inMemory(info: Info, budget: MemoryBudget, why: string | null): Opened {
  return { store: new CountedStore(info, budget.take(info.totalLength)), info, fresh: true, why };
}

/** A content in memory that gives back what it took of the budget. */
class CountedStore extends MemoryStore {
  readonly #giveBack: () => void;

  constructor(info: Info, giveBack: () => void) {
    super(geometryOf(info), info.contentType);
    this.#giveBack = giveBack;
  }

  override async complete(): Promise<Blob> {
    const whole = await super.complete();
    this.#giveBack();
    return whole;
  }

  override async close(): Promise<void> {
    await super.close();
    this.#giveBack();
  }
}
