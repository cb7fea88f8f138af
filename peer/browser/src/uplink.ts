/**
 * Shares what we send between the peers, as Go's peer/client/upload.go. Whoever has
 * something to send, and room in its channel, waits for a slot, sends a turn's worth, and
 * waits behind the others again; so peers get equal shares, whatever they ask for.
 */

import { type Bucket, bucketOf } from "./bucket.ts";
import type { Bytes } from "./bytes.ts";
import type { Cancel, Clock } from "./clock.ts";
import { HighWater } from "./rtc.ts";
import type { PeerID } from "./ident.ts";
import { type Block, type Frame, MaxBlock, MaxRequests, sameBlock } from "./wire.ts";

/**
 * How many bytes a peer is sent before the next one has its turn: few enough that nobody
 * waits for long. Under a limit, turns are a block.
 */
const turnBytes = 256 << 10;

/** What is read before it is a peer's turn, in bytes: while one block is sent, the next ones are there. */
const readAhead = 512 << 10;

/**
 * How long a piece counts at least as being passed on, in ms: twice what a peer needs to
 * verify it and to tell others, 100 ms away.
 */
const passOn = 500;

/** Shorter waits are none, in ms: no timer is as exact. */
const leastWait = 0.1;

/** Bounds what is remembered of that time, in pieces: at 64 KiB apiece, 500 MB/s. */
const maxPassing = 4096;

/** Remembers to whom the pieces of a content went lately. Times are ms of one clock. */
export class Passing {
  #since = Number.NEGATIVE_INFINITY; // when #now began
  #now = new Map<number, PeerID>(); // by piece: who was last sent something of it; bounded by maxPassing
  #before = new Map<number, PeerID>(); // the same, of the time before that

  /** Says that a peer is sent something of the piece. */
  note(piece: number, to: PeerID, now: number): void {
    this.#turnOver(now);
    if (this.#now.size < maxPassing) this.#now.set(piece, to);
  }

  /** Whether another peer was the last that was sent something of the piece, a moment ago. */
  elsewhere(piece: number, than: PeerID, now: number): boolean {
    this.#turnOver(now);
    const last = this.#now.get(piece) ?? this.#before.get(piece);
    return last !== undefined && last !== than;
  }

  /** Forgets what is too old. */
  #turnOver(now: number): void {
    const age = now - this.#since;
    if (age < passOn) return;
    this.#before = age < 2 * passOn ? this.#now : new Map();
    this.#now = new Map();
    this.#since = now;
  }
}

/** What an uploader needs of a content. */
export interface Source {
  readonly passing: Passing;
  /** Reads a block to be sent; rejects where it cannot be read. */
  read(block: Block): Promise<Bytes>;
}

/** What an uploader needs of a peer's connection. */
export interface Channel<S extends Source> {
  /** The peer's. */
  readonly id: PeerID;
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
  /** Bytes that a turn has. */
  readonly turn: number;
  readonly #slots: number;
  #used = 0;
  readonly #line: { turn(): Promise<void> }[] = []; // in the order in which they came; as many as there are peers at most

  constructor({ clock, slots, limit, peerLimit }: UplinkConfig) {
    this.clock = clock;
    this.all = bucketOf(limit);
    // What a limit lets through goes to one after the other: who is sent what is decided as late as can be.
    this.#slots = limit > 0 ? 1 : slots;
    this.turn = limit > 0 ? MaxBlock : turnBytes;
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
}

/** What one peer waits for. */
export class Uploader<S extends Source> {
  readonly #uplink: Uplink;
  readonly #channel: Channel<S>;
  readonly #own: Bucket | null;
  #queue: Upload<S>[] = []; // in the order in which they were asked for; at most MaxRequests
  #waiting = false; // for a slot, or has one
  #closed = false;
  #notBefore = 0; // the peer's own limit lets nothing through before
  #resting: Cancel | null = null; // until then
  #wake: () => void = () => {}; // ends a sleep

