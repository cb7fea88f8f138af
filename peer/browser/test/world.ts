import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { Bytes } from "../src/bytes.ts";
import { Geometry, geometryOf, type Hash, type Info, LeafLength, validateInfo } from "../src/content.ts";
import type { PeerID } from "../src/ident.ts";
import { type Action, Swarm, type SwarmConfig } from "../src/swarm.ts";
import { Bits, type Block, decode, encode, type Frame, FrameError, type Piece, sameBlock } from "../src/wire.ts";

/** A generator of numbers in [0, 1) that a seed determines (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A whole number below n. */
export function below(random: () => number, n: number): number {
  return Math.floor(random() * n);
}

/** Random bytes that a seed determines. */
export function randomBytes(seed: number, length: number): Bytes {
  const random = seeded(seed);
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = below(random, 256);
  return bytes;
}

/** Whether both hold the same bytes. Node's own comparison: hundreds of peers have a lot to compare. */
export function equal(a: Bytes, b: Bytes): boolean {
  return Buffer.compare(a, b) === 0;
}

/** SHA-256, Node's own, for the same reason. */
function sha256(data: Bytes): Hash {
  return new Uint8Array(createHash("sha256").update(data).digest()) as Hash;
}

/** The hashes of a block's leaves, at once. */
export function leavesOf(data: Bytes): Hash[] {
  const leaves: Hash[] = [];
  do leaves.push(sha256(data.subarray(leaves.length * LeafLength, (leaves.length + 1) * LeafLength)));
  while (leaves.length * LeafLength < data.length);
  return leaves;
}

/** The info dictionary of some bytes. */
export function describe(data: Bytes, pieceLength: number): Info {
  const geometry = new Geometry(data.length, pieceLength);
  const hashes = Array.from({ length: geometry.pieces }, (_, piece) =>
    geometry.pieceRoot(leavesOf(data.subarray(geometry.pieceOffset(piece), geometry.pieceOffset(piece) + geometry.pieceSize(piece)))),
  );
  return {
    fullHash: geometry.root(hashes),
    fileName: "",
    contentType: "",
    totalLength: data.length,
    pieceLength,
    pieceHashes: hashes.length > 1 ? hashes : null,
  };
}

export type Load = Extract<Action, { type: "load" }>;

/** Something that is going to happen. */
interface Event {
  readonly at: number;
  readonly seq: number; // of events at the same instant, the oldest comes first
  readonly happen: () => void;
}

/** Events, soonest first: a heap. */
class Events {
  readonly #heap: Event[] = [];
  #seq = 0;

  get soonest(): Event | undefined {
    return this.#heap[0];
  }

