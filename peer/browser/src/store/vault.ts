/**
 * All contents that the origin keeps on the disk. Runs in the worker.
 *
 *     p2pcdn/<full hash>/data       the content; what is not settled in it means nothing
 *                        pieces     the settled pieces, one bit each, the first is the highest bit
 *                        info.json  the info dictionary, with the piece hashes once they are known
 *     p2pcdn/<full hash>.1/ … .3/   more copies, see below
 *
 * Nothing of it is believed: pieces are hashed again on every visit, and a dictionary counts only
 * where it hashes up to the full hash that was asked for and has the length that came with it.
 *
 * Several pages. Whoever writes to a folder holds the Web Lock "p2pcdn/<folder>" exclusively; whoever
 * reads a complete one shares it. A page that finds a content being written by another one takes
 * the next copy of the folder. What is locked is never removed.
 *
 * Wrong links. The full hash says nothing of the length, nor of how the content is cut: who follows a link
 * that has another length, by mistake or by malice, takes another copy of the folder and leaves the kept content alone.
 *
 * Room. All contents together take at most half of what the browser leaves the origin: the
 * other half is the site's own. Before a new one is begun, the complete ones that were not used for the longest time
 * go, then the partial ones. A partial one that nobody touched for a week goes in any case.
 */

import { utf8 } from "../bytes.ts";
import { encodeInfo, geometryOf, type Info, parseInfo } from "../content.ts";
import { Bits } from "../wire.ts";
import { StoreError, storeError } from "./error.ts";
import { type Drive, fileOf, type Folder, type Hold, hold, home, ifThere, type SyncFile, writeAt, writeFile } from "./files.ts";

const mib = 1 << 20;

/** The folders that one full hash may have at a time: as many pages can download it, each for itself, or as many links may differ. */
const maxCopies = 4;

/**
 * How long the first folder is waited for, in ms: a page that was reloaded or closed a
 * moment ago still holds it. Chromium and Firefox were measured to let go within 0.15 s.
 */
const lockPatience = 1_000;

/** How often the file behind a lock that is ours is tried, in ms: it may be let go later than the lock. */
const handleInterval = 50;

/** How long a partial content is kept that nobody touches, in ms: a week, as somebody comes back on the same weekday. */
const maxIdle = 7 * 24 * 3_600_000;

/** What part of the origin's room is for contents. */
const share = 1 / 2;

/** Bytes that must stay free beside a content: the dictionary, the bits, and what the browser rounds up. */
const spare = 4 * mib;

/** A content that is being written: its lock is exclusive. */
export interface Partial {
  readonly kind: "partial";
  readonly name: string;
  readonly folder: Folder;
  readonly info: Info;
  /** What its last user says is settled. */
  readonly bits: Bits;
  readonly data: SyncFile;
  readonly pieces: SyncFile;
  readonly lock: Hold;
}

/** A content of which every piece was settled: its lock is shared. */
export interface Complete {
  readonly kind: "complete";
  readonly name: string;
  readonly folder: Folder;
  readonly info: Info;
  readonly bits: Bits;
  readonly file: File;
  readonly lock: Hold;
}

/** What a folder says of itself. */
interface Found {
  readonly name: string;
  readonly info: Info | null; // valid in itself
  readonly bits: Bits | null; // of info
  readonly data: File | null;
  readonly size: number; // bytes
  readonly touched: number; // ms since 1970
}

export class Vault {
  readonly #drive: Drive;
  #home: Promise<Folder> | null = null; // opened and swept; another attempt is made after a failure

  constructor(drive: Drive) {
    this.#drive = drive;
  }

