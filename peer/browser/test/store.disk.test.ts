import assert from "node:assert/strict";
import { test } from "node:test";
import type { Bytes } from "../src/bytes.ts";
import { encodeInfo, Geometry, type Info, hashLeaves, hashPiece, LeafLength } from "../src/content.ts";
import {
  Disk,
  type DiskStore,
  MemoryBudget,
  memoryFor,
  MemoryStore,
  type Opened,
  openStore,
  type Storage,
  type Store,
  type StoreError,
  type WorkerLike,
} from "../src/store.ts";
import type { Reply, Request } from "../src/store/messages.ts";
import { type Port, serve } from "../src/store/serve.ts";
import { Vault } from "../src/store/vault.ts";
import { settled } from "./clock.ts";
import { type FakeAgent, FakeOrigin } from "./origin.ts";
import { randomBytes } from "./world.ts";

const pieceLength = 4 * LeafLength;
const week = 7 * 24 * 3_600_000;
const mib = 1 << 20;

/** A content of five pieces, the last one of a leaf and a bit. */
async function content(
  seed: number,
  total = 4 * pieceLength + LeafLength + 7,
  data: Bytes = randomBytes(seed, total),
): Promise<{ info: Info; data: Bytes; piece: (n: number) => Bytes }> {
  const geometry = new Geometry(total, pieceLength);
  const piece = (n: number): Bytes => data.slice(geometry.pieceOffset(n), geometry.pieceOffset(n) + geometry.pieceSize(n));
  const hashes = await Promise.all(Array.from({ length: geometry.pieces }, (_, n) => hashPiece(geometry, piece(n))));
  const info: Info = {
    fullHash: geometry.root(hashes), fileName: "a.bin", contentType: "image/png",
    totalLength: total, pieceLength, pieceHashes: hashes.length > 1 ? hashes : null,
  };
  return { info, data, piece };
}

type Content = Awaited<ReturnType<typeof content>>;

/** A content of 2 MiB, 32 pieces. */
function large(seed: number): Promise<Content> {
  return content(seed, 2 * mib, new Uint8Array(2 * mib).fill(seed));
}

/** A worker in this program: messages are copied, and come later. */
class FakeWorker implements WorkerLike {
  onmessage: WorkerLike["onmessage"] = null;
  onmessageerror: WorkerLike["onmessageerror"] = null;
  onerror: WorkerLike["onerror"] = null;
  terminated = false;
  readonly heard: string[] = []; // the types of what it was asked
  readonly agent: FakeAgent;
  readonly #port: Port;

  /** Mute: it never says anything. */
  constructor(agent: FakeAgent, mute = false) {
    this.agent = agent;
    this.#port = {
      onmessage: null,
      postMessage: (message, transfer) => {
        const copy = message.type === "done" && message.value instanceof Blob ? message : structuredClone(message, { transfer });
        queueMicrotask(() => {
          if (!this.terminated && !mute) this.onmessage?.({ data: copy } as MessageEvent<Reply>);
        });
      },
    };
    queueMicrotask(() => serve(this.#port, new Vault(agent)));
  }

  postMessage(message: Request, transfer: Transferable[]): void {
    this.heard.push(message.type);
    const copy = structuredClone(message, { transfer });
    queueMicrotask(() => {
      if (!this.terminated) this.#port.onmessage?.({ data: copy });
    });
  }

  terminate(): void {
    this.terminated = true;
    this.agent.end();
  }
}

/** A page of the origin. */
class Page {
  readonly workers: FakeWorker[] = [];
  readonly disk: Disk;
  mute = false;

  constructor(origin: FakeOrigin) {
    this.disk = new Disk({
      unavailable: null,
      clock: origin.clock,
      root: () => origin.agent().root(),
      start: () => {
        const worker = new FakeWorker(origin.agent(), this.mute);
        this.workers.push(worker);
        return worker;
      },
    });
  }

  async open({ info }: Content): Promise<DiskStore> {
    return (await this.disk.open(info)).store;
  }

