import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";

import type { State } from "../src/api.ts";
import type { InfoDictionary } from "../src/content.ts";
import { type Container, Streaming, type WorkerOf } from "../src/streaming.ts";
import type { ToPage } from "../src/streaming/messages.ts";
import { answer, parseRange } from "../src/streaming/range.ts";
import { type Page, StreamWorker } from "../src/streaming/worker.ts";
import { FakeClock, settled } from "./clock.ts";

test("a Range header asks for one part, or else for all", () => {
  for (const [header, expected] of [
    [null, "whole"],
    ["bytes=0-", { begin: 0, end: 1000 }],
    ["bytes=0-0", { begin: 0, end: 1 }],
    ["bytes=10-19", { begin: 10, end: 20 }],
    ["Bytes = 10-19 ", { begin: 10, end: 20 }],
    ["bytes=999-", { begin: 999, end: 1000 }],
    ["bytes=990-5000", { begin: 990, end: 1000 }],
    ["bytes=990-99999999999999999999999", { begin: 990, end: 1000 }],
    ["bytes=-1", { begin: 999, end: 1000 }],
    ["bytes=-1000", { begin: 0, end: 1000 }],
    ["bytes=-5000", { begin: 0, end: 1000 }],
    ["bytes=1000-", "unsatisfiable"],
    ["bytes=1000-2000", "unsatisfiable"],
    ["bytes=99999999999999999999999-", "unsatisfiable"],
    ["bytes=-0", "unsatisfiable"],
    // What may be ignored is ignored.
    ["bytes=", "whole"],
    ["bytes=-", "whole"],
    ["bytes=20-10", "whole"],
    ["bytes=1-2,5-6", "whole"],
    ["bytes=a-b", "whole"],
    ["bytes=1.5-2", "whole"],
    ["bytes=0x1-", "whole"],
    ["bytes 0-5", "whole"],
    ["items=0-5", "whole"],
    ["", "whole"],
  ] as const) {
    assert.deepEqual(parseRange(header, 1000), expected, String(header));
  }
});

test("the empty content has no part", () => {
  assert.equal(parseRange(null, 0), "whole");
  for (const header of ["bytes=0-", "bytes=-1", "bytes=0-0"]) assert.equal(parseRange(header, 0), "unsatisfiable", header);
});

const film = { length: 1000, type: "video/webm", tag: "ab".repeat(32) };

function head(fields: Record<string, string>, method = "GET", resource = film): ReturnType<typeof answer> {
  return answer({ method, headers: new Headers(fields) }, resource);
}

test("a response says which part follows", () => {
  const part = head({ Range: "bytes=100-" });
  assert.equal(part.status, 206);
  assert.deepEqual(part.body, { begin: 100, end: 1000 });
  assert.equal(part.headers["Content-Range"], "bytes 100-999/1000");
  assert.equal(part.headers["Content-Length"], "900");
  assert.equal(part.headers["Content-Type"], "video/webm");
  assert.equal(part.headers["Accept-Ranges"], "bytes");

  const whole = head({});
  assert.equal(whole.status, 200);
  assert.deepEqual(whole.body, { begin: 0, end: 1000 });
  assert.equal(whole.headers["Content-Range"], undefined);
  assert.equal(whole.headers["Content-Length"], "1000");

  const beyond = head({ Range: "bytes=1000-" });
  assert.equal(beyond.status, 416);
  assert.equal(beyond.body, null);
  assert.equal(beyond.headers["Content-Range"], "bytes */1000");
});

test("HEAD has the head alone, other methods are refused", () => {
  const alone = head({ Range: "bytes=0-9" }, "HEAD");
  assert.deepEqual([alone.status, alone.headers["Content-Length"], alone.body], [206, "10", null]);
  const posted = head({}, "POST");
  assert.deepEqual([posted.status, posted.headers["Allow"], posted.body], [405, "GET, HEAD", null]);
});

test("a part of another version is the whole of this one", () => {
  const [same, other] = [`"${film.tag}"`, `"other"`].map((tag) => head({ Range: "bytes=5-", "If-Range": tag }).status);
  assert.deepEqual([same, other], [206, 200]);
});

test("content of no type, or of any, is never a document or a script of the origin", () => {
  const { headers } = head({}, "GET", { ...film, type: "" });
  assert.equal(headers["Content-Type"], "application/octet-stream");
  const page = head({}, "GET", { ...film, type: "text/html" }).headers;
  assert.match(page["Content-Security-Policy"] ?? "", /\bsandbox\b/);
  assert.equal(page["X-Content-Type-Options"], "nosniff");
});