  constructor(uplink: Uplink, channel: Channel<S>) {
    this.#uplink = uplink;
    this.#channel = channel;
    this.#own = bucketOf(uplink.peerLimit);
  }

  /** Serves a request when its turn comes; false where too many wait. */
  add(source: S, number: number, block: Block): boolean {
    if (this.#closed || this.#queue.length >= MaxRequests) return false;
    this.#queue.push({ source, number, block, reading: false, data: undefined });
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
    this.#resting?.();
    this.#wake();
  }

  /** Goes on where it can: to be called when there is room in the channel again, too. */
  go(): void {
    this.#readAhead();
    if (this.#waiting || this.#next === undefined || this.#rests) return;
    this.#waiting = true;
    this.#uplink.enter(this);
  }

  /**
   * Sends what is waited for, up to a turn's worth. Not while the channel is full: a peer
   * that takes nothing must not keep others waiting.
   */
  async turn(): Promise<void> {
    const { all, clock, turn } = this.#uplink;
    for (let sent = 0; sent < turn && !this.#rests; ) {
      const upload = this.#next;
      if (upload === undefined) break;
      const wait = all?.take(upload.block.length, clock.now()) ?? 0;
      if (wait > 0) {
        await this.#sleep(wait);
        continue; // it may have been taken back
      }
      this.#queue.splice(this.#queue.indexOf(upload), 1);
      this.#send(upload);
      sent += upload.block.length;
    }
    this.#waiting = false;
    this.go();
  }

  /** What is to be sent next, and can be; undefined where nothing can now. */
  get #next(): Upload<S> | undefined {
    if (this.#channel.buffered >= HighWater) return undefined;
    const next = this.#order()[0];
    return next?.data === undefined ? undefined : next;
  }

  /**
   * The first of what is waited for, as much as is read ahead. The oldest comes first, but
   * what went to another peer a moment ago comes after everything else: it can soon be had
   * from there, and whoever hears that takes its request back. So a crowd gets different pieces from a
   * seeder, and not all the same.
   */
  #order(): Upload<S>[] {
    const now = this.#uplink.clock.now();
    const first: Upload<S>[] = [];
    const later: Upload<S>[] = [];
    let ahead = 0;
    for (const upload of this.#queue) {
      if (upload.source.passing.elsewhere(upload.block.piece, this.#channel.id, now)) {
        later.push(upload);
        continue;
      }
      if (ahead >= readAhead) return first;
      ahead += upload.block.length;
      first.push(upload);
    }
    for (const upload of later) {
      if (ahead >= readAhead) break;
      ahead += upload.block.length;
      first.push(upload);
    }
    return first;
  }

  #send({ source, number, block, data }: Upload<S>): void {
    if (data === null || data === undefined) return this.#channel.send({ type: "reject", number, ...block });
    const now = this.#uplink.clock.now();
    source.passing.note(block.piece, this.#channel.id, now);
    this.#notBefore = now + (this.#own?.reserve(data.length, now) ?? 0);
    this.#channel.send({ type: "piece", number, piece: block.piece, begin: block.begin, data });
    this.#channel.served(source, data.length);
  }

  /** Whether the peer's own limit lets nothing through now; then it goes on by itself. */
  get #rests(): boolean {
    const wait = this.#notBefore - this.#uplink.clock.now();
    if (wait < leastWait) return false;
    this.#resting ??= this.#uplink.clock.after(wait, () => {
      this.#resting = null;
      this.go();
    });
    return true;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#uplink.clock.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  /** Reads what is to be sent first, several blocks at a time. */
  #readAhead(): void {
    for (const upload of this.#order()) {
      if (upload.reading) continue;
      upload.reading = true;
      const read = (data: Bytes | null): void => {
        upload.data = data;
        this.go();
      };
      upload.source.read(upload.block).then(read, () => read(null));
    }
  }
}