  /** It is closed, or reloaded: nobody says goodbye. */
  leave(): void {
    for (const worker of this.workers) worker.terminate();
  }
}

/** Keeps whole pieces, leaf by leaf, and settles them. */
async function fill(store: DiskStore, { piece }: Content, pieces: readonly number[]): Promise<void> {
  for (const n of pieces) {
    const data = piece(n);
    for (let begin = 0; begin < data.length; begin += LeafLength) await store.keep(n, begin, data.slice(begin, begin + LeafLength));
    store.settle(n);
  }
  // Behind the settling, as calls are carried out in order.
  if (pieces.length > 0) await store.read(pieces.at(-1) as number, 0, 1);
}

/** The pieces that a store says are there. */
async function have(store: DiskStore, { info }: Content, progress?: (done: number, total: number) => void): Promise<number[]> {
  const bits = await store.check(info, progress);
  return Array.from({ length: bits.pieces }, (_, n) => n).filter((n) => bits.has(n));
}

/** Lets time pass until the promise is done. */
async function inTime<T>(origin: FakeOrigin, promise: Promise<T>): Promise<T> {
  let done = false;
  promise.then(() => (done = true), () => (done = true));
  while (!done) await origin.clock.pass(10, () => done);
  return promise;
}

/** A later visit: what it finds. */
async function revisit(origin: FakeOrigin, what: Content): Promise<number[]> {
  const page = new Page(origin);
  const found = await have(await page.open(what), what);
  page.leave();
  return found;
}

/** An earlier visit that kept these pieces. */
async function visited(origin: FakeOrigin, what: Content, pieces: readonly number[]): Promise<void> {
  const page = new Page(origin);
  await fill(await page.open(what), what, pieces);
  page.leave();
}

function reason(wanted: StoreError["reason"], says = /./): (error: StoreError) => boolean {
  return (error) => {
    assert.equal(error.code, "store_failed");
    assert.equal(error.reason, wanted, error.message);
    assert.match(error.message, says);
    return true;
  };
}

const all = [0, 1, 2, 3, 4];
const all32 = Array.from({ length: 32 }, (_, n) => n);
const path = ({ info }: Content, file: string): string => `p2pcdn/${info.fullHash}/${file}`;

test("blocks are hashed leaf by leaf, and their buffer is handed over", async () => {
  const what = await content(1);
  const store = await new Page(new FakeOrigin()).open(what);
  const frame = new Uint8Array([...new Uint8Array(11), ...what.piece(4)]);
  const hashes = await store.keep(4, 0, frame.subarray(11));
  assert.deepEqual(hashes, await hashLeaves(what.piece(4)));
  assert.equal(frame.buffer.byteLength, 0);
});

test("what is settled is there on the next visit, and nothing else", async () => {
  const [origin, what] = [new FakeOrigin(), await content(2)];
  const page = new Page(origin);
  const store = await page.open(what);
  assert.deepEqual(await have(store, what), []);
  await fill(store, what, [1, 4]);
  await store.keep(2, 0, what.piece(2)); // right, but nobody has found it so
  page.leave();

  const again = new Page(origin);
  const told: [number, number][] = [];
  const reopened = await again.open(what);
  assert.deepEqual(await have(reopened, what, (done, total) => told.push([done, total])), [1, 4]);
  const size = pieceLength + LeafLength + 7;
  assert.deepEqual(told.at(-1), [size, size]);
  await fill(reopened, what, [0]);
  await reopened.close(false);
  assert.deepEqual(await revisit(origin, what), [0, 1, 4]);
});

test("the worker is told of several settled pieces at a time, and in good time", async () => {
  const [origin, what] = [new FakeOrigin(), await content(21)];
  const page = new Page(origin);
  const store = await page.open(what);
  await have(store, what);
  const told = (): number => page.workers[0]?.heard.filter((type) => type === "settle").length ?? 0;
  for (const n of [3, 0, 1]) {
    await store.keep(n, 0, what.piece(n));
    store.settle(n);
  }
  assert.equal(told(), 0);
  await inTime(origin, new Promise<void>((resolve) => origin.clock.after(250, resolve)));
  assert.equal(told(), 1);
  for (const n of [4, 2]) {
    await store.keep(n, 0, what.piece(n));
    store.settle(n);
  }
  assert.deepEqual(await store.read(2, 0, 9), what.piece(2).slice(0, 9)); // which the worker must know by then
  assert.equal(told(), 2);
  await inTime(origin, new Promise<void>((resolve) => origin.clock.after(1000, resolve)));
  assert.equal(told(), 2, "it was told of nothing");
  page.leave();
  assert.deepEqual(await revisit(origin, what), all);
});

test("the whole content, from the disk, and whole again on the next visit", async () => {
  const [origin, what] = [new FakeOrigin(), await content(3)];
  const page = new Page(origin);
  const store = await page.open(what);
  await fill(store, what, [4, 3, 2, 1]);
  await assert.rejects(store.complete(), reason("broken", /4 of 5 pieces/));
  await fill(store, what, [0]);
  const [blob, early] = await Promise.all([store.complete(), store.read(2, 5, 100)]);
  assert.equal(blob.type, "image/png");
  assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), what.data);
  assert.deepEqual(early, what.piece(2).slice(5, 105));
  assert.deepEqual(await store.read(3, 0, 100), what.piece(3).slice(0, 100));
  assert.equal(page.workers[0]?.agent.handles.size, 0, "nothing keeps the file");
  page.leave();

  const again = await new Page(origin).open(what);
  assert.deepEqual(await have(again, what), all);
  assert.deepEqual(new Uint8Array(await (await again.complete()).arrayBuffer()), what.data);
});

test("contents of one piece, and the empty one", async () => {
  for (const total of [0, 1, 3 * LeafLength]) {
    const [origin, what] = [new FakeOrigin(), await content(4, total)];
    const page = new Page(origin);
    const store = await page.open(what);
    assert.deepEqual(await have(store, what), []);
    await store.keep(0, 0, what.piece(0));
    store.settle(0);
    assert.equal((await store.complete()).size, total);
    page.leave();
    assert.deepEqual(await revisit(origin, what), [0]);
  }
});

