import { type Cancel, type Clock, pageClock } from "../clock.ts";
import { startWorker } from "../worker.ts";
import { type Hash, splitHashes } from "./hash.ts";
import { foldPart, type HashOptions, hashPart, type Part } from "./part.ts";
import type { Reply, Request } from "./serve.ts";
import type { Geometry } from "./tree.ts";

/**
 * The text of content/worker.ts as one classic script: compile.sh defines it. Not there in tests, which
 * hand in workers of their own.
 */
declare const P2PCDN_HASH_WORKER: string | undefined;

/** A Worker, as far as it is used. */
export interface HashWorker {
  postMessage(message: Request): void;
  terminate(): void;
  onmessage: ((event: MessageEvent<Reply>) => void) | null;
  onmessageerror: ((event: MessageEvent) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
}

/** What a crew needs of the browser. */
export interface CrewSeams {
  /** How many workers there may be at a time; 0 where there are none. */
  readonly workers: number;
  /** What this thread hashes of a content itself, in bytes, at least one. Shorter contents get no workers. */
  readonly headLength: number;
  /** Starts a worker; may throw. */
  start(): HashWorker;
  readonly clock: Clock;
}

/**
 * How long workers without work are kept, in ms. To start them takes as long as to hash 100 MiB, and
 * somebody who shares a file often shares another one.
 */
const restTime = 30_000;

/** Workers a core: while one waits for the disk or for its digests, another has something to do. */
const workersPerCore = 2;

/** Workers at a time. Bounds the memory of their chunks to 24 MiB, and what each takes by itself. */
const maxWorkers = 8;

/**
 * What this thread hashes of a content itself, in bytes: about as much as it can before the workers, which are started
 * at the same time, have come up and opened the file; and as much as each of four workers has of 256 MiB. As
 * measured, 32 to 64 MiB are alike.
 */
const headLength = 48 << 20;

/**
 * The longest part that is given at a time, in bytes: MaxPieceLength, as a part is whole pieces. Of shorter ones each costs
 * the time that a file takes to be opened; with longer ones the disk is read in places further apart.
 */
const maxPartLength = 64 << 20;

/** The crew of this page. */
export function pageCrew(): Crew {
  const possible = typeof P2PCDN_HASH_WORKER === "string" && typeof Worker === "function";
  const workers = possible ? Math.min(maxWorkers, workersPerCore * navigator.hardwareConcurrency) : 0;
  const start = (): HashWorker => startWorker(P2PCDN_HASH_WORKER as string, "p2pcdn hash");
  return new Crew({ workers, headLength, start, clock: pageClock });
}

/**
 * Workers that hash one content together, off the page's own thread. They are started when they are needed, and
 * end some time after. One content at a time has them, which bounds their number.
 */
export class Crew {
  readonly #seams: CrewSeams;
  #idle: boolean; // nobody has the workers, and they come up as far as is known
  #helpers: Helper[] = []; // at work, or at rest
  #resting: Cancel = () => {};

  constructor(seams: CrewSeams) {
    this.#seams = seams;
    this.#idle = seams.workers > 0;
  }

  /** Whether a content is better given to hash than hashed on this thread. */
  takes(geometry: Geometry): boolean {
    return this.#idle && geometry.totalLength > this.#seams.headLength;
  }

