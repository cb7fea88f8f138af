/**
 * Shares what we send between the peers, as Go's peer/client/upload.go. Whoever has
 * something to send, and room in its channel, waits for a slot, sends a turn's worth, and
 * waits behind the others again; so peers get equal shares, whatever they ask for.
 */

import { type Bucket, bucketOf } from "./bucket.ts";
import type { Bytes } from "./bytes.ts";
import type { Cancel, Clock } from "./clock.ts";
import { HighWater } from "./rtc.ts";
import { type Block, type Frame, MaxRequests, sameBlock } from "./wire.ts";

/** How many bytes a peer is sent before the next one has its turn: few enough that nobody waits for long. */
const turn = 256 << 10;

/** What is read before it is a peer's turn, in bytes: while one block is sent, the next ones are there. */
const readAhead = 256 << 10;

/** What an uploader needs of a content. */
export interface Source {
  /** Reads a block to be sent; rejects where it cannot be read. */
  read(block: Block): Promise<Bytes>;
}

/** What an uploader needs of a peer's connection. */
export interface Channel<S extends Source> {
  /** Bytes that were sent and have not left. */
  readonly buffered: number;
  send(frame: Frame): void;
  /** A block of the content went to the peer. */
  served(source: S, bytes: number): void;
}

/** How what is sent is held back. */
export interface UplinkConfig {
  readonly clock: Clock;
  /** Peers that are sent something at a time, in turn. */
  readonly slots: number;
  /** Bytes/s to all together; 0: no limit. */
  readonly limit: number;
  /** Bytes/s to any one; 0: no limit. */
  readonly peerLimit: number;
}

/** The slots, and who waits for one. All peers of a client share it. */
export class Uplink {
  readonly clock: Clock;
  readonly peerLimit: number;
  readonly all: Bucket | null;
  readonly #slots: number;
  #used = 0;
  readonly #line: { turn(): Promise<void> }[] = []; // in the order in which they came; as many as there are peers at most

  constructor({ clock, slots, limit, peerLimit }: UplinkConfig) {
    this.clock = clock;
    this.#slots = slots;
    this.all = bucketOf(limit);
    this.peerLimit = peerLimit;
  }

  /** Has the uploader's turn called when a slot is free. */
  enter(uploader: { turn(): Promise<void> }): void {
    this.#line.push(uploader);
    this.#admit();
  }

  #admit(): void {
    while (this.#used < this.#slots) {
      const next = this.#line.shift();
      if (next === undefined) return;
      this.#used++;
      void next.turn().finally(() => {
        this.#used--;
        this.#admit();
      });
    }
  }
}

/** A block that a peer asked for. */
interface Upload<S> {
  readonly source: S;
  readonly number: number;
  readonly block: Block;
  reading: boolean;
  data: Bytes | null | undefined; // undefined: not read yet; null: it cannot be
  paid: boolean; // it is counted by the limits
}

/** What one peer waits for. */
export class Uploader<S extends Source> {
  readonly #uplink: Uplink;
  readonly #channel: Channel<S>;
  readonly #own: Bucket | null;
  #queue: Upload<S>[] = []; // in the order in which they were asked for; at most MaxRequests
  #waiting = false; // for a slot, or has one
  #closed = false;
  #wake: () => void = () => {};

  constructor(uplink: Uplink, channel: Channel<S>) {
    this.#uplink = uplink;
    this.#channel = channel;
    this.#own = bucketOf(uplink.peerLimit);
  }

  /** Serves a request when its turn comes; false where too many wait. */
  add(source: S, number: number, block: Block): boolean {
    if (this.#closed || this.#queue.length >= MaxRequests) return false;
    this.#queue.push({ source, number, block, reading: false, data: undefined, paid: false });
    this.go();
    return true;
  }

  /** Takes a request back; false where its answer is on its way. */
  remove(source: S, block: Block): boolean {
    const at = this.#queue.findIndex((upload) => upload.source === source && sameBlock(upload.block, block));
    if (at < 0) return false;
    this.#queue.splice(at, 1);
    this.go();
    return true;
  }

  /** Takes out everything of a content. */
  drop(source: S): void {
    this.#queue = this.#queue.filter((upload) => upload.source !== source);
    this.go();
  }

  close(): void {
    this.#closed = true;
    this.#queue = [];
    this.#wake();
  }

  /** Goes on where it can: to be called when there is room in the channel again, too. */
  go(): void {
    this.#readAhead();
    if (this.#waiting || !this.#ready) return;
    this.#waiting = true;
    this.#uplink.enter(this);
  }

  /** Sends what is waited for, up to a turn's worth. Not while the channel is full: a peer that takes nothing must not keep others waiting. */
  async turn(): Promise<void> {
    for (let sent = 0; sent < turn && this.#ready; ) {
      const upload = this.#queue[0] as Upload<S>;
      const wait = this.#pay(upload);
      if (wait > 0) {
        await this.#sleep(wait);
        continue; // it may have been taken back
      }
      this.#queue.shift();
      this.#send(upload);
      sent += upload.block.length;
    }
    this.#waiting = false;
    this.go();
  }

  /** Whether the first block is there, and may be sent. */
  get #ready(): boolean {
    return this.#queue[0]?.data !== undefined && this.#channel.buffered < HighWater;
  }

  #send({ source, number, block, data }: Upload<S>): void {
    if (data === null || data === undefined) return this.#channel.send({ type: "reject", number, ...block });
    this.#channel.send({ type: "piece", number, piece: block.piece, begin: block.begin, data });
    this.#channel.served(source, data.length);
  }

  /** Counts the block, and returns how long to wait with it, in ms. */
  #pay(upload: Upload<S>): number {
    if (upload.paid) return 0;
    upload.paid = true;
    const now = this.#uplink.clock.now();
    const { length } = upload.block;
    return Math.max(this.#own?.reserve(length, now) ?? 0, this.#uplink.all?.reserve(length, now) ?? 0);
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel: Cancel = this.#uplink.clock.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  /** Reads the first blocks of the queue, several at a time. */
  #readAhead(): void {
    let ahead = 0;
    for (const upload of this.#queue) {
      if (ahead >= readAhead) return;
      ahead += upload.block.length;
      if (upload.reading) continue;
      upload.reading = true;
      upload.source.read(upload.block).then(
        (data) => this.#read(upload, data),
        () => this.#read(upload, null),
      );
    }
  }

  #read(upload: Upload<S>, data: Bytes | null): void {
    upload.data = data;
    if (this.#queue[0] === upload) this.go();
  }
}
