/**
 * The service worker's part: answers requests for contents by asking the page that has
 * them. It keeps nothing that must outlive it: browsers stop a service worker at any time
 * and start it again for the next request.
 */

import type { Bytes } from "../bytes.ts";
import type { Cancel, Clock } from "../clock.ts";
import { folder, type ToPage, type ToSource, type ToWorker } from "./messages.ts";
import { answer, type Asked, type Span } from "./range.ts";

/** A page of the worker's scope: a Client of a service worker. */
export interface Page {
  readonly id: string;
  postMessage(message: ToPage, transfer: Transferable[]): void;
}

/** What the worker needs of the browser. */
export interface WorkerSeams {
  /** The scope's whole address; it ends with "/", or is cut there. */
  readonly scope: string;
  /** Told apart from every other start of the worker. */
  readonly id: string;
  readonly clock: Clock;
  pages(): Promise<readonly Page[]>;
  /** Whether the page is still there. */
  lives(id: string): Promise<boolean>;
  /** Takes every page of the scope under control. */
  claim(): Promise<void>;
}

/** A Request, as far as it is used. */
export interface StreamRequest extends Asked {
  readonly url: string;
  readonly destination: string;
}

/**
 * What contents are given to. Never to what would run them or show them as a document of the
 * origin: they may come from anybody, and a policy of script-src 'self' means other scripts.
 */
const destinations = new Set(["", "audio", "font", "image", "track", "video"]);

/** How long a page may take to say whether it has a content, in ms: it may be busy, or have no peer in it. */
const patience = 3_000;

/** How often is looked whether the page that a stream comes from is still there, in ms. */
const watchInterval = 5_000;

export class StreamWorker {
  readonly #seams: WorkerSeams;
  readonly #prefix: string;

  constructor(seams: WorkerSeams) {
    this.#seams = seams;
    this.#prefix = new URL(folder, seams.scope).href;
  }

  /** The response to a request of the page with that id ("": of none); null where the request is not ours. */
  respond(request: StreamRequest, page: string): Promise<Response> | null {
    const hash = this.#hashOf(request.url);
    if (hash === null) return null;
    if (!destinations.has(request.destination)) {
      return Promise.resolve(refusal(403, `this is content from other people's browsers: not for ${request.destination}`));
    }
    return this.#respond(request, hash, page);
  }

  /** A page said hello. */
  async greeted(page: Page): Promise<void> {
    await this.#seams.claim();
    page.postMessage({ p2pcdn: "worker", worker: this.#seams.id }, []);
  }

  #hashOf(url: string): string | null {
    if (!url.startsWith(this.#prefix)) return null;
    return /^([0-9a-f]{64})\/[^/?#]*(?:[?#]|$)/.exec(url.slice(this.#prefix.length))?.[1] ?? null;
  }

  async #respond(request: StreamRequest, hash: string, page: string): Promise<Response> {
    const found = await this.#find(hash, page);
    if (found === null) return refusal(404, "no open page of this site has this content");
    const { line, length, type } = found;
    const { status, headers, body } = answer(request, { length, type, tag: hash });
    if (body === null || body.begin === body.end) line.end();
    return new Response(body === null ? null : body.begin === body.end ? "" : this.#stream(line, body), { status, headers });
  }

  /**
   * The page that has the content: the one that asks, where it has it; it decides what comes
   * first there. Or else any other one.
   */
  async #find(hash: string, asking: string): Promise<Found | null> {
    const pages = [...(await this.#seams.pages())].sort((a, b) => Number(b.id === asking) - Number(a.id === asking));
    const asked = pages.map((page) => this.#ask(page, hash, page.id === asking));
    for (const answer of asked) {
      const found = await answer;
      if (found === null) continue;
      for (const other of asked) if (other !== answer) void other.then((unneeded) => unneeded?.line.end());
      return found;
    }
    return null;
  }

  /** Asks a page for the content; null where it does not have it, or does not answer. */
  async #ask(page: Page, hash: string, own: boolean): Promise<Found | null> {
    const { port1, port2 } = new MessageChannel();
    const line = new Line(port1, page.id);
    page.postMessage({ p2pcdn: "open", worker: this.#seams.id, hash, own }, [port2]);
    const late = this.#seams.clock.after(patience, () => line.lost("the page does not answer"));
    const told = await line.heard();
    late();
    if (told.type === "head") return { line, length: told.length, type: told.mediaType };
    line.end();
    return null;
  }

  /** The bytes of the span, pulled from the page as they are read. */
  #stream(line: Line, { begin, end }: Span): ReadableStream<Bytes> {
    let unwatch: Cancel = () => {};
    const watch = (): void => {
      unwatch = this.#seams.clock.after(watchInterval, async () => {
        if (await this.#seams.lives(line.page)) watch();
        else line.lost("the page was closed");
      });
    };
    const close = (): void => {
      unwatch();
      line.end();
    };
    const pull = async (controller: ReadableStreamDefaultController<Bytes>): Promise<void> => {
      const told = await line.pull();
      if (told.type === "chunk") return controller.enqueue(told.data);
      close();
      if (told.type === "end") controller.close();
      else controller.error(new TypeError(told.type === "failed" ? told.message : "the page broke the protocol"));
    };
    line.post({ type: "read", begin, end });
    watch();
    // Nothing ahead of its time: the browser has buffers of its own.
    return new ReadableStream({ pull, cancel: close }, { highWaterMark: 0 });
  }
}

/** A page that has the content. */
interface Found {
  readonly line: Line;
  readonly length: number;
  readonly type: string;
}

/** One request's line to the page with that id. It is asked again only after it has answered. */
class Line {
  readonly page: string;
  readonly #port: MessagePort;
  #told: ToWorker | null = null; // and not heard yet
  #hears: ((told: ToWorker) => void) | null = null;
  #over = false; // nothing more will be told

  constructor(port: MessagePort, page: string) {
    this.page = page;
    this.#port = port;
    port.onmessage = ({ data }: MessageEvent<ToWorker>) => this.#tell(data);
  }

  post(message: ToSource): void {
    this.#port.postMessage(message);
  }

  pull(): Promise<ToWorker> {
    if (!this.#over) this.post({ type: "pull" });
    return this.heard();
  }

  /** The next thing that the page tells. */
  heard(): Promise<ToWorker> {
    return new Promise((resolve) => {
      this.#hears = resolve;
      if (this.#told !== null) this.#tell(this.#told);
    });
  }

  /** Answers in place of the page, now and from now on. */
  lost(message: string): void {
    this.#tell({ type: "failed", message });
  }

  /** Leaves the page's end, too; harmless when it is over. */
  end(): void {
    this.post({ type: "cancel" });
    this.#port.close();
  }

  #tell(told: ToWorker): void {
    this.#over ||= told.type === "failed";
    this.#told = this.#hears === null || this.#over ? told : null;
    this.#hears?.(told);
    this.#hears = null;
  }
}

function refusal(status: number, why: string): Response {
  return new Response(`${why}\n`, { status, headers: { "Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff" } });
}
