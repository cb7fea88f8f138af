import assert from "node:assert/strict";
import { test } from "node:test";
import { Crew, Geometry, type HashOptions, type HashWorker, LeafLength, MaxPieceLength, type Summary, sum } from "../src/content.ts";
import { type Port, type Reply, type Request, serve } from "../src/content/serve.ts";
import { FakeClock } from "./clock.ts";
import { sample } from "./vectors.ts";

const mib = 1 << 20;

/** A worker in this program: messages are copied but for their Blob, and come later. */
class FakeWorker implements HashWorker {
  onmessage: HashWorker["onmessage"] = null;
  onmessageerror: HashWorker["onmessageerror"] = null;
  onerror: HashWorker["onerror"] = null;
  readonly requests: Request[] = [];
  terminated = false;
  busy = false; // it was asked for something and has not answered
  readonly #port: Port;
  readonly #office: Office;
  readonly #mute: boolean; // it never says anything

  constructor(office: Office, mute = false) {
    this.#office = office;
    this.#mute = mute;
    this.#port = { onmessage: null, postMessage: (message) => this.#say(structuredClone(message)) };
    queueMicrotask(() => serve(this.#port));
  }

  postMessage(request: Request): void {
    assert.ok(!this.terminated);
    if (this.#office.refuse) throw new DOMException("it cannot be cloned", "DataCloneError");
    this.requests.push(request);
    this.busy = true;
    const { blob, ...rest } = request;
    const data = { ...structuredClone(rest), blob: this.#office.see(blob) };
    queueMicrotask(() => this.terminated || this.#port.onmessage?.({ data }));
  }

  terminate(): void {
    this.terminated = true;
  }

  #say(data: Reply): void {
    queueMicrotask(() => {
      if (data.type === "done" || data.type === "failed") this.busy = false;
      if (!this.terminated && !this.#mute) this.onmessage?.({ data } as MessageEvent<Reply>);
      this.#office.said(this, data);
    });
  }
}

/** Where a crew has its workers from. */
class Office {
  readonly workers: FakeWorker[] = [];
  readonly clock = new FakeClock();
  readonly crew: Crew;
  /** Whether they take no requests. */
  refuse = false;
  /** What a worker sees of a Blob. */
  see = (blob: Blob): Blob => blob;
  /** A worker said this, and the page has heard it. */
  said: (worker: FakeWorker, message: Reply) => void = () => {};

  /** start is told how many there were before; the page hashes the first piece itself, or headLength bytes. */
  constructor(workers: number, start = (office: Office, _before: number): FakeWorker => new FakeWorker(office), headLength = 1) {
    this.crew = new Crew({
      workers,
      headLength,
      clock: this.clock,
      start: () => {
        const worker = start(this, this.workers.length);
        this.workers.push(worker);
        return worker;
      },
    });
  }

  /** Hashes in the workers whatever the length, and says what was told of it. */
  async sum(geometry: Geometry, content: Blob, options: HashOptions = {}): Promise<{ summary: Summary; told: number[] }> {
    const told: number[] = [];
    const progress = (hashed: number): void => {
      told.push(hashed);
      options.progress?.(hashed);
    };
    const pieces = await this.crew.hash(geometry, content, { ...options, progress });
    return { summary: { fullHash: geometry.root(pieces), pieceHashes: pieces.length > 1 ? pieces : null }, told };
  }

  /** The pieces that each worker was asked for. */
  get asked(): [first: number, end: number][] {
    return this.workers.flatMap(({ requests }) => requests.map(({ first, end }): [number, number] => [first, end])).sort(([a], [b]) => a - b);
  }

  /** Whoever was at work has ended, and after a while nothing runs any more. */
  async checkEnded(): Promise<void> {
    assert.ok(this.workers.every(({ terminated, busy }) => terminated || !busy), "somebody works for nobody");
    await this.clock.pass(30_000);
    assert.ok(this.workers.every(({ terminated }) => terminated), "a worker is kept for ever");
    assert.equal(this.clock.waiting, 0);
  }
}

function checkProgress(told: readonly number[], total: number): void {
  assert.equal(told.at(-1), total);
  assert.ok(told.every((bytes, i) => i === 0 || bytes > (told[i - 1] as number)), `progress goes back: ${told.join(" ")}`);
}

/** A Blob whose parts are read only through this. */
function readBy(read: (begin: number, end: number) => Promise<ArrayBuffer>, size: number, begin = 0): Blob {
  return {
    size,
    slice: (from: number, to: number) => readBy(read, Math.min(to, size) - from, begin + from),
    arrayBuffer: () => read(begin, begin + size),
  } as unknown as Blob;
}

const content = new Blob([sample(6 * mib + 5)]);
const geometry = new Geometry(content.size, 64 << 10);

test("workers hash as the page does", async () => {
  for (const total of [0, 1, LeafLength, LeafLength + 1, 4 * mib, 6 * mib + 5]) {
    const blob = content.slice(0, total);
    for (const pieceLength of [LeafLength, 64 << 10, mib, MaxPieceLength]) {
      const geometry = new Geometry(total, pieceLength);
      const wanted = await sum(geometry, blob);
      for (const workers of [1, 3, 8]) {
        const office = new Office(workers);
        const { summary, told } = await office.sum(geometry, blob);
        assert.deepEqual(summary, wanted, `${total} bytes in pieces of ${pieceLength}, ${workers} workers`);
        checkProgress(told, total);
        await office.checkEnded();
        // Each piece once, but for the first, by no more workers than there are pieces.
        assert.equal(office.asked.reduce((next, [first, end]) => (assert.equal(first, next), end), 1), geometry.pieces);
        assert.ok(office.workers.length <= Math.min(workers, geometry.pieces - 1));
        if (geometry.pieces > 1 && (geometry.pieces - 1) % workers === 0) assert.ok(office.workers.every(({ requests }) => requests.length === 1));
      }
    }
  }
});

test("only what the page does not begin with is given to workers, and one content at a time", async () => {
  const head = 2 * mib;
  const office = new Office(2, undefined, head);
  const { crew } = office;
  await sum(new Geometry(head, mib), content.slice(0, head), { crew });
  assert.equal(office.workers.length, 0);
  const large = content.slice(0, 2 * head);
  const geometry = new Geometry(large.size, mib);
  const both = await Promise.all([sum(geometry, large, { crew }), sum(geometry, large, { crew })]);
  assert.deepEqual(both[0], both[1]);
  assert.deepEqual(office.asked, [[2, 3], [3, 4]]);
  await office.checkEnded();
  assert.deepEqual(await sum(geometry, large, { crew }), both[0]);
  assert.equal(office.workers.length, 4);
});

test("workers are kept for the next content, for half a minute", async () => {
  const office = new Office(3);
  const wanted = await sum(geometry, content);
  for (let i = 0; i < 3; i++) {
    assert.deepEqual((await office.sum(geometry, content)).summary, wanted);
    await office.clock.pass(29_000);
  }
  assert.equal(office.workers.length, 3);
  assert.ok(office.workers.every(({ requests, terminated }) => requests.length === 3 && !terminated));
  await office.checkEnded();
});

test("no part is longer than 64 MiB", async () => {
  const chunk = sample(mib);
  const blob = new Blob(Array<Uint8Array<ArrayBuffer>>(130).fill(chunk));
  const office = new Office(1);
  const geometry = new Geometry(blob.size, mib);
  const { summary, told } = await office.sum(geometry, blob);
  assert.deepEqual(office.asked, [[1, 44], [44, 87], [87, 130]]);
  assert.deepEqual(summary, await sum(geometry, blob));
  checkProgress(told, blob.size);
});

test("a signal ends the sum and its workers", async () => {
  const office = new Office(3);
  const abort = new AbortController();
  const reason = new Error("enough");
  await assert.rejects(office.sum(geometry, content, { signal: abort.signal, progress: () => abort.abort(reason) }), reason);
  assert.equal(office.asked.length, 3);
  await office.checkEnded();
  await assert.rejects(office.sum(geometry, content, { signal: abort.signal }), reason);
  assert.equal(office.workers.length, 3, "it had been given");
});

test("a signal ends a sum whose workers are not up yet, and another one has them", async () => {
  const office = new Office(3, (office) => new FakeWorker(office, true));
  const abort = new AbortController();
  const ended = office.sum(geometry, content, { signal: abort.signal, progress: () => abort.abort(new Error("enough")) });
  assert.equal(office.workers.length, 3);
  await assert.rejects(ended, /enough/);
  await office.checkEnded();
  assert.ok(office.crew.takes(geometry));
});

test("what the Blob throws is told, and ends the workers", async () => {
  const office = new Office(3);
  const changed = new DOMException("the file changed", "NotReadableError");
  const broken = readBy((begin, end) => (begin >= 4 * mib ? Promise.reject(changed) : content.slice(begin, end).arrayBuffer()), content.size);
  await assert.rejects(office.sum(geometry, broken), (error) => error === changed);
  await office.checkEnded();
  assert.deepEqual((await office.sum(geometry, content)).summary, await sum(geometry, content), "the next has workers again");
  assert.equal(office.workers.length, 6);
});

test("a content that gets shorter while workers read it is refused", async () => {
  const office = new Office(3);
  const shrinking = readBy((begin, end) => content.slice(begin, Math.min(end, 5 * mib)).arrayBuffer(), content.size);
  await assert.rejects(office.sum(geometry, shrinking), { code: "content_too_short" });
  await office.checkEnded();
});

test("what a worker cannot read, the page does", async () => {
  const office = new Office(3);
  office.see = () => readBy(() => Promise.reject(new Error("not here")), content.size);
  const { summary, told } = await office.sum(geometry, content);
  assert.deepEqual(summary, await sum(geometry, content));
  checkProgress(told, content.size);
  await office.checkEnded();
  const refused = new Office(3);
  refused.refuse = true;
  assert.deepEqual((await refused.sum(geometry, content)).summary, summary);
  await refused.checkEnded();
});

test("what a worker leaves when it dies is done all the same, and progress does not go back", async () => {
  for (const how of ["onerror", "onmessageerror"] as const) {
    const office = new Office(2);
    const answers: Reply[] = [];
    office.said = (worker, message) => {
      if (message.type !== "ready") answers.push(message);
      if (answers.length === 4) worker[how]?.({ message: "out of memory" } as ErrorEvent & MessageEvent);
    };
    const { summary, told } = await office.sum(geometry, content);
    assert.deepEqual(summary, await sum(geometry, content));
    checkProgress(told, content.size);
    assert.ok((told[3] as number) > mib, "nothing was done before");
    await office.checkEnded();
  }
});

test("without workers the page does it, and they are not asked for again", async () => {
  const policies: ((office: Office) => FakeWorker)[] = [
    () => {
      throw new DOMException("worker-src", "SecurityError");
    },
    (office) => {
      const worker = new FakeWorker(office, true);
      queueMicrotask(() => worker.onerror?.({ message: "worker-src", preventDefault: () => {} } as ErrorEvent));
      return worker;
    },
  ];
  const wanted = await sum(geometry, content);
  for (const start of policies) {
    let starts = 0;
    const office = new Office(3, (office) => (starts++, start(office)));
    assert.ok(office.crew.takes(geometry));
    const { summary, told } = await office.sum(geometry, content);
    assert.deepEqual(summary, wanted);
    checkProgress(told, content.size);
    assert.equal(starts, 3);
    await office.checkEnded();
    assert.ok(!office.crew.takes(geometry));
  }
});

test("workers that never come up are not waited for", async () => {
  const office = new Office(2, (office) => new FakeWorker(office, true));
  const { summary, told } = await office.sum(geometry, content);
  assert.deepEqual(summary, await sum(geometry, content));
  checkProgress(told, content.size);
  assert.deepEqual(office.asked, []);
  await office.checkEnded();
});

test("a worker that does not come up is not waited for while others do the work", async () => {
  const office = new Office(3, (office, before) => new FakeWorker(office, before === 1));
  const { summary, told } = await office.sum(geometry, content);
  assert.deepEqual(summary, await sum(geometry, content));
  checkProgress(told, content.size);
  assert.deepEqual(office.workers.map(({ requests }) => requests.length > 0), [true, false, true]);
  await office.checkEnded();
});
