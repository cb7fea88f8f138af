import { geometryOf, type Info } from "../content.ts";
import type { Disk } from "./disk.ts";
import { StoreError } from "./error.ts";
import { MemoryStore } from "./memory.ts";
import type { Store } from "./store.ts";

/**
 * Where a content is kept: "memory", "disk", or "auto": memory below {@link MemoryLimit}, else on the disk
 * where there is one, else in memory.
 */
export type Storage = "auto" | "memory" | "disk";

/**
 * Contents of that many bytes, and more, go to the disk: less is no burden for any device, and
 * not worth a worker and another visit's work.
 */
export const MemoryLimit = 64 << 20;

/** An opened store. */
export interface Opened {
  readonly store: Store;
  /** What was asked for, with the piece hashes where an earlier visit knew them. */
  readonly info: Info;
  /** Why a large content is in memory, in a sentence for people; null where it is not, or was to be. */
  readonly why: string | null;
}

/**
 * Opens the store of a content that is to be fetched. Rejects with a StoreError where the disk was asked for and
 * there is none, and where it has too little room for a content that is too large for memory.
 */
export async function openStore(info: Info, storage: Storage, disk: Disk): Promise<Opened> {
  if (storage === "memory" || (storage === "auto" && info.totalLength < MemoryLimit)) return inMemory(info, null);
  try {
    return { ...(await disk.open(info)), why: null };
  } catch (error) {
    const { reason, message } = error as StoreError;
    if (storage === "disk" || reason === "quota") throw error;
    return inMemory(info, `the content is kept in memory: ${message}`);
  }
}

function inMemory(info: Info, why: string | null): Opened {
  return { store: new MemoryStore(geometryOf(info), info.contentType), info, why };
}
