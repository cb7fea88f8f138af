/**
 * Addresses for contents, under which a page's own elements read any part of them while they
 * are still being downloaded: `<scope>p2pcdn/<full hash>/<file name>`. A service worker
 * (sw.ts) answers there and asks the page for what it needs.
 */

import { CdnError, type Off, type State } from "./api.ts";
import { type Cancel, type Clock, pageClock } from "./clock.ts";
import type { InfoDictionary } from "./content.ts";
import { folder, type Hello, type ToPage, type ToSource, type ToWorker } from "./streaming/messages.ts";

/** A Content, as far as it is used. */
export interface Streamable {
  readonly info: InfoDictionary | null;
  on(event: "state", fn: (state: State) => void): Off;
  stream(begin?: number, end?: number): ReadableStream<Uint8Array>;
}

/** A ServiceWorker, as far as it is used. */
export interface WorkerOf {
  readonly state: string;
  readonly scriptURL: string;
  postMessage(message: Hello): void;
  addEventListener(type: "statechange", fn: () => void): void;
}

/** The page's ServiceWorkerContainer, as far as it is used. */
export interface Container {
  readonly controller: WorkerOf | null;
  register(script: string): Promise<{ readonly scope: string; readonly active: WorkerOf | null; readonly waiting: WorkerOf | null; readonly installing: WorkerOf | null }>;
  addEventListener(type: "message", fn: (event: MessageEvent<ToPage | undefined>) => void): void;
  addEventListener(type: "controllerchange", fn: () => void): void;
  startMessages(): void;
}

/** What streaming needs of the browser. */
export interface StreamingSeams {
  /** Why there is no streaming here, in words for people; null where there may be. */
  readonly unavailable: string | null;
  readonly container: Container | null; // null only where unavailable
  /** The page's own address. */
  readonly address: string;
  readonly clock: Clock;
}

/** How long a service worker may take to come up, in ms: it is fetched, and installed. */
const startPatience = 15_000;

/**
 * How often the worker hears of a page whose streams are open, in ms: browsers stop a service worker that hears
 * nothing for 30 s, streams or not.
 */
const helloInterval = 10_000;

/** Requests that are answered at a time: a media element has two or three. The oldest one makes room. */
const maxRequests = 64;

/** A page's part of streaming. */
export class Streaming {
  readonly #seams: StreamingSeams;
  readonly #contents = new Map<string, Streamable>(); // by full hash; those that have an address
  readonly #requests = new Set<Supply>(); // in the order in which they began; bounded by maxRequests
  readonly #changes = new Set<() => void>(); // called when the controlling worker changes, or says something
  #listening = false;
  #scope: string | null = null; // null until registered
  #worker = ""; // the id of the one that spoke last
  #nextHello: Cancel | null = null; // not null while requests are open

  constructor(seams: StreamingSeams) {
    this.#seams = seams;
  }

  /**
   * Starts the service worker, or finds it running; resolves once {@link streamURL} works. The script is
   * dist/sw.js, or one that imports it, on the page's own server; addresses are given to pages in
   * its folder and below.
   *
   * @param script the script's address, relative to the page's
   * @throws CdnError "streaming_unavailable", whose message says why
   */
  readonly registerStreaming = async (script = "sw.js"): Promise<void> => {
    const { unavailable, container, address } = this.#seams;
    if (container === null || unavailable !== null) throw failure(unavailable ?? "the browser has no service workers");
    this.#listen(container);
    const registration = await container.register(script).catch((error: Error) => {
      throw failure(`the service worker ${script} does not start: ${error.message}`, error);
    });
    if (!address.startsWith(registration.scope)) {
      throw failure(`the service worker answers under ${registration.scope} only, and this page is not there`);
    }
    const found = registration.active ?? registration.waiting ?? registration.installing;
    if (found === null) throw failure(`the service worker ${script} was removed again`);
    await this.#begin(container, found);
    this.#scope = registration.scope;
  };

