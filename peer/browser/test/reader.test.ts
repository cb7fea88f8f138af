// Streams of a content that is not all there.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Geometry } from "../src/content.ts";
import { type Readable, Readers } from "../src/reader.ts";
import type { Range } from "../src/swarm.ts";
import { settled } from "./clock.ts";
import { randomBytes } from "./world.ts";

const kib = 1 << 10;

/** A content of which a test says what is there. */
class Film implements Readable {
  readonly data = randomBytes(1, 10 * 64 * kib + 77);
  readonly geometry = new Geometry(this.data.length, 64 * kib);
  readonly there = new Set<number>();
  readonly urges: (readonly Range[])[] = [];
  ended: Error | null = null;
  reads = 0;
  readonly readers = new Readers(this);

  async cut(): Promise<Geometry> {
    return this.geometry;
  }

  has(piece: number): boolean {
    if (this.ended !== null) throw this.ended;
    return this.there.has(piece);
  }

  async read(piece: number, begin: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    this.reads++;
    return this.data.slice(piece * 64 * kib + begin, piece * 64 * kib + begin + length);
  }

  urged(): void {
    this.urges.push(this.readers.ranges);
  }

  come(...pieces: number[]): void {
    for (const piece of pieces) {
      this.there.add(piece);
      this.readers.wake(piece);
    }
  }
}

async function all(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

test("a stream hands out what is there, and waits for what is not", async () => {
  const film = new Film();
  const reader = film.readers.stream(100, film.data.length).getReader();
  await settled();
  assert.deepEqual([film.urges, film.reads], [[], 0], "something was read before somebody asked");
  const first = reader.read();
  await settled();
  assert.deepEqual(film.urges, [[{ first: 0, end: 11 }]]);
  film.come(3, 0);
  assert.deepEqual((await first).value, film.data.slice(100, 64 * kib));
  let came = 64 * kib;
  const second = reader.read();
  await settled();
  assert.deepEqual(film.urges.at(-1), [{ first: 1, end: 11 }]);
  film.come(1, 2, 4, 5, 6, 7, 8, 9, 10);
  for (let part = await second; !part.done; part = await reader.read()) {
    assert.deepEqual(part.value, film.data.slice(came, came + part.value.length));
    came += part.value.length;
  }
  assert.equal(came, film.data.length);
  assert.deepEqual(film.urges.at(-1), [], "it waits for something after the end");
});

test("a stream ends where it is to end, and waits for nothing beyond", async () => {
  const film = new Film();
  film.come(...Array(11).keys());
  for (const [begin, end] of [[0, 0], [5, 5], [1, 2], [64 * kib - 1, 64 * kib + 1], [100_000, 300_000], [0, film.data.length]] as const) {
    assert.deepEqual(await all(film.readers.stream(begin, end)), film.data.slice(begin, end));
  }
  const reader = film.readers.stream(0, 70 * kib).getReader();
  await reader.read();
  assert.deepEqual(film.urges.at(-1), [{ first: 0, end: 2 }]);
  await reader.cancel();
});

test("several readers wait beside each other, the latest first", async () => {
  const film = new Film();
  const [one, two] = [film.readers.stream(0, 64 * kib), film.readers.stream(5 * 64 * kib, 6 * 64 * kib)].map(all);
  await settled();
  assert.deepEqual(film.urges.at(-1), [{ first: 5, end: 6 }, { first: 0, end: 1 }]);
  film.come(0, 5);
  assert.equal((await one)?.length, 64 * kib);
  assert.equal((await two)?.length, 64 * kib);
  assert.deepEqual(film.urges.at(-1), []);
});

test("cancelling ends the waiting", async () => {
  const film = new Film();
  const stream = film.readers.stream(0, film.data.length);
  const reader = stream.getReader();
  const waiting = reader.read();
  await settled();
  await reader.cancel();
  assert.equal((await waiting).done, true);
  assert.deepEqual(film.urges.at(-1), []);
  film.come(0);
  await settled();
  assert.equal(film.reads, 0);
});

test("a stream fails with what ended the content", async () => {
  const film = new Film();
  film.come(0);
  const reader = film.readers.stream(0, film.data.length).getReader();
  assert.equal((await reader.read()).value?.length, 64 * kib);
  const waiting = reader.read();
  await settled();
  film.ended = new Error("it is over");
  film.readers.wakeAll();
  await assert.rejects(waiting, /it is over/);
  assert.deepEqual(film.urges.at(-1), []);
});