  /**
   * The piece layer of a content. What the workers do not do, for whatever reason, is done on this thread, so
   * that it rejects with the same as hashPart. One content at a time.
   */
  async hash(geometry: Geometry, content: Blob, options: HashOptions): Promise<Hash[]> {
    options.signal?.throwIfAborted();
    const job = new Job(this.#seams, geometry, content, options);
    this.#idle = false;
    this.#resting();
    let came = true;
    try {
      while (this.#helpers.length < job.helpers) this.#helpers.push(new Helper(this.#seams));
      came = await job.share(this.#helpers.slice(0, job.helpers));
      return await job.finish();
    } finally {
      this.#idle = came; // those that did not come up (a Content-Security-Policy) are not waited for again
      this.#helpers = this.#helpers.filter(({ running }) => running);
      this.#resting = this.#seams.clock.after(restTime, () => this.#dismiss());
    }
  }

  #dismiss(): void {
    for (const helper of this.#helpers) helper.end();
    this.#helpers = [];
  }
}

/** A part of a job. */
interface Task extends Part {
  hashed: number; // bytes
  pieces: readonly Hash[] | null; // once done
}

/** One content that is hashed. */
class Job {
  readonly #seams: CrewSeams;
  readonly #options: HashOptions;
  readonly #tasks: readonly Task[];
  #next = 0; // the first of #tasks that no worker has begun
  #hashed = 0; // bytes of all tasks
  #told = -1; // the most of #hashed that progress was told

  constructor(seams: CrewSeams, geometry: Geometry, content: Blob, options: HashOptions) {
    this.#seams = seams;
    this.#options = options;
    this.#tasks = cut(geometry, content, seams).map((part) => ({ ...part, hashed: 0, pieces: null }));
  }

  /** How many workers can have something to do. */
  get helpers(): number {
    return Math.min(this.#seams.workers, this.#tasks.length - 1);
  }

  /**
   * Has workers do what they can, and this thread what it can before they come up, until all is done or
   * something fails, or the signal ends it. Those that are still at work then are ended; false where none came up.
   */
  async share(helpers: readonly Helper[]): Promise<boolean> {
    const { signal } = this.#options;
    let left = this.#tasks.length;
    let up = 0; // workers that came up
    let lost = 0; // workers that failed to
    let over = false;
    const end = (): void => {
      over = true;
      for (const helper of helpers) if (!helper.resting) helper.end();
    };
    /** Does the next part; false where there is none. */
    const take = async (hash: (task: Task) => Promise<readonly Hash[]>): Promise<boolean> => {
      const task = over ? undefined : this.#tasks[this.#next++];
      if (task === undefined) return false;
      task.pieces = await hash(task);
      left--;
      if (left === 0) end(); // nobody waits for one that has not come up yet
      return true;
    };
    const work = async (helper: Helper): Promise<void> => {
      if (await helper.ready) up++;
      else if (!over) lost++;
      while (helper.running && (await take((task) => helper.hash(task, (hashed) => this.#progress(task, hashed))))) {}
    };
    const begin = async (): Promise<void> => {
      while ((await take((task) => this.#hash(task))) && up === 0) {}
    };
    signal?.addEventListener("abort", end);
    // What one cannot do, finish does, or says why it cannot be done.
    await Promise.all([begin(), ...helpers.map(work)].map((done) => done.catch(end)));
    end();
    signal?.removeEventListener("abort", end);
    return helpers.length === 0 || lost < helpers.length;
  }

  /** Does what is left over on this thread. */
  async finish(): Promise<Hash[]> {
    this.#options.signal?.throwIfAborted();
    for (const task of this.#tasks) task.pieces ??= await this.#hash(task);
    return this.#tasks.flatMap(({ pieces }) => pieces as Hash[]);
  }

  #hash(task: Task): Promise<Hash[]> {
    return hashPart(task, { signal: this.#options.signal, progress: (hashed) => this.#progress(task, hashed) });
  }

  /** A task that is begun anew falls back, but what is told does not. */
  #progress(task: Task, hashed: number): void {
    this.#hashed += hashed - task.hashed;
    task.hashed = hashed;
    if (this.#hashed <= this.#told) return;
    this.#told = this.#hashed;
    this.#options.progress?.(this.#hashed);
  }
}

/** Cuts a content into what this thread begins with, and parts as long as each other, to a piece, as many for each worker. */
function cut(geometry: Geometry, content: Blob, { workers, headLength }: CrewSeams): Part[] {
  const { totalLength, pieceLength, pieces } = geometry;
  const head = Math.min(pieces, Math.ceil(headLength / pieceLength));
  const rounds = Math.ceil((pieces - head) / (workers * (maxPartLength / pieceLength)));
  const length = Math.ceil((pieces - head) / (workers * rounds));
  const part = (first: number, end: number): Part => {
    const blob = content.slice(geometry.pieceOffset(first), Math.min(totalLength, geometry.pieceOffset(end)));
    return { geometry, first, end, blob };
  };
  const parts = [part(0, head)];
  for (let first = head; first < pieces; first += length) parts.push(part(first, Math.min(pieces, first + length)));
  return parts;
}

/** What a request waits for. */
interface Waiting {
  readonly part: Part;
  resolve(pieces: readonly Hash[]): void;
  reject(error: Error): void;
  progress(hashed: number): void;
}

/** One worker. */
class Helper {
  /** Resolves when it has come up, or false when it has ended before. */
  readonly ready: Promise<boolean>;
  #worker: HashWorker | null = null; // null once ended
  #up = false; // it has come up
  #waiting: Waiting | null = null; // one request at a time
  #started!: (came: boolean) => void;

  constructor({ start }: CrewSeams) {
    this.ready = new Promise((resolve) => (this.#started = resolve));
    try {
      const worker = start();
      this.#worker = worker;
      worker.onmessage = ({ data }) => this.#heard(data);
      worker.onmessageerror = () => this.end();
      worker.onerror = (event) => {
        event.preventDefault?.(); // another does its work
        this.end();
      };
    } catch {
      this.end();
    }
  }

  get running(): boolean {
    return this.#worker !== null;
  }

  /** Whether it runs and has nothing to do. */
  get resting(): boolean {
    return this.#up && this.#worker !== null && this.#waiting === null;
  }

  /** Hashes a part; rejects where it fails, and where the worker ends. One at a time. */
  hash(part: Part, progress: (hashed: number) => void): Promise<readonly Hash[]> {
    return new Promise((resolve, reject) => {
      if (this.#worker === null) throw new Error("the worker has ended");
      this.#waiting = { part, resolve, reject, progress };
      const { geometry: { totalLength, pieceLength }, first, end, blob } = part;
      this.#worker.postMessage({ totalLength, pieceLength, first, end, blob });
    });
  }

  /** Ends the worker and rejects what it was asked. Harmless when it has ended. */
  end(): void {
    this.#worker?.terminate();
    this.#worker = null;
    this.#started(false);
    this.#waiting?.reject(new Error("the worker has ended"));
    this.#waiting = null;
  }

  #heard(reply: Reply): void {
    if (reply.type === "ready") {
      this.#up = true;
      return this.#started(true);
    }
    if (reply.type === "progress") return this.#waiting?.progress(reply.hashed);
    if (reply.type === "failed") return this.end();
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve(foldPart(waiting.part, splitHashes(reply.leaves)));
  }
}
