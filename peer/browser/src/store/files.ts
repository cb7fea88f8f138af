/**
 * What the worker uses of the browser, as far as it uses it, so that tests can stand in:
 * the origin private file system (https://fs.spec.whatwg.org) and Web Locks
 * (https://w3c.github.io/web-locks). The browser's own objects have these shapes.
 */

import type { Bytes } from "../bytes.ts";
import type { Cancel, Clock } from "../clock.ts";

/** The folder of all contents, in that of the origin. */
export const home = "p2pcdn";

/** A FileSystemSyncAccessHandle: exclusive, and in a worker alone. */
export interface SyncFile {
  read(buffer: Bytes, options: { at: number }): number;
  write(buffer: Bytes, options: { at: number }): number;
  truncate(size: number): void;
  close(): void;
}

/** A FileSystemFileHandle. */
export interface FileEntry {
  getFile(): Promise<File>;
  createSyncAccessHandle(): Promise<SyncFile>;
}

/** A FileSystemDirectoryHandle. What is not there rejects with a "NotFoundError". */
export interface Folder {
  getDirectoryHandle(name: string, options?: { create?: boolean }): Promise<Folder>;
  getFileHandle(name: string, options?: { create?: boolean }): Promise<FileEntry>;
  removeEntry(name: string, options?: { recursive?: boolean }): Promise<void>;
  keys(): AsyncIterable<string>;
}

/** A LockManager: its locks end with the page or the worker that has them. */
export interface Locks {
  request(
    name: string,
    options: { mode: "exclusive" | "shared"; ifAvailable?: boolean; signal?: AbortSignal },
    held: (lock: unknown) => Promise<void> | undefined,
  ): Promise<unknown>;
}

/** Everything the worker uses. Handed in once. */
export interface Drive {
  /** The folder of the origin. */
  root(): Promise<Folder>;
  readonly locks: Locks;
  /** Bytes that the origin may use, and those that it uses, where the browser tells. */
  estimate(): Promise<{ quota?: number; usage?: number }>;
  /** Milliseconds since 1970, as File.lastModified. */
  today(): number;
  readonly clock: Clock;
}

/** A lock that is held. */
export interface Hold {
  /** Resolves when others may have it. */
  release(): Promise<void>;
}

/** Takes a lock, or null where it is not free within so many ms. */
export async function hold(drive: Drive, name: string, mode: "exclusive" | "shared", patience: number): Promise<Hold | null> {
  const waiting = new AbortController();
  let cancel: Cancel = () => {};
  const waitFor = patience > 0 ? { mode, signal: waiting.signal } : { mode, ifAvailable: true };
  if (Number.isFinite(patience)) cancel = drive.clock.after(patience, () => waiting.abort());
  try {
    return await new Promise<Hold | null>((resolve, reject) => {
      const ended = drive.locks.request(name, waitFor, (lock) => {
        if (lock === null) return void resolve(null);
        return new Promise<void>((done) => {
          resolve({
            release: async () => {
              done();
              await ended;
            },
          });
        });
      });
      ended.catch((error: unknown) => (waiting.signal.aborted ? resolve(null) : reject(error)));
    });
  } finally {
    cancel();
  }
}

/** What the promise gives, or null where it is about something that is not there. */
export async function ifThere<T>(entry: Promise<T>): Promise<T | null> {
  try {
    return await entry;
  } catch (error) {
    if ((error as Error).name === "NotFoundError") return null;
    throw error;
  }
}

/** The file as it is now, or null where there is none. */
export async function fileOf(folder: Folder, name: string): Promise<File | null> {
  const entry = await ifThere(folder.getFileHandle(name));
  return entry === null ? null : ifThere(entry.getFile());
}

/** Writes a whole small file. The old one is cut only after the new one is written over it. */
export async function writeFile(folder: Folder, name: string, data: Bytes): Promise<void> {
  const entry = await folder.getFileHandle(name, { create: true });
  const file = await entry.createSyncAccessHandle();
  try {
    writeAt(file, data, 0);
    file.truncate(data.length);
  } finally {
    file.close();
  }
}

/** Writes all of it, or throws. */
export function writeAt(file: SyncFile, data: Bytes, at: number): void {
  const written = file.write(data, { at });
  if (written !== data.length) throw new Error(`the disk took ${written} of ${data.length} bytes`);
}

/** Reads all of it, or throws where the file ends before. */
export function readAt(file: SyncFile, at: number, length: number): Bytes {
  const data: Bytes = new Uint8Array(length);
  const read = file.read(data, { at });
  if (read !== length) throw new Error(`the file gave ${read} of ${length} bytes`);
  return data;
}
