import type { Bytes } from "../src/bytes.ts";
import type { Drive, FileEntry, Folder, Locks, SyncFile } from "../src/store/files.ts";
import { FakeClock } from "./clock.ts";

/** A file that stands in for one of the origin private file system. */
class FakeFile {
  bytes: Bytes = new Uint8Array();
  lastModified = 0;
  /** Whoever has the only handle. */
  handle: FakeHandle | null = null;
}

/** The storage of one origin, with the pages that use it. Its fields are for tests to change. */
export class FakeOrigin {
  readonly clock = new FakeClock();
  readonly files = new Map<string, FakeFile>(); // by path
  readonly folders = new Set<string>([""]); // by path
  readonly locks = new FakeLocks();
  /** Milliseconds since 1970 at the clock's zero. */
  epoch = 1_750_000_000_000;
  /** What estimate says, in bytes; undefined: nothing. */
  quota: number | undefined = undefined;
  /** Bytes beyond which writing fails, whatever estimate said. */
  capacity = Number.POSITIVE_INFINITY;
  /** That opening any storage fails. */
  closed = false;

  today(): number {
    return this.epoch + this.clock.now();
  }

  get usage(): number {
    return [...this.files.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  /** A worker of a page. */
  agent(): FakeAgent {
    return new FakeAgent(this);
  }

  file(path: string): FakeFile {
    const file = this.files.get(path);
    if (file === undefined) throw new Error(`no file ${path} among ${[...this.files.keys()]}`);
    return file;
  }

  /** The folders of contents. */
  contents(): string[] {
    return [...this.folders].filter((path) => path.startsWith("p2pcdn/")).map((path) => path.slice("p2pcdn/".length));
  }
}

/** What one worker uses, and lets go when it ends. */
export class FakeAgent implements Drive {
  readonly clock: FakeClock;
  readonly locks: Locks;
  readonly handles = new Set<FakeHandle>();
  readonly held = new Set<() => void>();
  readonly #origin: FakeOrigin;

  constructor(origin: FakeOrigin) {
    this.#origin = origin;
    this.clock = origin.clock;
    this.locks = { request: (name, options, callback) => origin.locks.request(name, options, callback, this) };
  }

  async root(): Promise<Folder> {
    if (this.#origin.closed) throw new DOMException("storage is off", "SecurityError");
    return new FakeFolder(this.#origin, this, "");
  }

  async estimate(): Promise<{ quota?: number; usage?: number }> {
    const { quota, usage } = this.#origin;
    return quota === undefined ? {} : { quota, usage };
  }

  today(): number {
    return this.#origin.today();
  }

  /** The page is gone, without a word. */
  end(): void {
    this.endHandles();
    for (const release of this.held) release();
  }

  endHandles(): void {
    for (const handle of this.handles) handle.close();
  }
}

class FakeFolder implements Folder {
  readonly #origin: FakeOrigin;
  readonly #agent: FakeAgent;
  readonly #path: string; // "" or "a/b/"

  constructor(origin: FakeOrigin, agent: FakeAgent, path: string) {
    this.#origin = origin;
    this.#agent = agent;
    this.#path = path;
  }

  async getDirectoryHandle(name: string, options: { create?: boolean } = {}): Promise<Folder> {
    const path = this.#path + name;
    if (!this.#origin.folders.has(path)) {
      if (options.create !== true) throw notFound(path);
      this.#mustFit();
      this.#origin.folders.add(path);
    }
    return new FakeFolder(this.#origin, this.#agent, `${path}/`);
  }

  async getFileHandle(name: string, options: { create?: boolean } = {}): Promise<FileEntry> {
    const path = this.#path + name;
    if (!this.#origin.folders.has(this.#path.slice(0, -1))) throw notFound(this.#path);
    if (!this.#origin.files.has(path)) {
      if (options.create !== true) throw notFound(path);
      this.#mustFit();
      this.#origin.files.set(path, new FakeFile());
    }
    return {
      getFile: async () => {
        const file = this.#origin.files.get(path);
        if (file === undefined) throw notFound(path);
        return new File([file.bytes], name, { lastModified: file.lastModified });
      },
      createSyncAccessHandle: async () => {
        const file = this.#origin.files.get(path);
        if (file === undefined) throw notFound(path);
        if (file.handle !== null) throw new DOMException("there is another handle", "NoModificationAllowedError");
        return new FakeHandle(this.#origin, this.#agent, file);
      },
    };
  }

  async removeEntry(name: string): Promise<void> {
    const path = this.#path + name;
    if (!this.#origin.folders.has(path)) throw notFound(path);
    for (const [file, { handle }] of this.#origin.files) {
      if (!file.startsWith(`${path}/`)) continue;
      if (handle !== null) throw new DOMException("a file is open", "NoModificationAllowedError");
      this.#origin.files.delete(file);
    }
    this.#origin.folders.delete(path);
  }

  /** Chromium makes nothing new while there is too much. */
  #mustFit(): void {
    if (this.#origin.usage > this.#origin.capacity) throw full();
  }

  async *keys(): AsyncGenerator<string> {
    for (const path of [...this.#origin.folders, ...this.#origin.files.keys()]) {
      const name = path.slice(this.#path.length);
      if (path.startsWith(this.#path) && name !== "" && !name.includes("/")) yield name;
    }
  }
}

class FakeHandle implements SyncFile {
  readonly #origin: FakeOrigin;
  readonly #agent: FakeAgent;
  readonly #file: FakeFile;

  constructor(origin: FakeOrigin, agent: FakeAgent, file: FakeFile) {
    this.#origin = origin;
    this.#agent = agent;
    this.#file = file;
    file.handle = this;
    agent.handles.add(this);
  }

  read(buffer: Bytes, { at }: { at: number }): number {
    this.#mustBeOpen();
    const part = this.#file.bytes.subarray(at, at + buffer.length);
    buffer.set(part);
    return part.length;
  }

  write(buffer: Bytes, { at }: { at: number }): number {
    this.#resize(Math.max(this.#file.bytes.length, at + buffer.length));
    this.#file.bytes.set(buffer, at);
    return buffer.length;
  }

  truncate(size: number): void {
    this.#resize(size);
  }

  close(): void {
    if (this.#file.handle === this) this.#file.handle = null;
    this.#agent.handles.delete(this);
  }

  #resize(size: number): void {
    this.#mustBeOpen();
    if (this.#origin.usage - this.#file.bytes.length + size > this.#origin.capacity) {
      throw full();
    }
    this.#file.lastModified = this.#origin.today();
    if (size === this.#file.bytes.length) return;
    const bytes = new Uint8Array(size);
    bytes.set(this.#file.bytes.subarray(0, size));
    this.#file.bytes = bytes;
  }

  #mustBeOpen(): void {
    if (this.#file.handle !== this) throw new DOMException("the handle is closed", "InvalidStateError");
  }
}

type Options = Parameters<Locks["request"]>[1];
type Held = Parameters<Locks["request"]>[2];

/** Web Locks: first come, first served. */
class FakeLocks {
  readonly #names = new Map<string, { shared: number; exclusive: boolean; queue: { mode: string; grant: () => void }[] }>();

  request(name: string, { mode, ifAvailable, signal }: Options, held: Held, agent: FakeAgent): Promise<unknown> {
    const lock = this.#names.get(name) ?? { shared: 0, exclusive: false, queue: [] };
    this.#names.set(name, lock);
    const free = (wanted: string): boolean => !lock.exclusive && (wanted === "shared" || lock.shared === 0);
    const serve = (): void => {
      while (lock.queue[0] !== undefined && free(lock.queue[0].mode)) lock.queue.shift()?.grant();
    };
    return new Promise((resolve, reject) => {
      const grant = (): void => {
        if (mode === "shared") lock.shared++;
        else lock.exclusive = true;
        let released = false;
        const release = (): void => {
          if (released) return;
          released = true;
          agent.held.delete(release);
          if (mode === "shared") lock.shared--;
          else lock.exclusive = false;
          serve();
        };
        agent.held.add(release);
        queueMicrotask(async () => {
          await held({});
          release();
          resolve(undefined);
        });
      };
      if (ifAvailable === true && (lock.queue.length > 0 || !free(mode))) return resolve(held(null));
      const waiting = { mode, grant };
      lock.queue.push(waiting);
      signal?.addEventListener("abort", () => {
        const at = lock.queue.indexOf(waiting);
        if (at < 0) return;
        lock.queue.splice(at, 1);
        reject(signal.reason);
        serve();
      });
      serve();
    });
  }
}

function full(): DOMException {
  return new DOMException("the disk is full", "QuotaExceededError");
}

function notFound(path: string): DOMException {
  return new DOMException(`${path} is not there`, "NotFoundError");
}