  /**
   * The address under which the content is read, by media elements, images and fetch of this site, as long as
   * this page is open: any part, in any order; what is not there yet is waited for, and comes first.
   *
   * @throws CdnError "streaming_unavailable" before registerStreaming() has resolved, and while the content is hashed
   */
  readonly streamURL = (content: Streamable): string => {
    if (this.#scope === null) throw failure("call registerStreaming first, and wait for it");
    const { info } = content;
    if (info === null) throw failure("the content is not hashed yet");
    const hash = info.full_hash;
    if (this.#contents.get(hash) !== content) {
      this.#contents.set(hash, content);
      content.on("state", (state) => {
        if ((state === "idle" || state === "failed") && this.#contents.get(hash) === content) this.#contents.delete(hash);
      });
    }
    return new URL(`${folder}${hash}/${encodeURIComponent(info.file_name || "content")}`, this.#scope).href;
  };

  /** Ends every stream, when the page goes. Its own requests end with it: nobody is left to tell of a failure. */
  readonly close = (): void => {
    for (const request of [...this.#requests]) request.end(request.own ? null : "the page was closed");
  };

  #listen(container: Container): void {
    if (this.#listening) return;
    this.#listening = true;
    container.addEventListener("message", ({ data, ports }) => this.#heard(data, ports));
    container.addEventListener("controllerchange", () => this.#changed());
    container.startMessages();
  }

  /** Resolves when the worker runs, has answered, and has this page under its control. */
  #begin(container: Container, worker: WorkerOf): Promise<void> {
    this.#worker = "";
    return new Promise((resolve, reject) => {
      const end = (): void => {
        late();
        this.#changes.delete(look);
      };
      const late = this.#seams.clock.after(startPatience, () => {
        end();
        reject(failure(`the service worker ${worker.scriptURL} does not answer as it should: is it sw.js of this library?`));
      });
      const look = (): void => {
        if (this.#worker === "" || container.controller?.scriptURL !== worker.scriptURL) return;
        end();
        resolve();
      };
      const greet = (): void => {
        if (worker.state === "activated") worker.postMessage({ p2pcdn: "hello" });
      };
      this.#changes.add(look);
      worker.addEventListener("statechange", greet);
      greet();
    });
  }

  #heard(message: ToPage | undefined, ports: readonly MessagePort[]): void {
    if (message?.p2pcdn !== "worker" && message?.p2pcdn !== "open") return;
    if (message.worker !== this.#worker) {
      // What another worker asked for ended with it.
      for (const request of [...this.#requests]) request.end("another service worker took over");
      this.#worker = message.worker;
    }
    const [port] = ports;
    if (message.p2pcdn === "open" && port !== undefined) this.#open(message.hash, message.own, port);
    this.#changed();
  }

  #open(hash: string, own: boolean, port: MessagePort): void {
    const content = this.#contents.get(hash);
    const info = content?.info;
    if (content === undefined || info === null || info === undefined) {
      port.postMessage({ type: "unknown" } satisfies ToWorker);
      return port.close();
    }
    const request = new Supply(port, content, own, () => this.#requests.delete(request));
    this.#requests.add(request);
    for (const oldest of this.#requests) {
      if (this.#requests.size <= maxRequests) break;
      oldest.end("too many requests at a time");
    }
    port.postMessage({ type: "head", length: info.total_length, mediaType: info.content_type } satisfies ToWorker);
    if (this.#nextHello === null) this.#stayAwake();
  }

  /** Keeps the worker from being stopped while requests are open. */
  #stayAwake(): void {
    this.#nextHello = this.#seams.clock.after(helloInterval, () => {
      this.#nextHello = null;
      if (this.#requests.size === 0) return;
      this.#seams.container?.controller?.postMessage({ p2pcdn: "hello" });
      this.#stayAwake();
    });
  }

  #changed(): void {
    for (const change of [...this.#changes]) change();
  }
}

/** One request that is answered from a content. */
class Supply {
  /** Asked for by this page itself. */
  readonly own: boolean;
  readonly #port: MessagePort;
  readonly #content: Streamable;
  readonly #ended: () => void;
  #reader: ReadableStreamDefaultReader<Uint8Array> | null = null;
  #over = false;

  constructor(port: MessagePort, content: Streamable, own: boolean, ended: () => void) {
    this.own = own;
    this.#port = port;
    this.#content = content;
    this.#ended = ended;
    port.onmessage = ({ data }: MessageEvent<ToSource>) => {
      if (data.type === "pull") void this.#pull();
      else if (data.type === "cancel") this.#end();
      else this.#read(data.begin, data.end);
    };
  }

  /** Ends it from the page's side, with a failure where there is one to tell. */
  end(why: string | null): void {
    if (this.#over) return;
    if (why !== null) this.#tell({ type: "failed", message: why });
    this.#end();
  }

  #read(begin: number, end: number): void {
    try {
      this.#reader = this.#content.stream(begin, end).getReader();
    } catch (error) {
      this.end((error as Error).message);
    }
  }

  /** One pull, one chunk. */
  async #pull(): Promise<void> {
    try {
      const { value, done } = (await this.#reader?.read()) ?? { done: true, value: undefined };
      if (this.#over) return;
      if (!done) {
        // A copy of just these bytes: the buffer underneath may be larger, and others may read it.
        const data = new Uint8Array(value);
        return this.#tell({ type: "chunk", data }, [data.buffer]);
      }
      this.#tell({ type: "end" });
      this.#end();
    } catch (error) {
      this.end((error as Error).message);
    }
  }

  #tell(message: ToWorker, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer);
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#reader?.cancel().catch(() => {}); // what failed has been told
    this.#port.close();
    this.#ended();
  }
}

function failure(why: string, cause?: unknown): CdnError {
  return new CdnError("streaming_unavailable", `streaming is not possible here: ${why}`, { cause });
}

/** The page's own streaming, which ends with the page. */
export function pageStreaming(): Streaming {
  const container = (globalThis.navigator as Navigator | undefined)?.serviceWorker as Container | undefined;
  const streaming = new Streaming({
    unavailable: globalThis.isSecureContext ? null : "the page is no secure context (https, or localhost)",
    container: container ?? null,
    address: typeof location === "object" ? location.href : "",
    clock: pageClock,
  });
  // A page that the browser only sets aside may come back.
  if (typeof addEventListener === "function") {
    addEventListener("pagehide", ({ persisted }) => {
      if (!persisted) streaming.close();
    });
  }
  return streaming;
}
