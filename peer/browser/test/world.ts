import assert from "node:assert/strict";
import { type Bytes, equal } from "../src/bytes.ts";
import { Geometry, geometryOf, type Hash, type Info, LeafLength, validateInfo } from "../src/content.ts";
import { sha256Sync } from "../src/content/tree.ts";
import type { PeerID } from "../src/ident.ts";
import { type Action, Swarm, type SwarmConfig } from "../src/swarm.ts";
import { Bits, decode, encode, type Frame, FrameError, type Piece } from "../src/wire.ts";

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
  return Uint8Array.from({ length }, () => below(random, 256));
}

/** The hashes of a block's leaves, at once. */
export function leavesOf(data: Bytes): Hash[] {
  const leaves: Hash[] = [];
  do leaves.push(sha256Sync(data.subarray(leaves.length * LeafLength, (leaves.length + 1) * LeafLength)));
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

interface Delivery {
  at: number;
  from: Node;
  to: Node;
  frame: Bytes;
}

/** A peer in the world: a swarm and what its driver would do. */
export class Node {
  readonly id: PeerID;
  readonly swarm: Swarm;
  readonly store: Bytes;
  kept: Bits; // what a check finds
  data: Bytes; // what it answers from, right or wrong
  reply: ((load: Load) => Frame[]) | null = null; // null: the truth
  mute = false; // receives, and never says anything
  readonly gone = new Set<Node>(); // whom it lost
  readonly last = new Map<Node, number>(); // when its last frame to a peer arrives
  readonly banned = new Set<PeerID>();
  readonly broken: string[] = [];
  readonly sent = new Map<PeerID, Frame[]>();
  complete = 0;
  described = 0;
  maxFrame = 64 << 10;

  constructor(id: PeerID, swarm: Swarm, data: Bytes) {
    this.id = id;
    this.swarm = swarm;
    this.data = data;
    this.store = new Uint8Array(data.length);
    this.kept = new Bits(swarm.have.pieces);
  }

  sentTo(other: Node): Frame[] {
    return this.sent.get(other.id) ?? [];
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
 * everything that is random comes from one seed.
 */
export class World {
  readonly data: Bytes;
  readonly info: Info;
  readonly nodes: Node[] = [];
  queue: Delivery[] = [];
  now = 0;
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

  connect(a: Node, b: Node): void {
    a.swarm.connected(b.id, a.maxFrame, this.now);
    b.swarm.connected(a.id, b.maxFrame, this.now);
    this.act(a);
    this.act(b);
  }

  /** Connects everybody with everybody. */
  mesh(): void {
    this.nodes.forEach((a, i) => {
      for (const b of this.nodes.slice(0, i)) this.connect(a, b);
    });
  }

  disconnect(a: Node, b: Node): void {
    a.gone.add(b);
    b.gone.add(a);
    a.swarm.disconnected(b.id, this.now);
    b.swarm.disconnected(a.id, this.now);
    this.act(a);
    this.act(b);
  }

  #find(id: PeerID): Node | undefined {
    return this.nodes.find((node) => node.id === id);
  }

  send(from: Node, id: PeerID, frame: Frame): void {
    const to = this.#find(id);
    if (to === undefined || from.mute || from.gone.has(to)) return;
    from.sent.set(id, [...from.sentTo(to), frame]);
    const at = Math.max(this.now + 10 + below(this.#random, 10), from.last.get(to) ?? 0);
    from.last.set(to, at);
    this.queue.push({ at, from, to, frame: encode(frame) });
  }

  /** Does what a driver does with the actions of a swarm. */
  act(node: Node): void {
    for (let actions = node.swarm.actions(); actions.length > 0; actions = node.swarm.actions()) {
      for (const action of actions) this.#carryOut(node, action);
    }
  }

  #carryOut(node: Node, action: Action): void {
    switch (action.type) {
      case "send":
        return this.send(node, action.peer, action.frame);
      case "load":
        for (const frame of node.reply?.(action) ?? [node.truth(action)]) this.send(node, action.peer, frame);
        return;
      case "unload":
        return;
      case "keep":
        this.piece(node.store, action.block.piece).set(action.data, action.block.begin);
        return node.swarm.kept(action.block, leavesOf(action.data), this.now);
      case "check":
        return node.swarm.checked(node.kept, this.now);
      case "verified":
        return assert.ok(equal(this.piece(node.store, action.piece), this.piece(this.data, action.piece)), "a piece that is wrong was verified");
      case "drop":
        if (action.banned) node.banned.add(action.peer);
        return;
      case "break":
        node.broken.push(action.why);
        return this.disconnect(node, this.#find(action.peer) as Node);
      case "complete":
        node.complete++;
        return;
      case "described":
        node.described++;
        validateInfo(action.info);
    }
  }

  /** Delivers and ticks until nothing is left to happen, or so many milliseconds passed. */
  run(bound: number): void {
    const end = this.now + bound;
    for (;;) {
      const delivery = this.#earliest();
      let at = Math.min(end, delivery?.at ?? end);
      let ticking: Node | undefined;
      for (const node of this.nodes) {
        const tick = node.swarm.nextTick();
        if (tick !== null && tick < at) [at, ticking] = [tick, node];
      }
      if (at === end) return;
      if (ticking !== undefined) {
        this.now = Math.max(at, this.now);
        ticking.swarm.tick(this.now);
        const next = ticking.swarm.nextTick();
        assert.ok(next === null || next > this.now, `a tick at ${this.now} left the next one at ${next}`);
        this.act(ticking);
      } else if (delivery !== undefined) {
        this.queue.splice(this.queue.indexOf(delivery), 1);
        this.now = delivery.at;
        this.deliver(delivery);
      }
    }
  }

  /** Of one pair, and of one instant, the oldest. */
  #earliest(): Delivery | undefined {
    let first: Delivery | undefined;
    for (const delivery of this.queue) {
      if (first === undefined || delivery.at < first.at) first = delivery;
    }
    return first;
  }

  deliver({ from, to, frame }: Delivery): void {
    if (to.gone.has(from)) return;
    const decoded = decode(frame);
    if (decoded instanceof FrameError) return assert.fail(`a swarm sent what does not decode: ${decoded.message}`);
    assert.ok(frame.length <= to.maxFrame, `a frame of ${frame.length} bytes to a peer that takes ${to.maxFrame}`);
    to.swarm.received(from.id, decoded, this.now);
    this.act(to);
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