test("the later one of two blocks stands, and none after the piece is settled", async () => {
  const [origin, what] = [new FakeOrigin(), await content(5)];
  const store = await new Page(origin).open(what);
  const wrong = (): Bytes => new Uint8Array(LeafLength);
  const both = [store.keep(0, 0, wrong()), store.keep(0, 0, what.piece(0).slice(0, LeafLength))];
  await Promise.all(both);
  store.settle(0);
  assert.deepEqual(await store.read(0, 0, 50), what.piece(0).slice(0, 50));
  assert.deepEqual(await store.keep(0, 0, wrong()), await hashLeaves(wrong()));
  assert.deepEqual(await store.read(0, 0, 50), what.piece(0).slice(0, 50));
  await assert.rejects(store.read(1, 0, 50), reason("broken", /piece 1 is not kept/));
});

test("a link alone: the piece hashes of an earlier visit are known", async () => {
  const [origin, what] = [new FakeOrigin(), await content(6)];
  await visited(origin, what, [0]);
  const { info } = await new Page(origin).disk.open({ ...what.info, pieceHashes: null, fileName: "other.bin" });
  assert.deepEqual(info, { ...what.info, fileName: "other.bin" });
});

test("a link first: the piece hashes are remembered once they are known", async () => {
  const [origin, what] = [new FakeOrigin(), await content(7)];
  const bare = { ...what.info, pieceHashes: null };
  const page = new Page(origin);
  const { store, info } = await page.disk.open(bare);
  assert.equal(info.pieceHashes, null);
  assert.deepEqual(await have(store, what), []);
  await fill(store, what, [3]);
  page.leave();
  const again = await new Page(origin).disk.open(bare);
  assert.deepEqual(again.info.pieceHashes, what.info.pieceHashes);
  assert.deepEqual(await have(again.store, what), [3]);
});

test("what claims too much is found out", async (t) => {
  const what = await content(8);
  const other = await content(9, what.info.totalLength);
  const changes: [string, (origin: FakeOrigin) => void, number[]][] = [
    ["nothing", () => {}, [0, 1, 4]],
    ["bits of pieces that were never kept", (o) => (o.file(path(what, "pieces")).bytes = Uint8Array.of(0xf8)), [0, 1, 4]],
    ["a piece that changed", (o) => (o.file(path(what, "data")).bytes[pieceLength + 3]! ^= 1), [0, 4]],
    ["data that were cut off", (o) => (o.file(path(what, "data")).bytes = what.data.slice(0, 4 * pieceLength + 5)), [0, 1]],
    ["data that are gone", (o) => void o.files.delete(path(what, "data")), []],
    ["bits beyond the pieces", (o) => (o.file(path(what, "pieces")).bytes = Uint8Array.of(0xc9)), []],
    ["too many bits", (o) => (o.file(path(what, "pieces")).bytes = Uint8Array.of(0xc8, 0)), []],
    ["no bits", (o) => (o.file(path(what, "pieces")).bytes = new Uint8Array()), []],
    ["a dictionary that is none", (o) => (o.file(path(what, "info.json")).bytes = Uint8Array.of(0x7b)), []],
    ["no dictionary", (o) => void o.files.delete(path(what, "info.json")), []],
    ["the dictionary of another content", (o) => write(o, encodeInfo(other.info)), []],
    ["another length", (o) => write(o, encodeInfo({ ...what.info, totalLength: what.info.totalLength - 1 })), []],
    ["other pieces", (o) => write(o, encodeInfo({ ...what.info, pieceHashes: null, pieceLength: 2 * pieceLength })), []],
    ["piece hashes that contradict", (o) => write(o, encodeInfo({ ...what.info, pieceHashes: other.info.pieceHashes })), []],
  ];
  function write(origin: FakeOrigin, text: string): void {
    origin.file(path(what, "info.json")).bytes = new TextEncoder().encode(text) as Bytes;
  }
  for (const [name, change, found] of changes) {
    await t.test(name, async () => {
      const origin = new FakeOrigin();
      await visited(origin, what, [0, 1, 4]);
      change(origin);
      const page = new Page(origin);
      const { store, info } = await page.disk.open({ ...what.info, pieceHashes: null });
      assert.ok(info.pieceHashes === null || info.pieceHashes.every((hash, n) => Buffer.compare(hash, what.info.pieceHashes![n]!) === 0));
      assert.deepEqual(await have(store, what), found);
      // And what it lacks can come.
      await fill(store, what, all.filter((n) => !found.includes(n)));
      assert.deepEqual(new Uint8Array(await (await store.complete()).arrayBuffer()), what.data);
      page.leave();
      assert.deepEqual(await revisit(origin, what), all);
    });
  }
});

/** Links of the same hash that have other lengths, or cut the content otherwise. */
function wrongLinks({ info }: Content): Info[] {
  const bare = { ...info, pieceHashes: null };
  return [
    { ...bare, totalLength: info.totalLength - 1 },
    { ...bare, totalLength: info.totalLength + 100 * pieceLength },
    { ...bare, pieceLength: 2 * pieceLength },
    { ...bare, totalLength: 7 },
  ];
}

/** A visit that follows a link, and settles so many pieces, whatever they are. */
async function followed(origin: FakeOrigin, info: Info, settle: number): Promise<void> {
  const page = new Page(origin);
  const { store } = await inTime(origin, page.disk.open(info));
  for (let n = 0; n < settle; n++) {
    await store.keep(n, 0, new Uint8Array(9).fill(9));
    store.settle(n);
  }
  await store.close(false);
}