  add(at: number, happen: () => void): void {
    const heap = this.#heap;
    heap.push({ at, seq: this.#seq++, happen });
    for (let i = heap.length - 1; i > 0; ) {
      const parent = (i - 1) >> 1;
      if (!this.#before(i, parent)) return;
      this.#swap(i, parent);
      i = parent;
    }
  }

  next(): Event | undefined {
    const heap = this.#heap;
    if (heap.length > 1) this.#swap(0, heap.length - 1);
    const next = heap.pop();
    for (let i = 0; ; ) {
      let first = i;
      for (const child of [2 * i + 1, 2 * i + 2]) if (child < heap.length && this.#before(child, first)) first = child;
      if (first === i) return next;
      this.#swap(i, first);
      i = first;
    }
  }

  #before(i: number, j: number): boolean {
    const [a, b] = [this.#heap[i] as Event, this.#heap[j] as Event];
    return a.at < b.at || (a.at === b.at && a.seq < b.seq);
  }

  #swap(i: number, j: number): void {
    [this.#heap[i], this.#heap[j]] = [this.#heap[j] as Event, this.#heap[i] as Event];
  }
}

/** One direction between two nodes. */
class Line {
  delay = 0; // of every frame, in ms; 0: 10 to 20
  gone = false; // nothing comes through any more
  epoch = 0; // how often it was gone: what was on its way then is lost
  last = 0; // when its last frame arrives
  waits: Load[] = []; // what the other side asked for
  readonly sent: Frame[] = [];
  brought = 0; // bytes of blocks that arrived
}

/** A peer in the world: a swarm and what its driver would do. */
export class Node {
  readonly id: PeerID;
  readonly swarm: Swarm;
  readonly lines = new Map<Node, Line>(); // to others

  // What it holds, and what became of it.

  readonly store: Bytes;
  kept: Bits; // what a check finds
  disk: (() => number) | null = null; // how many ms the next keep takes; null: none
  check: () => void; // answers one
  verified: (piece: number) => void = () => {};
  complete = 0; // how often it said so
  doneAt = 0;
  described = 0;
  readonly banned = new Set<PeerID>();
  readonly broken: string[] = [];

  // What it says, and how fast.

  maxFrame = 64 << 10;
  data: Bytes; // what it answers from, right or wrong
  reply: ((load: Load) => Frame[]) | null = null; // null: the truth
  mute = false; // receives, and never says anything
  up = 0; // bytes/s; 0: without end
  uploaded = 0; // bytes of blocks
  sending = false; // the uplink is busy with a block
  alarm: number | null = null; // when the next tick is due
  alarms = 0; // so far: only the last one counts

  constructor(id: PeerID, swarm: Swarm, data: Bytes) {
    this.id = id;
    this.swarm = swarm;
    this.data = data;
    this.store = new Uint8Array(data.length);
    this.kept = new Bits(swarm.have.pieces);
    this.check = () => {};
  }

  line(to: Node): Line {
    const line = this.lines.get(to) ?? new Line();
    this.lines.set(to, line);
    return line;
  }

  sentTo(other: Node): readonly Frame[] {
    return this.line(other).sent;
  }

  /** What it asked another one for, in order. */
  requests(of: Node): Block[] {
    return this.sentTo(of).flatMap((frame) => (frame.type === "request" ? frame.blocks : []));
  }

  /** How many bytes of blocks came to it. */
  get fetched(): number {
    return [...this.lines.keys()].reduce((sum, other) => sum + other.line(this).brought, 0);
  }

  /** The right answer out of what it answers from. */
  truth(load: Load): Piece & { data: Bytes } {
    const { piece, begin, length } = load.block;
    const offset = geometryOf(this.swarm.info).pieceOffset(piece) + begin;
    return { type: "piece", number: load.number, piece, begin, data: this.data.slice(offset, offset + length) };
  }
}

/**
 * A network of swarms on simulated time: frames travel as bytes, each pair's in order, and
 * everything that is random comes from one seed. Where nothing else is said, bandwidth is
 * without end, a frame takes 10 to 20 ms, and disks take no time.
 */
export class World {
  readonly data: Bytes;
  readonly info: Info;
  readonly nodes: Node[] = [];
  now = 1;
  readonly #events = new Events();
  readonly #random: () => number;

  constructor(seed: number, length: number, pieceLength: number) {
    this.#random = seeded(seed);
    this.data = randomBytes(seed + 1000, length);
    this.info = describe(this.data, pieceLength);
  }

  get pieces(): number {
    return geometryOf(this.info).pieces;
  }

  piece(data: Bytes, piece: number): Bytes {
    const g = geometryOf(this.info);
    return data.subarray(g.pieceOffset(piece), g.pieceOffset(piece) + g.pieceSize(piece));
  }

  add(info: Info, have?: Bits, config: Partial<SwarmConfig> = {}): Node {
    const id = (this.nodes.length + 1).toString(16).padStart(40, "0") as PeerID;
    const swarm = new Swarm({
      info,
      number: this.nodes.length + 100,
      random: seeded(below(this.#random, 2 ** 32)),
      ...(have !== undefined && { have }),
      ...config,
    });
    const node = new Node(id, swarm, this.data);
    node.check = () => swarm.checked(node.kept, this.now);
    for (let piece = 0; piece < this.pieces; piece++) {
      if (have?.has(piece)) this.piece(node.store, piece).set(this.piece(this.data, piece));
    }
    this.nodes.push(node);
    return node;
  }

  seeder(): Node {
    return this.add(this.info, Bits.full(this.pieces));
  }

  leecher(config: Partial<SwarmConfig> = {}): Node {
    return this.add(this.info, undefined, config);
  }

  /** A seeder of another content. */
  liar(): Node {
    const node = this.seeder();
    node.data = this.data.map((byte) => byte ^ 0x55);
    return node;
  }

  after(ms: number, happen: () => void): void {
    this.#events.add(this.now + ms, happen);
  }

  /** Brings two nodes together; also anew, after they were parted. */
  connect(a: Node, b: Node): void {
    a.line(b).gone = false;
    b.line(a).gone = false;
    a.swarm.connected(b.id, a.maxFrame, true, this.now); // a was told of b
    b.swarm.connected(a.id, b.maxFrame, false, this.now);
    this.act(a);
    this.act(b);
  }

  /** Brings two nodes together, with a round trip that always takes the same. */
  over(rtt: number, a: Node, b: Node): void {
    a.line(b).delay = rtt / 2;
    b.line(a).delay = rtt / 2;
    this.connect(a, b);
  }

  /** Connects everybody with everybody. */
  mesh(): void {
    this.nodes.forEach((a, i) => {
      for (const b of this.nodes.slice(0, i)) this.connect(a, b);
    });
  }

  disconnect(a: Node, b: Node): void {
    for (const line of [a.line(b), b.line(a)]) {
      line.gone = true;
      line.waits = [];
      line.epoch++;
    }
    a.swarm.disconnected(b.id, this.now);
    b.swarm.disconnected(a.id, this.now);
    this.act(a);
    this.act(b);
  }

  #find(id: PeerID): Node | undefined {
    return this.nodes[Number.parseInt(id, 16) - 1];
  }

  send(from: Node, id: PeerID, frame: Frame): void {
    const to = this.#find(id);
    if (to === undefined || from.mute) return;
    const line = from.line(to);
    if (line.gone) return;
    if (frame.type === "piece") from.uploaded += frame.data.length;
    line.sent.push(frame);
    const { epoch } = line;
    const bytes = encode(frame);
    line.last = Math.max(this.now + (line.delay || 10 + below(this.#random, 10)), line.last);
    this.#events.add(line.last, () => {
      if (line.epoch === epoch) this.#deliver(from, to, bytes);
    });
  }

  #deliver(from: Node, to: Node, frame: Bytes): void {
    const decoded = decode(frame);
    if (decoded instanceof FrameError) return assert.fail(`a swarm sent what does not decode: ${decoded.message}`);
    assert.ok(frame.length <= from.maxFrame, `a frame of ${frame.length} bytes of a peer that can send ${from.maxFrame}`);
    if (decoded.type === "piece") from.line(to).brought += decoded.data.length;
    to.swarm.received(from.id, decoded, this.now);
    this.act(to);
  }

  /** Does what a driver does with the actions of a swarm, and sets its alarm. */
  act(node: Node): void {
    for (let actions = node.swarm.actions(); actions.length > 0; actions = node.swarm.actions()) {
      for (const action of actions) this.#carryOut(node, action);
    }
    const at = node.swarm.nextTick();
    if (at === node.alarm) return;
    node.alarm = at;
    const alarm = ++node.alarms;
    if (at === null) return;
    this.#events.add(Math.max(at, this.now), () => {
      if (alarm === node.alarms) this.#tick(node);
    });
  }

  #tick(node: Node): void {
    node.alarm = null;
    node.swarm.tick(this.now);
    const next = node.swarm.nextTick();
    assert.ok(next === null || next > this.now, `a tick at ${this.now} left the next one at ${next}`);
    this.act(node);
  }

  #carryOut(node: Node, action: Action): void {
    switch (action.type) {
      case "send":
        return this.send(node, action.peer, action.frame);
      case "load":
        node.line(this.#find(action.peer) ?? node).waits.push(action);
        return this.#serve(node);
      case "unload":
        return this.#unload(node, action.peer, action.number, action.block);
      case "keep":
        return this.#keep(node, action.block, action.data);
      case "check":
        return node.check();
      case "verified":
        assert.ok(equal(this.piece(node.store, action.piece), this.piece(this.data, action.piece)), "a piece that is wrong was verified");
        return node.verified(action.piece);
      case "drop":
        if (action.banned) node.banned.add(action.peer);
        return;
      case "break":
        node.broken.push(action.why);
        return this.disconnect(node, this.#find(action.peer) as Node);
      case "complete":
        node.complete++;
        node.doneAt = this.now;
        return;
      case "described":
        node.described++;
        validateInfo(action.info);
    }
  }

  /** Writes a block, after a while where the disk takes one. */
  #keep(node: Node, block: Block, data: Bytes): void {
    assert.ok(!node.swarm.have.has(block.piece), "a piece that is verified is written over");
    const kept = (): void => {
      this.piece(node.store, block.piece).set(data, block.begin);
      node.swarm.kept(block, leavesOf(data), this.now);
    };
    if (node.disk === null) return kept();
    this.after(node.disk(), () => {
      kept();
      this.act(node);
    });
  }

  #unload(node: Node, peer: PeerID, number: number, block: Block): void {
    const line = node.line(this.#find(peer) ?? node);
    const at = line.waits.findIndex((load) => sameBlock(load.block, block));
    if (at < 0) return;
    line.waits.splice(at, 1);
    this.send(node, peer, { type: "reject", number, ...block });
  }

  /** Sends a block of each peer in turn, as soon as the uplink is free. */
  #serve(node: Node): void {
    if (node.sending) return;
    for (const [to, line] of node.lines) {
      const load = line.waits.shift();
      if (load === undefined) continue;
      node.lines.delete(to); // behind the others
      node.lines.set(to, line);
      if (node.up === 0) {
        this.#answer(node, load);
        return this.#serve(node);
      }
      node.sending = true;
      return this.after((1000 * load.block.length) / node.up, () => {
        node.sending = false;
        this.#answer(node, load);
        this.#serve(node);
      });
    }
  }

  #answer(node: Node, load: Load): void {
    for (const frame of node.reply?.(load) ?? [node.truth(load)]) this.send(node, load.peer, frame);
  }