  /**
   * The place of a content, whole or begun, or a new one. Where wanted has no piece hashes and
   * an earlier visit knew them, the place's info has them. Rejects with a StoreError.
   */
  async open(wanted: Info): Promise<Partial | Complete> {
    return (await this.#findComplete(wanted)) ?? (await this.#take(wanted, true));
  }

  /** The place of a content to write to, complete or not. Rejects with a StoreError. */
  async repair(wanted: Info): Promise<Partial> {
    return (await this.#take(wanted, false)) as Partial;
  }

  /** The end of a place's writing: it may be shared from then on. */
  async finish(place: Partial): Promise<Complete> {
    const { name, folder, info, bits, lock } = place;
    // Not flushed, which takes seconds for a large file: what a power failure takes away is found on the next visit.
    this.shut(place);
    const file = await fileOf(folder, "data");
    if (file === null) throw new StoreError("broken", "the content is gone from the disk");
    return { kind: "complete", name, folder, info, bits, file, lock: await this.#share(name, lock) };
  }

  /** Closes the files of a place; the lock stays. */
  shut(place: Partial): void {
    place.data.close();
    place.pieces.close();
  }

  /** Lets go of a place, and throws it away unless another page has it. */
  async discard(place: Partial | Complete): Promise<void> {
    await place.lock.release();
    await this.#remove(await this.#opened(), place.name, 0);
  }

  /** A complete copy that nobody is changing. */
  async #findComplete(wanted: Info): Promise<Complete | null> {
    const all = await this.#opened();
    for (const name of copies(wanted)) {
      if ((await ifThere(all.getDirectoryHandle(name))) === null) continue;
      const lock = await this.#lock(name, "shared", 0);
      if (lock === null) continue;
      const place = await this.#asComplete(all, name, wanted, lock);
      if (place !== null) return place;
      await lock.release();
    }
    return null;
  }

  async #asComplete(all: Folder, name: string, wanted: Info, lock: Hold): Promise<Complete | null> {
    const folder = await ifThere(all.getDirectoryHandle(name));
    if (folder === null) return null;
    const found = await inspect(folder, name);
    const info = merged(wanted, found.info);
    if (info === null || found.data === null || !isComplete(found)) return null;
    await this.#touch(folder, info);
    return { kind: "complete", name, folder, info, bits: found.bits as Bits, file: found.data, lock };
  }

  /** The best copy that nobody uses. Where it turns out complete and orShare is set, it is shared. */
  async #take(wanted: Info, orShare: boolean): Promise<Partial | Complete> {
    const all = await this.#opened();
    let patience = lockPatience; // for the first alone: somebody who goes is likely to be there
    for (const { name, fit } of await choices(all, wanted)) {
      const lock = await this.#lock(name, "exclusive", patience);
      patience = 0;
      if (lock === null) continue;
      try {
        // What came there before it was locked may not be for us to take.
        if ((await choice(all, name, wanted)).fit > fit) throw new StoreError("busy", "another page took the folder for another content");
        if (orShare) {
          // Whoever had it may have finished it just now.
          const place = await this.#asComplete(all, name, wanted, lock);
          if (place !== null) return { ...place, lock: await this.#share(name, lock) };
        }
        return await this.#begin(all, name, wanted, lock);
      } catch (error) {
        await lock.release();
        const told = storeError(error, "the content cannot be kept on the disk");
        if (told.reason !== "busy") throw told;
      }
    }
    throw new StoreError("busy", `other pages, or contents of the same hash, hold all ${maxCopies} copies of the content`);
  }

  /**
   * Makes room, and the folder ready to be written to. A browser may allow less than it says in
   * estimate (Chromium always says 10 GiB, so that nobody is told apart by it): what is
   * oldest goes then, too.
   */
  async #begin(all: Folder, name: string, wanted: Info, lock: Hold): Promise<Partial> {
    const found = await inspectAll(all);
    const there = found.find((each) => each.name === name)?.size ?? 0;
    const others = found.filter((each) => each.name !== name).sort(oldestFirst);
    await this.#makeRoom(all, wanted.totalLength, there, others);
    for (;;) {
      try {
        return await this.#prepare(all, name, wanted, lock);
      } catch (error) {
        if ((error as Error).name !== "QuotaExceededError" || (await this.#evict(all, others)) === null) throw error;
      }
    }
  }

  /** Makes the folder ready to be written to, whatever was there; a new one that cannot be is not left behind. */
  async #prepare(all: Folder, name: string, wanted: Info, lock: Hold): Promise<Partial> {
    const folder = await all.getDirectoryHandle(name, { create: true });
    const found = await inspect(folder, name);
    const known = merged(wanted, found.info);
    const info = known ?? wanted;
    const bits = (known !== null ? found.bits : null) ?? new Bits(geometryOf(info).pieces);
    const files: SyncFile[] = [];
    try {
      const data = await this.#handle(folder, "data");
      files.push(data);
      const pieces = await this.#handle(folder, "pieces");
      files.push(pieces);
      // At its full length at once: that it does not fit is found here, and not half-way.
      data.truncate(info.totalLength);
      writeAt(pieces, bits.bytes(), 0);
      pieces.truncate(bits.bytes().length);
      await writeFile(folder, "info.json", utf8(encodeInfo(info)));
      return { kind: "partial", name, folder, info, bits, data, pieces, lock };
    } catch (error) {
      for (const file of files) file.close();
      if (bits.count === 0) await all.removeEntry(name, { recursive: true }).catch(() => {}); // the cause is told, not this
      throw error;
    }
  }

  /** A file of a folder that is ours. */
  async #handle(folder: Folder, name: string): Promise<SyncFile> {
    const entry = await folder.getFileHandle(name, { create: true });
    for (let waited = 0; ; waited += handleInterval) {
      try {
        return await entry.createSyncAccessHandle();
      } catch (error) {
        if ((error as Error).name !== "NoModificationAllowedError" || waited >= lockPatience) throw error;
      }
      await new Promise<void>((resolve) => this.#drive.clock.after(handleInterval, resolve));
    }
  }

  /** Shares a lock that is held exclusively; others who wait for it come behind us or find the content complete. */
  async #share(name: string, lock: Hold): Promise<Hold> {
    const shared = this.#lock(name, "shared", Number.POSITIVE_INFINITY);
    await lock.release();
    return (await shared) as Hold;
  }