for (const [there, pieces] of [["complete", all], ["partial", [0, 3]]] as const) {
  test(`a wrong link leaves a ${there} content alone, and has a folder of its own`, async () => {
    const [origin, what] = [new FakeOrigin(), await content(44)];
    await visited(origin, what, pieces);
    const files = (): unknown[] => ["data", "pieces", "info.json"].map((name) => Buffer.from(origin.file(path(what, name)).bytes).toString("base64"));
    const before = files();
    for (const wrong of wrongLinks(what)) {
      const page = new Page(origin);
      const { store, info } = await page.disk.open(wrong);
      assert.equal(info.pieceHashes, null, "those that are known are of another cut");
      const block = new Uint8Array(7).fill(1);
      await store.keep(0, 0, block.slice());
      store.settle(0);
      assert.deepEqual(await store.read(0, 0, 7), block);
      assert.deepEqual(origin.contents(), [what.info.fullHash, `${what.info.fullHash}.1`]);
      await store.close(true);
      assert.deepEqual(files(), before);
    }
    assert.deepEqual(await revisit(origin, what), pieces);
  });
}

test("each link finds its own folder again, also one that came first", async () => {
  const [origin, what] = [new FakeOrigin(), await content(45)];
  const folder = (n: number): string => what.info.fullHash + (n > 0 ? `.${n}` : "");
  const wrong = wrongLinks(what)[2] as Info;
  await followed(origin, wrong, 1);
  await visited(origin, what, [1, 2]);
  await followed(origin, wrong, 2);
  assert.deepEqual(await revisit(origin, what), [1, 2]);
  await visited(origin, what, all);
  assert.deepEqual(origin.contents(), [folder(0), folder(1)]);
  assert.equal(origin.file(`p2pcdn/${folder(0)}/pieces`).bytes[0], 0xc0);
  // Made whole again in its own folder, too.
  origin.file(`p2pcdn/${folder(1)}/data`).bytes[0]! ^= 1;
  assert.deepEqual(await revisit(origin, what), [1, 2, 3, 4]);
  assert.deepEqual(origin.contents(), [folder(0), folder(1)]);
});

test("wrong links do not keep the right one out: what was settled of them least, or longest ago, goes", async () => {
  const [origin, what] = [new FakeOrigin(), await content(46)];
  const [first, second, third, empty] = wrongLinks(what) as [Info, Info, Info, Info];
  const lengths = (): number[] => origin.contents().map((name) => origin.file(`p2pcdn/${name}/data`).bytes.length);
  for (const [wrong, settled] of [[second, 1], [first, 1], [empty, 0], [third, 1]] as const) {
    await followed(origin, wrong, settled);
    await origin.clock.pass(1000);
  }
  await followed(origin, second, 2); // the latest now
  await origin.clock.pass(1000);
  assert.deepEqual(lengths(), [second, first, empty, third].map(({ totalLength }) => totalLength));

  await visited(origin, what, [0, 4]);
  assert.deepEqual(lengths(), [second, first, what.info, third].map(({ totalLength }) => totalLength));
  await origin.clock.pass(1000);
  await followed(origin, { ...empty, totalLength: 8 }, 0);
  assert.deepEqual(lengths(), [second.totalLength, 8, what.info.totalLength, third.totalLength]);
  assert.deepEqual(await revisit(origin, what), [0, 4]);

  // What somebody uses stays.
  const user = new Page(origin);
  await user.disk.open({ ...empty, totalLength: 8 });
  await user.disk.open(third);
  await user.disk.open(second);
  await user.open(what);
  await assert.rejects(inTime(origin, new Page(origin).disk.open(first)), reason("busy", /all 4 copies/));
  assert.deepEqual(lengths(), [second.totalLength, 8, what.info.totalLength, third.totalLength]);
});

test("complete contents of one hash are never taken: a fifth cut of it is refused", async () => {
  const [origin, what] = [new FakeOrigin(), await content(47)];
  const cuts = [1, 2, 4, 8, 16].map((times) => ({ ...what.info, pieceHashes: null, pieceLength: times * LeafLength }));
  for (const info of cuts.slice(0, 4)) {
    const page = new Page(origin);
    const { store } = await page.disk.open(info);
    const geometry = new Geometry(info.totalLength, info.pieceLength);
    for (let n = 0; n < geometry.pieces; n++) {
      await store.keep(n, 0, what.data.slice(geometry.pieceOffset(n), geometry.pieceOffset(n) + geometry.pieceSize(n)));
      store.settle(n);
    }
    assert.equal((await store.complete()).size, info.totalLength);
    page.leave();
  }
  assert.equal(origin.contents().length, 4);
  await assert.rejects(inTime(origin, new Page(origin).disk.open(cuts[4] as Info)), reason("busy", /all 4 copies/));
  assert.deepEqual(await revisit(origin, what), all);
});