// The worker and pages, over real channels.

const scope = "https://site.example/films/";

/** A content whose byte at i is i mod 251, of which only so many bytes have come. */
class FakeContent {
  readonly info: InfoDictionary;
  readonly pulled: number[] = []; // where each chunk began
  cancelled = 0;
  come: number;
  #state: (state: State) => void = () => {};
  #waiting: (() => void)[] = [];

  constructor(length: number, digit = "a", come = length) {
    this.info = { full_hash: digit.repeat(64), file_name: "Ein Film?.webm", content_type: "video/webm", total_length: length, piece_length: 16384 };
    this.come = come;
  }

  on(_event: "state", fn: (state: State) => void): () => void {
    this.#state = fn;
    return () => {};
  }

  end(state: "idle" | "failed"): void {
    this.#state(state);
  }

  arrive(come: number): void {
    this.come = come;
    for (const go of this.#waiting.splice(0)) go();
  }

  stream(begin = 0, end = this.info.total_length): ReadableStream<Uint8Array> {
    let at = begin;
    return new ReadableStream(
      {
        pull: async (controller) => {
          if (at === end) return controller.close();
          while (at >= this.come) await new Promise<void>((resolve) => this.#waiting.push(resolve));
          this.pulled.push(at);
          // A view into a larger buffer, as stores give it.
          const buffer = bytesOf(at, Math.min(end, at + 100) - at + 50);
          controller.enqueue(buffer.subarray(0, Math.min(end - at, 100)));
          at = Math.min(end, at + 100);
        },
        cancel: () => void this.cancelled++,
      },
      { highWaterMark: 0 },
    );
  }
}

function bytesOf(begin: number, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => (begin + i) % 251);
}

/** A browser: pages, and the service worker, which can be stopped. */
class Browser {
  readonly clock = new FakeClock();
  readonly pages = new Map<string, Tab>();
  hellos = 0;
  starts = 0;
  #worker: StreamWorker | null = null;
  readonly #tabs: Tab[] = []; // the closed ones, too

  /** Ends with the test what nobody read to its end. */
  constructor(t: TestContext) {
    t.after(() => this.#tabs.forEach(({ streaming }) => streaming.close()));
  }

  open(id: string, { deaf = false } = {}): Tab {
    const tab = new Tab(this, id, deaf);
    this.pages.set(id, tab);
    this.#tabs.push(tab);
    return tab;
  }

  /** Starts the worker where it does not run. */
  get worker(): StreamWorker {
    this.#worker ??= new StreamWorker({
      scope,
      id: `start ${++this.starts}`,
      clock: this.clock,
      pages: async () => [...this.pages.values()],
      lives: async (id) => this.pages.has(id),
      claim: async () => {
        for (const tab of this.pages.values()) tab.claimed();
      },
    });
    return this.#worker;
  }

  stop(): void {
    this.#worker = null;
  }

  greeted(tab: Tab): void {
    this.hellos++;
    void this.worker.greeted(tab);
  }

  /** A request of a page, as the browser hands it to the worker. */
  get(url: string, from: string, range?: string, destination = "video"): Promise<Response> | null {
    return this.worker.respond({ url, method: "GET", headers: new Headers(range === undefined ? {} : { Range: range }), destination }, from);
  }
}

/** A page with its own end of everything. */
class Tab implements Page, Container {
  readonly id: string;
  readonly streaming: Streaming;
  controller: WorkerOf | null = null;
  #browser: Browser;
  #deaf: boolean;
  #message: (event: MessageEvent<ToPage | undefined>) => void = () => {};
  #change: () => void = () => {};

  constructor(browser: Browser, id: string, deaf: boolean) {
    this.id = id;
    this.#browser = browser;
    this.#deaf = deaf;
    this.streaming = new Streaming({ unavailable: null, container: this, address: `${scope}index.html`, clock: browser.clock });
  }

  get #workerOf(): WorkerOf {
    return { state: "activated", scriptURL: `${scope}sw.js`, postMessage: () => this.#browser.greeted(this), addEventListener: () => {} };
  }

