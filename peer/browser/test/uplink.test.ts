// Fair turns, limits, and what is read ahead; on fake time.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Bucket, bucketOf } from "../src/bucket.ts";
import type { Bytes } from "../src/bytes.ts";
import type { PeerID } from "../src/ident.ts";
import { HighWater } from "../src/rtc.ts";
import { type Channel, Passing, type Source, Uplink, type UplinkConfig, Uploader } from "../src/uplink.ts";
import { type Block, type Frame, MaxBlock, MaxRequests } from "../src/wire.ts";
import { FakeClock, settled } from "./clock.ts";

const block = (piece: number): Block => ({ piece, begin: 0, length: MaxBlock });

/** A content whose reads a test may hold back. */
class Content implements Source {
  readonly passing = new Passing();
  readonly reads: number[] = [];
  held: (() => void)[] | null = null; // null: every read is answered at once
  broken = false;

  async read({ piece, length }: Block): Promise<Bytes> {
    this.reads.push(piece);
    if (this.held !== null) await new Promise<void>((resolve) => this.held?.push(resolve));
    if (this.broken) throw new Error("it cannot be read");
    return new Uint8Array(length);
  }
}

/** A peer whose channel takes everything, unless it is full. */
class Far implements Channel<Content> {
  readonly id: PeerID;
  readonly frames: Frame[] = [];
  readonly log: string[]; // of all peers, who was sent what
  buffered = 0;
  bytes = 0;

  constructor(name: string, log: string[] = []) {
    this.id = name.padEnd(40, "0") as PeerID;
    this.log = log;
  }

  send(frame: Frame): void {
    this.frames.push(frame);
    if (frame.type === "piece") this.log.push(`${this.id[0]}${frame.piece}`);
  }

  served(_: Content, bytes: number): void {
    this.bytes += bytes;
  }
}

function uplink(clock: FakeClock, config: Partial<UplinkConfig> = {}): Uplink {
  return new Uplink({ clock, slots: 8, limit: 0, peerLimit: 0, ...config });
}

describe("a bucket", () => {
  test("gives no more than its rate, from the beginning on", () => {
    const bucket = new Bucket(1_000_000);
    let [now, taken] = [0, 0];
    for (; now < 10_000; now += 10) while (bucket.take(MaxBlock, now) === 0) taken += MaxBlock;
    assert.ok(taken <= 10_000_000 + MaxBlock && taken > 9_900_000, `${taken} bytes in ten seconds`);
  });

  test("says when to come again", () => {
    const bucket = new Bucket(MaxBlock);
    assert.equal(bucket.take(MaxBlock, 5), 0);
    assert.equal(bucket.take(MaxBlock, 5), 1000);
    assert.equal(bucket.take(MaxBlock, 505), 500);
    assert.equal(bucket.take(MaxBlock, 1005), 0);
  });

  test("makes up for a second that was missed, and not for more", () => {
    const bucket = new Bucket(10 * MaxBlock);
    bucket.take(MaxBlock, 0);
    let taken = 0;
    while (bucket.take(MaxBlock, 60_000) === 0) taken++;
    assert.equal(taken, 10);
  });

  test("lets go ahead what is reserved", () => {
    const bucket = new Bucket(MaxBlock);
    assert.deepEqual([0, 0, 0].map(() => bucket.reserve(MaxBlock, 0)), [0, 1000, 2000]);
    assert.equal(bucket.reserve(MaxBlock, 3000), 0);
  });

  test("is none where there is no limit", () => assert.equal(bucketOf(0), null));
});

describe("an uploader", () => {
  test("answers in order, and reads several blocks ahead", async () => {
    const content = new Content();
    const far = new Far("a");
    content.held = [];
    const uploader = new Uploader(uplink(new FakeClock()), far);
    for (let piece = 0; piece < 10; piece++) assert.ok(uploader.add(content, 7, block(piece)));
    assert.deepEqual(content.reads, [0, 1, 2, 3]);
    const [first, ...others] = content.held;
    for (const answer of others) answer();
    await settled();
    assert.deepEqual(far.frames, [], "a later block went first");
    content.held = null;
    first?.();
    await settled();
    assert.deepEqual(far.log, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((piece) => `a${piece}`));
    assert.equal(far.bytes, 10 * MaxBlock);
  });

  test("sends nothing while the channel is full, and goes on when it drained", async () => {
    const [content, far] = [new Content(), new Far("a")];
    const uploader = new Uploader(uplink(new FakeClock()), far);
    far.buffered = HighWater;
    uploader.add(content, 7, block(0));
    await settled();
    assert.deepEqual([far.frames, content.reads], [[], [0]]);
    far.buffered = 0;
    uploader.go();
    await settled();
    assert.deepEqual(far.log, ["a0"]);
  });

  test("takes back what was not sent, and refuses what is too much", async () => {
    const [content, far] = [new Content(), new Far("a")];
    const uploader = new Uploader(uplink(new FakeClock()), far);
    far.buffered = HighWater;
    for (let piece = 0; piece < MaxRequests; piece++) assert.ok(uploader.add(content, 7, block(piece)));
    assert.ok(!uploader.add(content, 7, block(MaxRequests)));
    assert.ok(uploader.remove(content, block(0)));
    assert.ok(!uploader.remove(content, block(0)));
    const other = new Content();
    assert.ok(uploader.add(other, 8, block(5)));
    uploader.drop(content);
    far.buffered = 0;
    uploader.go();
    await settled();
    assert.deepEqual(far.log, ["a5"]);
    uploader.close();
    assert.ok(!uploader.add(other, 8, block(6)));
  });

  test("rejects what cannot be read", async () => {
    const [content, far] = [new Content(), new Far("a")];
    content.broken = true;
    new Uploader(uplink(new FakeClock()), far).add(content, 7, block(3));
    await settled();
    assert.deepEqual(far.frames, [{ type: "reject", number: 7, ...block(3) }]);
  });

  test("sends first what did not just go to another peer", async () => {
    const clock = new FakeClock();
    const content = new Content();
    const log: string[] = [];
    const link = uplink(clock);
    const [a, b] = [new Far("a", log), new Far("b", log)];
    const [one, two] = [new Uploader(link, a), new Uploader(link, b)];
    one.add(content, 7, block(0));
    await settled();
    b.buffered = HighWater;
    for (const piece of [0, 1, 2]) two.add(content, 7, block(piece));
    await settled();
    b.buffered = 0;
    two.go();
    await settled();
    assert.deepEqual(log, ["a0", "b1", "b2", "b0"]);
    await clock.pass(2000);
    one.add(content, 7, block(1));
    one.add(content, 7, block(9));
    await settled();
    assert.deepEqual(log.slice(4), ["a1", "a9"], "a moment is over after a second");
  });
});