test("a folder that another content takes in between is left to it", async () => {
  const [origin, what] = [new FakeOrigin(), await content(48)];
  const [wrong] = wrongLinks(what) as [Info];
  // Both find nothing; the second one waits for the folder of the first.
  const [first, second] = [new Page(origin).disk.open(wrong), new Page(origin).disk.open(what.info)];
  const { store } = await first;
  await store.keep(0, 0, new Uint8Array(9));
  store.settle(0);
  await store.close(false);
  await fill((await second).store, what, [1]);
  assert.deepEqual(origin.contents(), [what.info.fullHash, `${what.info.fullHash}.1`]);
  assert.equal(origin.file(path(what, "data")).bytes.length, wrong.totalLength);
  assert.equal(origin.file(path(what, "pieces")).bytes[0], 0x80);
  assert.equal(origin.clock.waiting, 0, "it waited for the lock, and not in vain");
});

test("a complete content with a wrong piece is made whole again", async () => {
  const [origin, what] = [new FakeOrigin(), await content(10)];
  await visited(origin, what, all);
  origin.file(path(what, "data")).bytes[0]! ^= 1;
  const store = await new Page(origin).open(what);
  assert.deepEqual(await have(store, what), [1, 2, 3, 4]);
  await fill(store, what, [0]);
  assert.deepEqual(new Uint8Array(await (await store.complete()).arrayBuffer()), what.data);
  assert.deepEqual(origin.contents(), [what.info.fullHash]);
});

test("a wrong piece in a content that another page reads: another copy is begun", async () => {
  const [origin, what] = [new FakeOrigin(), await content(11)];
  await visited(origin, what, all);
  const first = await new Page(origin).open(what);
  assert.deepEqual(await have(first, what), all);
  origin.file(path(what, "data")).bytes[0]! ^= 1;
  const second = await new Page(origin).open(what);
  assert.deepEqual(await inTime(origin, have(second, what)), []);
  await fill(second, what, all);
  assert.deepEqual(new Uint8Array(await (await second.complete()).arrayBuffer()), what.data);
});

test("another page that writes the same content has its own copy; a complete one is shared", async () => {
  const [origin, what] = [new FakeOrigin(), await content(12)];
  const pages = [1, 2, 3, 4].map(() => new Page(origin));
  const stores: DiskStore[] = [];
  for (const page of pages) stores.push(await inTime(origin, page.open(what)));
  assert.equal(origin.contents().length, 4);
  await assert.rejects(inTime(origin, new Page(origin).open(what)), reason("busy", /all 4 copies/));

  const [first, second] = stores as [DiskStore, DiskStore];
  await Promise.all([fill(first, what, [0]), fill(second, what, all)]);
  await second.complete();
  const reader = new Page(origin);
  const shared = await reader.open(what);
  assert.deepEqual(await have(shared, what), all);
  assert.equal((await shared.complete()).size, what.data.length);
  assert.deepEqual(await first.read(0, 0, 9), what.piece(0).slice(0, 9));

  // Whoever uses it keeps it.
  await shared.close(true);
  assert.equal(origin.contents().length, 4);
  await second.close(true);
  assert.deepEqual(origin.contents(), [0, 2, 3].map((n) => what.info.fullHash + (n > 0 ? `.${n}` : "")));
});

test("a page that waits for one that just finished shares its copy", async () => {
  const [origin, what] = [new FakeOrigin(), await content(13)];
  const first = await new Page(origin).open(what);
  await fill(first, what, all);
  const second = new Page(origin).open(what);
  for (let i = 0; i < 10; i++) await settled(); // it waits by now
  await first.complete();
  assert.deepEqual(await have(await second, what), all);
  assert.deepEqual(origin.contents(), [what.info.fullHash]);
});

test("after a reload the files may be let go late", async () => {
  const [origin, what] = [new FakeOrigin(), await content(14)];
  for (const late of ["lock", "handles"]) {
    const page = new Page(origin);
    const store = await page.open(what);
    const before = await have(store, what);
    await fill(store, what, late === "lock" ? [1] : [3]);
    const agent = page.workers[0]?.agent as FakeAgent;
    if (late === "handles") for (const release of agent.held) release();
    origin.clock.after(200, () => page.leave());
    const next = new Page(origin);
    assert.deepEqual(await inTime(origin, next.open(what).then((again) => have(again, what))), late === "lock" ? [1] : [1, 3]);
    assert.deepEqual(before, late === "lock" ? [] : [1]);
    next.leave();
    assert.deepEqual(origin.contents(), [what.info.fullHash]);
  }
});

test("partial contents go when nobody touched them for a week", async () => {
  const origin = new FakeOrigin();
  const [old, used, whole, fresh, asked] = await Promise.all([15, 16, 17, 18, 19].map((seed) => content(seed)));
  await visited(origin, old!, [0, 1]);
  await visited(origin, whole!, all);
  origin.folders.add("p2pcdn/not ours");
  const user = new Page(origin);
  await user.open(used!);
  await origin.clock.pass(week - 1000);
  await visited(origin, fresh!, [0]);
  assert.equal(origin.contents().length, 5);
  await origin.clock.pass(1000);
  await visited(origin, asked!, []);
  const expected = ["not ours", ...[used, whole, fresh, asked].map((what) => what!.info.fullHash)];
  assert.deepEqual(origin.contents().sort(), expected.sort());
});

