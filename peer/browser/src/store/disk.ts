import type { Bytes } from "../bytes.ts";
import { type Cancel, type Clock, pageClock } from "../clock.ts";
import { encodeInfo, type FullHash, type Geometry, geometryOf, type Hash, type Info, parseInfo, splitHashes } from "../content.ts";
import { Bits } from "../wire.ts";
import { startWorker } from "../worker.ts";
import { BlobStore } from "./blob.ts";
import { StoreError } from "./error.ts";
import { type Folder, home } from "./files.ts";
import type { Calls, CallType, Reply, Request } from "./messages.ts";
import type { Store } from "./store.ts";

/**
 * The text of store/worker.ts as one classic script: compile.sh defines it. Not there in tests, which
 * hand in a worker of their own.
 */
declare const P2PCDN_STORE_WORKER: string | undefined;

/** A Worker, as far as it is used. */
export interface WorkerLike {
  postMessage(message: Request, transfer: Transferable[]): void;
  terminate(): void;
  onmessage: ((event: MessageEvent<Reply>) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
}

/** What a disk needs of the browser. */
export interface DiskSeams {
  /** Why there is no disk here, in words for people; null where there is one. */
  readonly unavailable: string | null;
  /** Starts the worker; may throw. */
  start(): WorkerLike;
  /** The folder of the origin. */
  root(): Promise<Folder>;
  readonly clock: Clock;
}

/** How long the worker may take to come up, in ms: it is in the page already, and not fetched. */
const startPatience = 10_000;

/**
 * How often the worker is told which pieces are settled, in ms. Telling it costs two messages and a write,
 * and a page that is killed in between fetches no more than that anew.
 */
const settleInterval = 250;

/** The disk of this page. */
export function pageDisk(): Disk {
  const start = (): WorkerLike => startWorker(P2PCDN_STORE_WORKER as string, "p2pcdn store");
  const root = async (): Promise<Folder> => (await navigator.storage.getDirectory()) as unknown as Folder;
  return new Disk({ unavailable: whyNot(), start, root, clock: pageClock });
}

function whyNot(): string | null {
  if (typeof P2PCDN_STORE_WORKER !== "string") return "this build of the script has no storage worker";
  if (!globalThis.isSecureContext) return "the page is no secure context (https, or localhost)";
  if (typeof Worker !== "function") return "the browser has no workers";
  if (typeof navigator.storage?.getDirectory !== "function" || navigator.locks === undefined) {
    return "the browser has no origin private file system";
  }
  return null;
}

/**
 * The origin's disk, for all contents of a client. Its worker runs while contents are open, and
 * ends with the last one.
 */
export class Disk {
  readonly #seams: DiskSeams;
  #line: Line | null = null;

  constructor(seams: DiskSeams) {
    this.#seams = seams;
  }

  /** Why there is no disk here, in words for people; null as far as it is known before one is opened. */
  get unavailable(): string | null {
    return this.#seams.unavailable;
  }

