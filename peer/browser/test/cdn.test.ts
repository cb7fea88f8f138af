import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClientOptions, Content, SeedOptions } from "../src/api.ts";
import { Site } from "../src/cdn.ts";
import type { Client } from "../src/client.ts";
import type { InfoDictionary } from "../src/content.ts";

/** A client that a test answers for. */
class FakeClient {
  readonly options: ClientOptions;
  readonly wanted = new Map<string, (blob: Blob) => void>();
  iceServers: unknown = null;
  closed = false;

  constructor(options: ClientOptions) {
    this.options = options;
  }

  get(info: InfoDictionary): Content {
    const done = new Promise<Blob>((resolve) => this.wanted.set(info.file_name, resolve));
    return { info, done } as unknown as Content;
  }

  seed(file: Blob, _options?: SeedOptions): Content {
    const progress: ((value: { bytes: number; total: number }) => void)[] = [];
    const ready = Promise.resolve().then(() => {
      for (const fn of progress) fn({ bytes: 1, total: file.size });
      return dictionary("seeded");
    });
    return { state: "hashing", ready, on: (_: string, fn: (typeof progress)[0]) => progress.push(fn) } as unknown as Content;
  }

  overrideICEServers(servers: unknown): void {
    this.iceServers = servers;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

function dictionary(name: string): InfoDictionary {
  return { full_hash: "a".repeat(64), file_name: name, content_type: "image/png", total_length: 3, piece_length: 65536 };
}

interface Element {
  src?: string;
  href?: string;
  download?: string;
}

/** A page with elements by selector. */
function page(elements: Record<string, Element[]>, readyState = "complete"): { document: Document; parsed: () => void } {
  const waiting: (() => void)[] = [];
  const document = {
    readyState,
    querySelectorAll: (selector: string) => elements[selector] ?? [],
    addEventListener: (_: string, fn: () => void) => waiting.push(fn),
  };
  return { document: document as unknown as Document, parsed: () => waiting.forEach((fn) => fn()) };
}

function setup(elements: Record<string, Element[]> = {}, readyState?: string): { site: Site; clients: FakeClient[]; parsed: () => void } {
  const clients: FakeClient[] = [];
  const { document, parsed } = page(elements, readyState);
  const site = new Site(document, (options) => {
    clients.push(new FakeClient(options));
    return clients.at(-1) as unknown as Client;
  });
  return { site, clients, parsed };
}

const later = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function text(url: string | undefined): Promise<string> {
  return (await fetch(url as string)).text();
}

test("images get the file as their src, anchors as href and download", async () => {
  const [one, two, anchor]: Element[] = [{}, {}, {}];
  const elements = { "img.logo": [one, two], "#get": [anchor] } as Record<string, Element[]>;
  const { site, clients } = setup(elements);
  site.initialize([dictionary("logo.png"), JSON.stringify(dictionary("doc.pdf"))], "ws://a/mediation");
  assert.deepEqual(clients[0]?.options.mediators, ["ws://a/mediation"]);
  assert.equal(clients[0]?.wanted.size, 0, "nothing is downloaded before it is wanted");
  site.includeImages("logo.png", "img.logo");
  site.includeDownloads(["doc.pdf"], ["#get"]);
  clients[0]?.wanted.get("logo.png")?.(new Blob(["png"]));
  clients[0]?.wanted.get("doc.pdf")?.(new Blob(["pdf"], { type: "application/pdf" }));
  await later();
  assert.equal(await text(one?.src), "png");
  assert.equal(await text(two?.src), "png");
  assert.equal(anchor?.download, "doc.pdf");
  const offered = await fetch(anchor?.href as string);
  assert.deepEqual([await offered.text(), offered.headers.get("content-type")], ["pdf", "application/octet-stream"]);
  site.initialize();
  assert.ok(clients[0]?.closed);
  await assert.rejects(fetch(one?.src as string), "the object URL was not freed");
});

test("a file that is there before the page is waits for it", async () => {
  const elements: Record<string, Element[]> = {};
  const { site, clients, parsed } = setup(elements, "loading");
  site.initialize([dictionary("a")]);
  site.includeImages("a", "img");
  clients[0]?.wanted.get("a")?.(new Blob(["x"]));
  await later();
  const image: Element = {};
  elements["img"] = [image];
  parsed();
  assert.equal(await text(image.src), "x");
});

test("a function hears of a file with its dictionary", async () => {
  const { site, clients } = setup();
  site.initialize([dictionary("a")]);
  const heard: unknown[] = [];
  site.onFileDownloaded("a", (blob, info) => heard.push(blob.size, info.file_name));
  clients[0]?.wanted.get("a")?.(new Blob(["xyz"]));
  await later();
  assert.deepEqual(heard, [3, "a"]);
});

test("what is named wrongly is said at once", () => {
  const { site, clients } = setup();
  assert.throws(() => site.initialize([dictionary("a"), dictionary("a")]), { code: "duplicate_name" });
  assert.throws(() => site.initialize(["{}"]), { code: "bad_full_hash" });
  assert.equal(clients.length, 0);
  site.initialize([dictionary("a")]);
  assert.throws(() => site.includeImages("b", "img"), { code: "unknown_file" });
  assert.throws(() => site.includeDownloads(["a"], []), RangeError);
  assert.throws(() => site.onFileDownloaded("b", () => {}), { code: "unknown_file" });
});

test("a file is seeded without more ado, with hashing progress", async () => {
  const { site, clients } = setup();
  const seen: number[][] = [];
  const info = await site.seedFile(new Blob(["abc"]), (hashed, total) => seen.push([hashed, total]));
  assert.equal(info.file_name, "seeded");
  assert.deepEqual(seen, [[1, 3], [info.total_length, info.total_length]]); // it ends at all of it
  assert.deepEqual(clients[0]?.options, {});
});

test("ICE servers can be overridden before and after", () => {
  const { site, clients } = setup();
  site.overrideICECandidates([{ urls: "stun:a" }]);
  site.initialize([]);
  assert.deepEqual(clients[0]?.options.iceServers, [{ urls: "stun:a" }]);
  site.overrideICECandidates([]);
  assert.deepEqual(clients[0]?.iceServers, []);
  site.close();
  assert.ok(clients[0]?.closed);
});