  async register(script: string): Promise<{ scope: string; active: WorkerOf; waiting: null; installing: null }> {
    if (script !== "sw.js") throw new TypeError("404");
    return { scope, active: this.#workerOf, waiting: null, installing: null };
  }

  addEventListener(type: "message" | "controllerchange", fn: never): void {
    if (type === "message") this.#message = fn;
    else this.#change = fn;
  }

  startMessages(): void {}

  claimed(): void {
    this.controller = this.#workerOf;
    this.#change();
  }

  postMessage(data: ToPage, ports: Transferable[]): void {
    if (this.#deaf) for (const port of ports) (port as MessagePort).close();
    else this.#message({ data, ports } as unknown as MessageEvent<ToPage>);
  }

  close(): void {
    this.#browser.pages.delete(this.id);
  }
}

async function read(response: Response | null | undefined): Promise<Uint8Array> {
  return new Uint8Array(await (response as Response).arrayBuffer());
}

test("an address under the scope, and any part of the content at it", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const content = new FakeContent(1000);
  const url = tab.streaming.streamURL(content);
  assert.equal(url, `${scope}p2pcdn/${"a".repeat(64)}/Ein%20Film%3F.webm`);

  const part = await browser.get(url, "one", "bytes=250-649");
  assert.deepEqual([part?.status, part?.headers.get("Content-Range")], [206, "bytes 250-649/1000"]);
  assert.deepEqual(await read(part), bytesOf(250, 400));
  assert.deepEqual(await read(await browser.get(`${url}#t=5`, "one")), bytesOf(0, 1000));
  assert.deepEqual(await read(await browser.get(url, "one", "bytes=-1")), bytesOf(999, 1));
  assert.equal((await browser.get(url, "one", "bytes=1000-"))?.status, 416);
});

test("the page sends no more than is read, and stops when nobody reads", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const content = new FakeContent(100_000);
  const response = await browser.get(tab.streaming.streamURL(content), "one", "bytes=0-");
  const reader = (response?.body as ReadableStream<Uint8Array>).getReader();
  for (let i = 0; i < 5; i++) await settled();
  assert.deepEqual(content.pulled, []);
  await reader.read();
  await reader.read();
  for (let i = 0; i < 5; i++) await settled();
  assert.deepEqual(content.pulled, [0, 100]);
  await reader.cancel();
  await until(() => content.cancelled === 1);
});

test("what has not come yet is waited for", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const content = new FakeContent(300, "a", 100);
  const reading = read(await browser.get(tab.streaming.streamURL(content), "one"));
  await until(() => content.pulled.length === 1);
  content.arrive(300);
  assert.deepEqual(await reading, bytesOf(0, 300));
});

test("of several pages the one that asks is asked first, then whichever has it", async (t) => {
  const browser = new Browser(t);
  const tabs = ["one", "two", "three"].map((id) => browser.open(id));
  for (const tab of tabs) await tab.streaming.registerStreaming();
  const [own, other] = [new FakeContent(100), new FakeContent(100)];
  const url = tabs[1]?.streaming.streamURL(other) as string;
  tabs[2]?.streaming.streamURL(own);

  await read(await browser.get(url, "three"));
  assert.deepEqual([own.pulled.length, other.pulled.length], [1, 0]);
  tabs[2]?.close();
  for (const from of ["one", "two", ""]) await read(await browser.get(url, from));
  assert.deepEqual([own.pulled.length, other.pulled.length], [1, 3]);
});

test("a page that does not answer, and contents that nobody has", async (t) => {
  const browser = new Browser(t);
  browser.open("deaf", { deaf: true }); // a page without streaming
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const url = tab.streaming.streamURL(new FakeContent(100));
  const slow = browser.get(url, "deaf");
  await browser.clock.pass(3_000);
  assert.equal((await slow)?.status, 200);

  const missing = browser.get(url.replace(/a{64}/, "b".repeat(64)), "one");
  await browser.clock.pass(3_000);
  assert.equal((await missing)?.status, 404);
});

test("other requests are left alone, and nothing runs what others sent", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const url = tab.streaming.streamURL(new FakeContent(100));
  for (const other of [`${scope}index.html`, `${scope}p2pcdn/`, `${scope}p2pcdn/abc/x`, `${scope}p2pcdn/${"A".repeat(64)}/x`, `${url}/more`, url.replace("/films/", "/"), url.replace("site.", "")]) {
    assert.equal(browser.get(other, "one"), null, other);
  }
  for (const destination of ["document", "iframe", "script", "style", "worker", "object", "embed", "xslt"]) {
    assert.equal((await browser.get(url, "one", undefined, destination))?.status, 403, destination);
  }
});

test("a content that was left is not there any more", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  for (const state of ["idle", "failed"] as const) {
    const content = new FakeContent(100);
    const url = tab.streaming.streamURL(content);
    assert.equal((await browser.get(url, "one"))?.status, 200);
    content.end(state);
    assert.equal((await browser.get(url, "one"))?.status, 404);
  }
});