  /** Makes the folder the latest one used. Where another page does the same, that is enough. */
  async #touch(folder: Folder, info: Info): Promise<void> {
    await writeFile(folder, "info.json", utf8(encodeInfo(info))).catch(() => {});
  }

  /** Lets go what is oldest until total bytes fit in the place of the bytes that are there. others: the oldest first. */
  async #makeRoom(all: Folder, total: number, there: number, others: Found[]): Promise<void> {
    const { quota, usage } = await this.#drive.estimate();
    if (total <= there || quota === undefined || usage === undefined) return;
    let kept = others.reduce((sum, { size }) => sum + size, 0);
    let free = quota - usage + there;
    const tooLarge = (room: number): StoreError =>
      new StoreError("quota", `the content has ${Math.ceil(total / mib)} MiB, and the browser leaves room for ${Math.max(0, Math.floor(room / mib))} MiB`);
    const most = Math.min(quota * share, free + kept - spare); // where all others go
    if (total > most) throw tooLarge(most); // and none has to go in vain
    while (kept + total > quota * share || total + spare > free) {
      const gone = await this.#evict(all, others);
      if (gone === null) throw tooLarge(Math.min(quota * share - kept, free - spare));
      kept -= gone.size;
      free += gone.size;
    }
  }

  /** Removes the first of them that nobody uses, and takes it off the list with those before; null where there is none. */
  async #evict(all: Folder, others: Found[]): Promise<Found | null> {
    for (let oldest = others.shift(); oldest !== undefined; oldest = others.shift()) {
      if (await this.#remove(all, oldest.name, 0)) return oldest;
    }
    return null;
  }

  /** Removes a content that nobody uses; whether it is gone. idle: only one that was not touched for so many ms. */
  async #remove(all: Folder, name: string, idle: number): Promise<boolean> {
    const lock = await this.#lock(name, "exclusive", 0);
    if (lock === null) return false;
    try {
      const folder = idle > 0 ? await ifThere(all.getDirectoryHandle(name)) : null;
      if (folder !== null) {
        const found = await inspect(folder, name);
        if (isComplete(found) || this.#drive.today() - found.touched < idle) return false;
      }
      await ifThere(all.removeEntry(name, { recursive: true }));
      return true;
    } catch {
      return false; // a file that the browser holds on to: the next visit tries again
    } finally {
      await lock.release();
    }
  }

  #lock(name: string, mode: "exclusive" | "shared", patience: number): Promise<Hold | null> {
    return hold(this.#drive, `${home}/${name}`, mode, patience);
  }

  /** The folder of all contents. The first time, the partial ones that nobody came back for go. */
  #opened(): Promise<Folder> {
    this.#home ??= this.#sweep().catch((error: unknown) => {
      this.#home = null;
      throw new StoreError("unavailable", `the browser opens no storage on the disk: ${(error as Error).message}`, { cause: error });
    });
    return this.#home;
  }

  async #sweep(): Promise<Folder> {
    const root = await this.#drive.root();
    const all = await root.getDirectoryHandle(home, { create: true });
    for (const name of await names(all)) await this.#remove(all, name, maxIdle);
    return all;
  }
}