describe("an uplink", () => {
  test("gives each peer its turn", async () => {
    const content = new Content();
    const log: string[] = [];
    const link = uplink(new FakeClock(), { slots: 1 });
    const fars = ["a", "b", "c"].map((name) => new Far(name, log));
    const uploaders = fars.map((far) => new Uploader(link, far));
    for (const [i, uploader] of uploaders.entries()) {
      (fars[i] as Far).buffered = HighWater; // until all of them wait
      for (let piece = 0; piece < 8; piece++) uploader.add(content, 7, block(100 * i + piece));
    }
    await settled();
    let free = (): void => {};
    link.enter({ turn: () => new Promise((resolve) => (free = resolve)) }); // until all of them are in the line
    for (const far of fars) far.buffered = 0;
    for (const uploader of uploaders) uploader.go();
    free();
    await settled();
    const turns = log.map((entry) => entry[0]).join("").match(/(.)\1*/g);
    assert.deepEqual(turns, ["aa", "bb", "cc", "aa", "bb", "cc", "aa", "bb", "cc", "aa", "bb", "cc"]);
  });

  test("holds a limit over all peers, in equal parts", async () => {
    const clock = new FakeClock();
    const content = new Content();
    const link = uplink(clock, { limit: 1_000_000 });
    const fars = ["a", "b", "c", "d"].map((name) => new Far(name));
    for (const [i, far] of fars.entries()) {
      const uploader = new Uploader(link, far);
      for (let piece = 0; piece < 400; piece++) uploader.add(content, 7, block(1000 * i + piece));
    }
    await clock.pass(20_000);
    const total = fars.reduce((sum, { bytes }) => sum + bytes, 0);
    assert.ok(total <= 20_000_000 + MaxBlock && total > 19_500_000, `${total} bytes in twenty seconds`);
    for (const { bytes } of fars) assert.ok(Math.abs(bytes - total / 4) <= 2 * MaxBlock, `${bytes} of ${total}`);
  });

  test("a peer that does not read keeps nobody waiting under a limit", async () => {
    const clock = new FakeClock();
    const content = new Content();
    const link = uplink(clock, { limit: 1_000_000 });
    const [stuck, fine] = [new Far("a"), new Far("b")];
    stuck.buffered = HighWater;
    for (const [i, far] of [stuck, fine].entries()) {
      const uploader = new Uploader(link, far);
      for (let piece = 0; piece < 400; piece++) uploader.add(content, 7, block(1000 * i + piece));
    }
    await clock.pass(10_000);
    assert.equal(stuck.bytes, 0);
    assert.ok(fine.bytes > 9_500_000, `${fine.bytes} bytes`);
  });

  test("holds a limit for each peer", async () => {
    const clock = new FakeClock();
    const content = new Content();
    const link = uplink(clock, { peerLimit: 500_000, slots: 1 });
    const fars = ["a", "b", "c"].map((name) => new Far(name));
    for (const [i, far] of fars.entries()) {
      const uploader = new Uploader(link, far);
      for (let piece = 0; piece < 300; piece++) uploader.add(content, 7, block(1000 * i + piece));
    }
    await clock.pass(10_000);
    for (const { bytes } of fars) assert.ok(bytes <= 5_000_000 + 2 * MaxBlock && bytes > 4_800_000, `${bytes} bytes`);
  });

  test("closing ends what waits for a limit", async () => {
    const clock = new FakeClock();
    const content = new Content();
    const link = uplink(clock, { limit: 1000, peerLimit: 1000 });
    const uploaders = ["a", "b"].map((name) => new Uploader(link, new Far(name)));
    for (const uploader of uploaders) for (let piece = 0; piece < 5; piece++) uploader.add(content, 7, block(piece));
    await clock.pass(100);
    for (const uploader of uploaders) uploader.close();
    await settled();
    assert.equal(clock.waiting, 0);
  });
});