test("a stream whose page is closed fails: at once where it says so, soon where it cannot", async (t) => {
  const browser = new Browser(t);
  browser.open("watching");
  for (const [id, leave] of [
    ["polite", (tab: Tab) => tab.streaming.close()],
    ["crashed", () => {}],
  ] as const) {
    const tab = browser.open(id);
    await tab.streaming.registerStreaming();
    const content = new FakeContent(300, "a", 100);
    const response = browser.get(tab.streaming.streamURL(content), "watching");
    await browser.clock.pass(3_000); // the watching page has no streaming
    const failed = assert.rejects(read(await response), /closed/, id);
    await until(() => content.pulled.length === 1);
    tab.close();
    leave(tab);
    if (id === "crashed") await browser.clock.pass(5_000);
    await failed;
  }
});

test("a page that is closed is not told of its own streams", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const content = new FakeContent(300, "a", 100);
  const reader = (await browser.get(tab.streaming.streamURL(content), "one"))?.body?.getReader();
  await reader?.read();
  const next = reader?.read();
  tab.streaming.close();
  await until(() => content.cancelled === 1);
  await reader?.cancel(); // what the browser does
  assert.deepEqual(await next, { value: undefined, done: true });
});

test("a content that fails ends its streams with an error", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const content = new FakeContent(300);
  content.stream = () => new ReadableStream({ pull: (controller) => controller.error(new Error("the disk burns")) });
  await assert.rejects(read(await browser.get(tab.streaming.streamURL(content), "one")), /the disk burns/);
  content.stream = () => {
    throw new Error("stopped");
  };
  await assert.rejects(read(await browser.get(tab.streaming.streamURL(content), "one")), /stopped/);
});

test("the worker is kept awake while streams are open, and a new one goes on where the old one stopped", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const content = new FakeContent(1000);
  const url = tab.streaming.streamURL(content);
  const old = await browser.get(url, "one");
  await browser.clock.pass(25_000);
  assert.equal(browser.hellos, 3);

  browser.stop();
  assert.deepEqual(await read(await browser.get(url, "one", "bytes=900-")), bytesOf(900, 100));
  assert.equal(browser.starts, 2);
  await until(() => content.cancelled === 1); // what the old one was sending
  await old?.body?.cancel();
  await browser.clock.pass(60_000);
  assert.equal(browser.hellos, 3);
});

test("the oldest requests make room", async (t) => {
  const browser = new Browser(t);
  const tab = browser.open("one");
  await tab.streaming.registerStreaming();
  const content = new FakeContent(1000);
  const url = tab.streaming.streamURL(content);
  const open: (Response | null)[] = [];
  for (let i = 0; i < 65; i++) open.push(await browser.get(url, "one"));
  await assert.rejects(read(open[0]), /too many/);
  assert.deepEqual(await read(open[1]), bytesOf(0, 1000));
});

test("where there is no streaming the error says why", async (t) => {
  const clock = new FakeClock();
  const content = new FakeContent(1);
  const refused = (message: RegExp) => ({ code: "streaming_unavailable", message });

  const insecure = new Streaming({ unavailable: "the page is no secure context", container: null, address: "http://a/", clock });
  await assert.rejects(insecure.registerStreaming(), refused(/secure context/));
  assert.throws(() => insecure.streamURL(content), refused(/registerStreaming/));

  const without = new Streaming({ unavailable: null, container: null, address: "https://a/", clock });
  await assert.rejects(without.registerStreaming(), refused(/no service workers/));

  const browser = new Browser(t);
  const elsewhere = browser.open("one");
  await assert.rejects(elsewhere.streaming.registerStreaming("nothing.js"), refused(/nothing\.js does not start: 404/));
  const outside = new Streaming({ unavailable: null, container: elsewhere, address: "https://site.example/", clock });
  await assert.rejects(outside.registerStreaming(), refused(/is not there/));

  // A service worker that is somebody else's says nothing.
  browser.greeted = () => {};
  const silent = assert.rejects(elsewhere.streaming.registerStreaming(), refused(/does not answer/));
  await browser.clock.pass(15_000);
  await silent;
});

test("a content that is being hashed has no address yet", async (t) => {
  const tab = new Browser(t).open("one");
  await tab.streaming.registerStreaming();
  const hashing = Object.assign(new FakeContent(1), { info: null });
  assert.throws(() => tab.streaming.streamURL(hashing), /hashed/);
});

/** Waits for what comes over channels, which have a thread of their own. */
async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; !condition(); turn++) {
    assert.ok(turn < 10_000, "it never came");
    await settled();
  }
}
