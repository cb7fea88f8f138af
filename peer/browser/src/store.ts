/**
 * Where the pieces of a content are kept: in memory, as long as the client's contents there fit
 * a budget and the disk has nothing of it, else on the disk, in the origin private file system (OPFS), from where an interrupted
 * download goes on after a reload. openStore chooses.
 *
 * The files are written by a worker (store/worker.ts), the only place where browsers
 * allow it without a copy of the whole file: one for all contents of a page.
 */

export { BlobStore } from "./store/blob.ts";
export { MemoryBudget, memoryFor } from "./store/budget.ts";
export { Disk, type DiskSeams, DiskStore, type WorkerLike, pageDisk } from "./store/disk.ts";
export { StoreError, type StoreReason } from "./store/error.ts";
export { MemoryStore } from "./store/memory.ts";
export { type Opened, type Storage, openStore } from "./store/open.ts";
export type { Store } from "./store/store.ts";