test("the complete contents that were not used for the longest time make room, then the partial ones", async () => {
  const origin = new FakeOrigin();
  const names = (...contents: Content[]): string[] => contents.map(({ info }) => info.fullHash).sort();
  const [partial, early, late, used, first, second, third] = (await Promise.all([20, 21, 22, 23, 24, 25, 26].map(large))) as [
    Content, Content, Content, Content, Content, Content, Content,
  ];
  for (const [what, pieces] of [[partial, [0]], [early, all32], [late, all32], [used, all32]] as const) {
    await visited(origin, what, pieces);
    await origin.clock.pass(1000);
  }
  await revisit(origin, early); // it is the latest now, but for the one in use
  const user = new Page(origin);
  await user.open(used);

  // Half of it is for contents: five of these.
  origin.quota = 2 * 5 * 2 * mib;
  await visited(origin, first, [1]);
  assert.deepEqual(origin.contents().sort(), names(partial, early, late, used, first));
  await origin.clock.pass(1000);
  await visited(origin, second, [1]);
  assert.deepEqual(origin.contents().sort(), names(partial, early, used, first, second));

  // Three of these: what was begun last is the last to go.
  origin.quota = 2 * 3 * 2 * mib;
  await visited(origin, third, [1]);
  assert.deepEqual(origin.contents().sort(), names(used, second, third));

  // What is there needs no room.
  origin.quota = mib;
  assert.deepEqual(await revisit(origin, second), [1]);

  // Nothing goes in vain; and what somebody uses does not go.
  origin.quota = 3 * mib;
  await assert.rejects(new Page(origin).open(first), reason("quota", /the content has 2 MiB, and the browser leaves room for 0 MiB/));
  assert.deepEqual(origin.contents().sort(), names(used, second, third));
  Object.defineProperty(origin, "usage", { value: 0 });
  origin.quota = 7 * mib;
  await assert.rejects(new Page(origin).open(first), reason("quota", /the content has 2 MiB, and the browser leaves room for 1 MiB/));
  assert.deepEqual(origin.contents(), names(used));
});

test("a browser that allows less than it says: what is oldest goes when that is found", async () => {
  const origin = new FakeOrigin();
  const [early, late, next] = (await Promise.all([27, 28, 29].map(large))) as [Content, Content, Content];
  for (const what of [early, late]) {
    await visited(origin, what, all32);
    await origin.clock.pass(1000);
  }
  origin.quota = 10_000 * mib;
  origin.capacity = 5 * mib;
  await visited(origin, next, [1]);
  assert.deepEqual(origin.contents().sort(), [late.info.fullHash, next.info.fullHash].sort());
  origin.capacity = mib;
  await assert.rejects(new Page(origin).open(early), reason("quota", /used up/));
  assert.deepEqual(origin.contents(), []);
});

test("a browser that leaves no room: it is said at once, and nothing stays behind", async () => {
  const [origin, what] = [new FakeOrigin(), await content(30)];
  origin.quota = 4 * mib;
  await assert.rejects(new Page(origin).open(what), reason("quota", /has 1 MiB, and the browser leaves room for 0 MiB/));
  assert.deepEqual(origin.contents(), []);
  origin.quota = undefined; // it does not tell
  origin.capacity = 1000;
  await assert.rejects(new Page(origin).open(what), reason("quota", /used up/));
  assert.deepEqual(origin.contents(), []);
  origin.capacity = mib;
  await new Page(origin).open(what);
  assert.deepEqual(origin.contents(), [what.info.fullHash]);
});

test("a disk that is full in the middle: the block is refused, and what was settled stays", async () => {
  const [origin, what] = [new FakeOrigin(), await content(31)];
  const page = new Page(origin);
  const store = await page.open(what);
  await fill(store, what, [0]);
  origin.capacity = 0;
  await assert.rejects(store.keep(1, 0, what.piece(1)), reason("quota", /a block cannot be kept/));
  store.settle(2); // that it is not remembered disturbs nobody
  await store.close(false);
  origin.capacity = mib;
  assert.deepEqual(await revisit(origin, what), [0]);
});

test("discard throws away what is on the disk", async () => {
  const [origin, what] = [new FakeOrigin(), await content(32)];
  const page = new Page(origin);
  for (const pieces of [[], [2], all]) {
    const store = await page.open(what);
    await fill(store, what, pieces);
    if (pieces.length === 5) await store.complete();
    await store.close(true);
    assert.deepEqual(origin.contents(), []);
    assert.equal(origin.files.size, 0);
  }
});

test("what is under way when the store is closed is refused, and so is all behind it", async () => {
  const [origin, what] = [new FakeOrigin(), await content(33)];
  await visited(origin, what, all);
  const page = new Page(origin);
  const store = await page.open(what);
  const checking = store.check(what.info);
  const closing = store.close(false);
  assert.equal(store.close(true), closing, "closed once");
  await assert.rejects(checking, reason("closed"));
  await closing;
  await assert.rejects(store.check(what.info), reason("closed"));
  await assert.rejects(store.keep(0, 0, what.piece(0)), reason("closed"));
  await assert.rejects(store.read(0, 0, 1), reason("closed"));
  await assert.rejects(store.complete(), reason("closed"));
  store.settle(0);
  assert.deepEqual(await revisit(origin, what), all);
});