  /** Lets happen what happens within so many milliseconds. */
  run(bound: number): void {
    const end = this.now + bound;
    while ((this.#events.soonest?.at ?? end) < end) this.#step();
    this.now = Math.max(this.now, end);
  }

  /** Lets things happen until the condition holds; fails where that takes longer than so many milliseconds. */
  until(bound: number, what: string, holds: () => boolean): void {
    const end = this.now + bound;
    while (!holds()) {
      assert.ok((this.#events.soonest?.at ?? end) < end, `no ${what} after ${bound} ms`);
      this.#step();
    }
  }

  /** Lets everything happen that is going to; fails where that takes longer than so many milliseconds. */
  settle(bound: number): void {
    this.until(bound, "rest", () => this.#events.soonest === undefined);
  }

  #step(): void {
    const next = this.#events.next() as Event;
    this.now = next.at;
    next.happen();
  }

  /** Runs until all these are complete, and checks them. */
  finish(bound: number, ...nodes: Node[]): void {
    this.until(bound, "end", () => nodes.every(({ complete }) => complete > 0));
    for (const node of nodes) this.done(node);
  }

  /** Fails unless the node has the content, said so once, and holds it rightly. */
  done(node: Node): void {
    const { complete, have } = node.swarm;
    assert.ok(complete, `peer ${node.id.slice(-4)} has ${have.count} of ${have.pieces} pieces after ${this.now} ms`);
    assert.equal(node.swarm.haveBytes, this.data.length);
    assert.ok(equal(node.store, this.data), "it completed with wrong content");
    assert.equal(node.complete, 1);
  }
}