  /**
   * Whether an earlier visit left a folder of the content, or another page is filling one. It is looked for from the
   * page itself, so that no worker is started where there is none. What is in it, open finds out.
   */
  async keeps(hash: FullHash): Promise<boolean> {
    if (this.unavailable !== null) return false;
    try {
      const all = await (await this.#seams.root()).getDirectoryHandle(home);
      await all.getDirectoryHandle(hash);
      return true;
    } catch {
      return false; // it is not there, or the browser opens no storage, which is told to those who need it
    }
  }

  /**
   * Opens the place of a content: what an earlier visit left, or a new one. The info that comes back is
   * the same with the piece hashes that the earlier visit knew. Rejects with a StoreError.
   */
  async open(info: Info): Promise<{ store: DiskStore; info: Info }> {
    if (this.unavailable !== null) throw new StoreError("unavailable", this.unavailable);
    const line = this.#join();
    const content = line.number();
    try {
      await line.ready;
      const known = parseInfo(await line.call("open", content, { info: encodeInfo(info) }));
      return { store: new DiskStore(line, content, known, this.#seams.clock), info: known };
    } catch (error) {
      line.leave();
      throw error;
    }
  }

  /** The line to the worker, one user more. */
  #join(): Line {
    const line = this.#line?.open === true ? this.#line : new Line(this.#seams);
    this.#line = line;
    line.join();
    return line;
  }
}

/** A request that is not answered yet. */
interface Waiting {
  resolve(value: unknown): void;
  reject(error: StoreError): void;
  progress(done: number, total: number): void;
}

/** A running worker and what it was asked. What waits is rejected when it ends, whyever. */
class Line {
  /** Resolves when the worker runs. */
  readonly ready: Promise<void>;
  readonly #waiting = new Map<number, Waiting>(); // by call; as many as the callers have on the way
  #worker: WorkerLike | null = null; // null once ended
  #error: StoreError | null = null; // why it ended
  #started!: { resolve(): void; reject(error: StoreError): void };
  #next = 0; // calls and contents share their numbers
  #users = 0;

  constructor({ start, clock }: DiskSeams) {
    this.ready = new Promise((resolve, reject) => (this.#started = { resolve, reject }));
    this.ready.catch(() => {}); // told to whoever opens
    const cancel = clock.after(startPatience, () => this.#end(refused("it did not answer")));
    this.ready.then(cancel, cancel);
    try {
      const worker = start();
      this.#worker = worker;
      worker.onmessage = ({ data }) => this.#heard(data);
      worker.onerror = (event) => {
        event.preventDefault?.(); // told by what rejects
        this.#failed(event.message);
      };
      worker.onmessageerror = () => this.#failed("a message could not be read");
    } catch (error) {
      this.#end(refused((error as Error).message));
    }
  }

  /** Whether another content can be opened. */
  get open(): boolean {
    return this.#worker !== null;
  }

  /** A number for a content. */
  number(): number {
    return this.#next++;
  }

  join(): void {
    this.#users++;
  }

  /** The last one ends the worker. */
  leave(): void {
    this.#users--;
    if (this.#users === 0) this.#end(new StoreError("closed", "the store is closed"));
  }

  call<T extends CallType>(
    type: T,
    content: number,
    ask: Calls[T]["ask"],
    transfer: Transferable[] = [],
    progress: (done: number, total: number) => void = () => {},
  ): Promise<Calls[T]["answer"]> {
    return new Promise((resolve, reject) => {
      if (this.#worker === null) return reject(this.#error);
      const call = this.#next++;
      this.#worker.postMessage({ type, call, content, ...ask } as Request, transfer);
      this.#waiting.set(call, { resolve: resolve as (value: unknown) => void, reject, progress });
    });
  }

  #heard(reply: Reply): void {
    if (reply.type === "ready") return this.#started.resolve();
    const waiting = this.#waiting.get(reply.call);
    if (reply.type === "progress") return waiting?.progress(reply.done, reply.total);
    this.#waiting.delete(reply.call);
    if (reply.type === "done") waiting?.resolve(reply.value);
    else waiting?.reject(new StoreError(reply.reason, reply.message));
  }

  #failed(message: string): void {
    this.#end(new StoreError("lost", `the storage worker ended: ${message}`));
  }

  #end(error: StoreError): void {
    if (this.#error !== null) return;
    this.#error = error;
    this.#worker?.terminate();
    this.#worker = null;
    this.#started.reject(error.reason === "lost" ? refused(error.message) : error);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

function refused(why: string): StoreError {
  return new StoreError("unavailable", `the storage worker does not start (a Content-Security-Policy needs worker-src blob:): ${why}`);
}

/** One content on the disk. */
export class DiskStore implements Store {
  readonly #line: Line;
  readonly #content: number;
  readonly #info: Info;
  readonly #geometry: Geometry;
  readonly #clock: Clock;
  #whole: BlobStore | null = null; // once complete
  readonly #settled = new Set<number>(); // that the worker was not told yet
  #telling: Cancel = () => {};
  #closing: Promise<void> | null = null;

  /** The content is open in the worker under that number; Disk makes it. */
  constructor(line: Line, content: number, info: Info, clock: Clock) {
    this.#line = line;
    this.#clock = clock;
    this.#content = content;
    this.#info = info;
    this.#geometry = geometryOf(info);
  }

  async check(info: Info, progress?: (done: number, total: number) => void): Promise<Bits> {
    const bits = Bits.parse(await this.#call("check", { info: encodeInfo(info) }, [], progress), this.#geometry.pieces);
    if (bits instanceof Error) throw new StoreError("broken", bits.message);
    return bits;
  }

  async keep(piece: number, begin: number, data: Bytes): Promise<readonly Hash[]> {
    if (this.#settled.has(piece)) this.#tell(); // what is settled is not written to again
    const hashes = await this.#call("keep", { piece, begin, data }, [data.buffer]);
    return splitHashes(hashes);
  }

  settle(piece: number): void {
    if (this.#settled.size === 0) this.#telling = this.#clock.after(settleInterval, () => this.#tell());
    this.#settled.add(piece);
  }

  read(piece: number, begin: number, length: number): Promise<Bytes> {
    if (this.#whole !== null) return this.#whole.read(piece, begin, length);
    if (this.#settled.has(piece)) this.#tell();
    // As small as it is: the worker reads some hundred MB/s in blocks, and nothing is remembered here.
    return this.#call("read", { piece, begin, length });
  }

  async complete(): Promise<Blob> {
    if (this.#whole === null) {
      this.#tell();
      const file = await this.#call("complete", {});
      this.#whole = new BlobStore(this.#geometry, file.slice(0, file.size, this.#info.contentType));
    }
    return this.#whole.complete();
  }

  close(discard: boolean): Promise<void> {
    if (this.#closing === null) this.#tell();
    this.#closing ??= this.#close(discard);
    return this.#closing;
  }

  /** Tells the worker what is settled. */
  #tell(): void {
    this.#telling();
    if (this.#settled.size === 0) return;
    const pieces = [...this.#settled];
    this.#settled.clear();
    // What is not remembered is fetched again on another visit: no reason to end this one.
    this.#call("settle", { pieces }).catch(() => {});
  }

  async #close(discard: boolean): Promise<void> {
    try {
      await this.#line.call("close", this.#content, { discard });
    } catch {
      // The worker is gone, and all that it held with it.
    } finally {
      this.#line.leave();
    }
  }

  #call<T extends CallType>(
    type: T,
    ask: Calls[T]["ask"],
    transfer?: Transferable[],
    progress?: (done: number, total: number) => void,
  ): Promise<Calls[T]["answer"]> {
    if (this.#closing !== null) return Promise.reject(new StoreError("closed", "the store is closed"));
    return this.#line.call(type, this.#content, ask, transfer, progress);
  }
}