test("one worker serves all contents of a page, and ends with the last", async () => {
  const [origin, one, two] = [new FakeOrigin(), await content(34), await content(35)];
  const page = new Page(origin);
  const [first, second] = await Promise.all([page.open(one), page.open(two)]);
  await Promise.all([fill(first, one, all), fill(second, two, [3])]);
  assert.deepEqual(await second.read(3, 0, 8), two.piece(3).slice(0, 8));
  await first.close(false);
  assert.deepEqual(page.workers.map(({ terminated }) => terminated), [false]);
  await second.close(false);
  assert.deepEqual(page.workers.map(({ terminated }) => terminated), [true]);
  assert.equal(origin.clock.waiting, 0);

  await (await page.open(one)).close(false);
  assert.deepEqual(page.workers.map(({ terminated }) => terminated), [true, true]);
});

test("a worker that crashes: what waits is rejected, and the next content has a new one", async () => {
  const [origin, what] = [new FakeOrigin(), await content(36)];
  const page = new Page(origin);
  const crashes: ((worker: FakeWorker) => void)[] = [
    (worker) => worker.onerror?.({ message: "out of memory" } as ErrorEvent),
    (worker) => worker.onmessageerror?.({} as MessageEvent),
  ];
  for (const crash of crashes) {
    const store = await page.open(what);
    await have(store, what);
    const worker = page.workers.at(-1) as FakeWorker;
    const waiting = [store.keep(0, 0, what.piece(0)), store.read(0, 0, 1)];
    crash(worker);
    for (const call of waiting) await assert.rejects(call, reason("lost", /the storage worker ended/));
    assert.ok(worker.terminated);
    await assert.rejects(store.complete(), reason("lost"));
    await store.close(false);
  }
  await fill(await page.open(what), what, [0]);
  assert.equal(page.workers.length, 3);
});

test("a worker that does not start", async () => {
  const [origin, what] = [new FakeOrigin(), await content(37)];
  const throwing = new Disk({
    unavailable: null, clock: origin.clock, root: () => origin.agent().root(),
    start: () => {
      throw new DOMException("not allowed", "SecurityError");
    },
  });
  await assert.rejects(throwing.open(what.info), reason("unavailable", /worker-src blob:.*not allowed/));

  const mute = new Page(origin);
  mute.mute = true;
  const opening = [1, 2].map(() => assert.rejects(mute.open(what), reason("unavailable", /did not answer/)));
  await origin.clock.pass(10_000);
  await Promise.all(opening);
  assert.ok(mute.workers[0]?.terminated);

  const refused = mute.open(what);
  mute.workers[1]?.onerror?.({} as ErrorEvent); // what a policy does: an event that says nothing
  await assert.rejects(refused, reason("unavailable", /worker-src blob:/));
  assert.equal(origin.clock.waiting, 0);

  origin.closed = true;
  await assert.rejects(new Page(origin).open(what), reason("unavailable", /storage is off/));
});

/** A disk that is not there. */
function noDisk(origin: FakeOrigin): Disk {
  return new Disk({ unavailable: "the browser has none", clock: origin.clock, root: () => origin.agent().root(), start: () => assert.fail("it is not there") });
}

/** A content that nobody fetches. */
function ofLength(info: Info, totalLength: number): Info {
  return { ...info, totalLength, pieceLength: 64 * mib, pieceHashes: null };
}

test("openStore: memory for what fits there, the disk for what does not", async () => {
  const [origin, small] = [new FakeOrigin(), await content(38)];
  const page = new Page(origin);
  const limit = 2 * small.info.totalLength;
  const [whole, large] = [ofLength(small.info, limit), ofLength(small.info, limit + 1)];
  const open = (info: Info, storage: Storage, disk = page.disk): Promise<Opened> => openStore(info, storage, disk, new MemoryBudget(limit));

  for (const [info, storage] of [[small.info, "auto"], [whole, "auto"], [large, "memory"]] as const) {
    const { store, why, info: known } = await open(info, storage);
    assert.ok(store instanceof MemoryStore);
    assert.equal(why, null);
    assert.equal(known, info);
  }
  assert.equal(page.workers.length, 0);

  const fallback = await open(large, "auto", noDisk(origin));
  assert.ok(fallback.store instanceof MemoryStore);
  assert.equal(fallback.why, "the content is kept in memory: the browser has none");
  await assert.rejects(open(small.info, "disk", noDisk(origin)), reason("unavailable", /^the browser has none$/));

  for (const [info, storage] of [[small.info, "disk"], [large, "auto"]] as const) {
    const { store, why } = await open(info, storage);
    assert.ok(!(store instanceof MemoryStore));
    assert.equal(why, null);
    await store.close(true);
  }
  origin.quota = mib;
  await assert.rejects(open(large, "auto"), reason("quota", /has 1 MiB/));
});