/** The folders that a content may have, in the order in which they are tried. */
function copies({ fullHash }: Info): string[] {
  return Array.from({ length: maxCopies }, (_, copy) => (copy === 0 ? fullHash : `${fullHash}.${copy}`));
}

/** How well a folder suits what is wanted: the lowest is the best. */
const Fit = {
  /** The content is there, complete or not. */
  Same: 0,
  /** There is nothing that anybody could go on with. */
  Free: 1,
  /** Another length or another cut, of which nothing was settled. */
  Begun: 2,
  /** Another length or another cut, partial. It goes where there is no better one, or else a few wrong links would keep the right one out for a week. */
  Partial: 3,
  /** Another cut, complete, so that all of it was found right: never taken. */
  Complete: 4,
} as const;

/** A folder that might be taken. */
interface Choice {
  readonly name: string;
  readonly fit: number; // a Fit
  readonly touched: number; // ms since 1970
}

/** The folders that may be taken for what is wanted, best first; of other contents the one that was touched least recently. */
async function choices(all: Folder, wanted: Info): Promise<Choice[]> {
  const found = await Promise.all(copies(wanted).map((name) => choice(all, name, wanted)));
  return found.filter(({ fit }) => fit !== Fit.Complete).sort((a, b) => a.fit - b.fit || (a.fit === Fit.Partial ? a.touched - b.touched : 0));
}

async function choice(all: Folder, name: string, wanted: Info): Promise<Choice> {
  const folder = await ifThere(all.getDirectoryHandle(name));
  if (folder === null) return { name, fit: Fit.Free, touched: 0 };
  const found = await inspect(folder, name);
  return { name, fit: fitOf(found, wanted), touched: found.touched };
}

function fitOf(found: Found, wanted: Info): number {
  if (merged(wanted, found.info) !== null) return Fit.Same;
  if (found.info?.fullHash !== wanted.fullHash) return Fit.Free; // it could not be found by its own hash
  if (isComplete(found)) return Fit.Complete;
  return (found.bits?.count ?? 0) === 0 ? Fit.Begun : Fit.Partial;
}

/** The folders of contents; anything else is not ours. */
async function names(all: Folder): Promise<string[]> {
  const found: string[] = [];
  for await (const name of all.keys()) if (/^[0-9a-f]{64}(\.[1-9])?$/.test(name)) found.push(name);
  return found;
}

async function inspectAll(all: Folder): Promise<Found[]> {
  const found: Found[] = [];
  for (const name of await names(all)) {
    const folder = await ifThere(all.getDirectoryHandle(name));
    if (folder !== null) found.push(await inspect(folder, name));
  }
  return found;
}

async function inspect(folder: Folder, name: string): Promise<Found> {
  const [data, pieces, dictionary] = [await fileOf(folder, "data"), await fileOf(folder, "pieces"), await fileOf(folder, "info.json")];
  const info = dictionary === null ? null : valid(await dictionary.text());
  return {
    name,
    info,
    bits: info === null || pieces === null ? null : validBits(new Uint8Array(await pieces.arrayBuffer()), info),
    data,
    size: data?.size ?? 0,
    touched: Math.max(0, ...[data, pieces, dictionary].map((file) => file?.lastModified ?? 0)),
  };
}

function valid(dictionary: string): Info | null {
  try {
    return parseInfo(dictionary);
  } catch {
    return null;
  }
}

function validBits(field: Uint8Array, info: Info): Bits | null {
  const bits = Bits.parse(field, geometryOf(info).pieces);
  return bits instanceof Bits ? bits : null;
}

function isComplete({ info, bits, data }: Found): boolean {
  return info !== null && bits !== null && bits.all && data?.size === info.totalLength;
}

/** What is wanted, with the piece hashes that were found; null where another content, or one cut otherwise, was found. */
function merged(wanted: Info, found: Info | null): Info | null {
  const same =
    found !== null &&
    found.fullHash === wanted.fullHash &&
    found.totalLength === wanted.totalLength &&
    found.pieceLength === wanted.pieceLength;
  return same ? { ...wanted, pieceHashes: wanted.pieceHashes ?? found.pieceHashes } : null;
}

function oldestFirst(a: Found, b: Found): number {
  return Number(isComplete(b)) - Number(isComplete(a)) || a.touched - b.touched;
}