test("openStore: contents share the memory, and leave it when they are closed or complete", async () => {
  const origin = new FakeOrigin();
  const page = new Page(origin);
  const contents = await Promise.all([39, 40, 41].map((seed) => content(seed)));
  const [first, second, third] = contents as [Content, Content, Content];
  const budget = new MemoryBudget(2 * first.info.totalLength);
  const open = async ({ info }: Content): Promise<Store> => (await openStore(info, "auto", page.disk, budget)).store;
  /** Whether one more goes to memory; it is closed again. */
  const hasRoom = async (): Promise<boolean> => {
    const store = await open(third);
    await store.close(true);
    return store instanceof MemoryStore;
  };

  const one = await open(first);
  assert.equal(await hasRoom(), true);
  const two = await open(second);
  assert.equal(two instanceof MemoryStore, true);
  assert.equal(await hasRoom(), false);

  await one.close(false);
  await one.close(false); // what is left is left once
  assert.equal(await hasRoom(), true);
  const again = await open(first);
  assert.equal(again instanceof MemoryStore, true);
  assert.equal(await hasRoom(), false);

  // A part of it leaves nothing; the whole is a Blob.
  await again.check(first.info);
  await assert.rejects(again.complete(), reason("broken"));
  assert.equal(await hasRoom(), false);
  for (const n of all) {
    await again.keep(n, 0, first.piece(n));
    again.settle(n);
  }
  assert.equal((await again.complete()).size, first.info.totalLength);
  assert.equal(await hasRoom(), true);
  const other = await open(third);
  assert.equal(await hasRoom(), false);

  // It left once, however it ends.
  await again.complete();
  await again.close(false);
  assert.equal(await hasRoom(), false);
  for (const store of [two, other]) await store.close(false);
  assert.ok(budget.fits(2 * first.info.totalLength));
  assert.ok(!budget.fits(2 * first.info.totalLength + 1));
});

test("openStore: what an earlier visit left on the disk is gone on with, however much memory there is", async () => {
  const [origin, what, other] = [new FakeOrigin(), await content(44), await content(45)];
  const before = new Page(origin);
  await fill(await before.open(what), what, [0, 3]);
  await origin.clock.pass(1_000); // it is told what is settled
  before.leave();

  const page = new Page(origin);
  const budget = new MemoryBudget(8 * mib);
  const { store, why } = await openStore(what.info, "auto", page.disk, budget);
  assert.ok(!(store instanceof MemoryStore));
  assert.equal(why, null);
  const bits = await store.check(what.info);
  assert.deepEqual(all.filter((n) => bits.has(n)), [0, 3]);
  assert.ok((await openStore(other.info, "auto", page.disk, budget)).store instanceof MemoryStore);
  assert.ok((await openStore(what.info, "memory", page.disk, budget)).store instanceof MemoryStore);
  await store.close(true);
  assert.ok((await openStore(what.info, "auto", page.disk, budget)).store instanceof MemoryStore); // nothing is left of it
});

test("openStore: what an earlier visit left and cannot be opened is fetched anew, into memory where it fits", async () => {
  const [origin, what] = [new FakeOrigin(), await content(46)];
  const page = new Page(origin);
  await (await page.open(what)).close(false);
  const throwing = new Disk({
    unavailable: null, clock: origin.clock, root: () => origin.agent().root(),
    start: () => {
      throw new DOMException("not allowed", "SecurityError");
    },
  });
  const { store, why } = await openStore(what.info, "auto", throwing, new MemoryBudget(8 * mib));
  assert.ok(store instanceof MemoryStore);
  assert.equal(why, null);
  await assert.rejects(openStore(what.info, "disk", throwing, new MemoryBudget(8 * mib)), reason("unavailable", /not allowed/));
  const full = await openStore(what.info, "auto", throwing, new MemoryBudget(0));
  assert.match(String(full.why), /kept in memory: .*not allowed/);

  // Storage that is off holds nothing, and is no reason to fail.
  origin.closed = true;
  const off = await openStore(what.info, "auto", page.disk, new MemoryBudget(8 * mib));
  assert.ok(off.store instanceof MemoryStore);
  assert.equal(off.why, null);
});

test("openStore: what has to be in memory is not bounded, and bounds what need not be there", async () => {
  const [origin, what, other] = [new FakeOrigin(), await content(42), await content(43)];
  const page = new Page(origin);
  const size = what.info.totalLength;
  for (const [storage, disk] of [["memory", page.disk], ["auto", noDisk(origin)]] as const) {
    const budget = new MemoryBudget(size);
    const large = ofLength(what.info, 3 * size);
    const opened = [await openStore(large, storage, disk, budget), await openStore(large, storage, disk, budget)];
    for (const { store } of opened) assert.ok(store instanceof MemoryStore);
    const next = async (): Promise<boolean> => {
      const { store }: Opened = await openStore(other.info, "auto", page.disk, budget);
      await store.close(true);
      return store instanceof MemoryStore;
    };
    assert.equal(await next(), false);
    for (const { store } of opened) {
      assert.equal(await next(), false);
      await store.close(true);
    }
    assert.equal(await next(), true);
  }
});

test("what the device has bounds the memory", () => {
  for (const [gib, mebibytes] of [[0.25, 4], [1, 16], [4, 64], [8, 128], [32, 128], [null, 64]] as const) {
    assert.equal(memoryFor(gib), mebibytes * mib, `${gib} GiB`);
  }
});
