// Hundreds of peers of all kinds in one world, who come and leave: as many_test.go in Go's peer/swarm.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { geometryOf } from "../src/content.ts";
import { Bits, type Block, encode, type Frame, MinFrame } from "../src/wire.ts";
import { below, equal, type Load, type Node, seeded, World } from "./world.ts";

const kib = 1 << 10;
const second = 1000;
const minute = 60 * second;

/** How many of those who are there a peer is connected to when it comes. */
const neighbours = 10;

/** How many peers of each kind a town has. */
interface Census {
  readonly seeders: number;
  readonly leechers: number;
  readonly liars: number;
  readonly stallers: number;
}

/** A world with peers of all kinds. */
class Town {
  /** 32 pieces of two leaves, which one or two peers send, the last one shorter. */
  readonly world: World;
  readonly stay: Node[] = []; // leechers who are there at the end, though some were away
  readonly away: Node[] = []; // leechers who left for good
  readonly liars: Node[] = []; // the one at i has the mark i + 1
  gaveUp = 0; // how often a leecher left that was not complete
  withheld = 0; // blocks that stallers were asked for, and did not send
  readonly #spoilt = new Map<Node, Set<Node>>(); // of whom wrong blocks came into whose store
  readonly #faults: () => number;
  #here: Node[] = []; // who is there at the moment

  constructor(seed: number, { seeders, leechers, liars, stallers }: Census) {
    this.world = new World(seed, 32 * 32 * kib - 5, 32 * kib);
    this.#faults = seeded(seed + 99);
    for (let i = 0; i < seeders; i++) this.#arrive(this.world.seeder());
    for (let i = 0; i < leechers; i++) this.#addLeecher(i);
    for (let i = 0; i < liars; i++) this.#addLiar(i);
    for (let i = 0; i < stallers; i++) this.#addStaller(i);
  }

  /** Whose wrong blocks came into the node's store. */
  spoilers(node: Node): ReadonlySet<Node> {
    return this.#spoilt.get(node) ?? new Set();
  }

  /**
   * A leecher who comes in the first seconds; every second one has only a link. Of four one
   * leaves soon after, and half of those come back.
   */
  #addLeecher(i: number): void {
    const w = this.world;
    const node = w.add(i % 2 === 0 ? { ...w.info, pieceHashes: null } : w.info);
    node.data = node.store; // passes on what it holds, right or wrong
    if (i % 3 === 0) node.maxFrame = MinFrame; // takes a leaf at a time
    this.#watch(node);
    const comes = this.#within(0, 4 * second);
    const leaves = comes + this.#within(200, 1700);
    w.after(comes, () => this.#arrive(node));
    if (i % 4 === 0) w.after(leaves, () => this.#leave(node));
    if (i % 8 === 0) w.after(leaves + this.#within(200, 4 * second), () => this.#arrive(node));
    (i % 8 === 4 ? this.away : this.stay).push(node);
  }

  /** A liar who claims to have everything: always wrong, sometimes wrong, with a wrong piece hash. */
  #addLiar(i: number): void {
    const w = this.world;
    const mark = i + 1; // by which its lies are known
    const lie = (load: Load): Frame[] => {
      const piece = node.truth(load);
      if (i % 3 === 0) return [{ ...piece, data: piece.data.map((byte) => byte ^ mark) }];
      const place = below(this.#faults, 5 * piece.data.length); // of five blocks one is wrong
      if (place < piece.data.length) piece.data[place] = (piece.data[place] as number) ^ mark;
      return [piece];
    };
    const hashes = (w.info.pieceHashes ?? []).map((hash, piece) => (piece === 3 ? hash.map((byte) => byte ^ mark) : hash));
    const node = i % 3 === 2 ? w.add({ ...w.info, pieceHashes: hashes }, Bits.full(w.pieces)) : w.seeder();
    if (i % 3 < 2) node.reply = lie;
    this.liars.push(node);
    w.after(this.#within(0, 2 * second), () => this.#arrive(node));
  }

  /** A seeder who stops to answer sooner or later, or never begins. */
  #addStaller(i: number): void {
    const node = this.world.seeder();
    let left = (i % 4) * 20;
    node.reply = (load) => {
      if (left-- > 0) return [node.truth(load)];
      this.withheld++;
      return [];
    };
    this.world.after(this.#within(0, 4 * second), () => this.#arrive(node));
  }

  /** Lets a node come, with a network and a disk of some speed, to some of those who are there. */
  #arrive(node: Node): void {
    node.up ||= this.#within(100e3, 1100e3);
    node.disk = () => below(this.#faults, 30);
    const others = [...this.#here];
    for (let i = 0; i < neighbours && others.length > 0; i++) {
      this.world.connect(node, others.splice(below(this.#faults, others.length), 1)[0] as Node);
    }
    this.#here.push(node);
  }

  /** Takes a node away from everybody. */
  #leave(node: Node): void {
    if (node.complete === 0) this.gaveUp++;
    this.#here = this.#here.filter((other) => other !== node);
    for (const [other, line] of node.lines) if (!line.gone) this.world.disconnect(node, other);
  }

  /** Notes whose lies come into the node's store. */
  #watch(node: Node): void {
    const { swarm } = node;
    const kept = swarm.kept.bind(swarm);
    swarm.kept = (block, hashes, now) => {
      const mark = this.#markIn(node, block);
      if (mark > 0) this.#spoilt.set(node, new Set(this.spoilers(node)).add(this.liars[mark - 1] as Node));
      kept(block, hashes, now);
    };
  }

  /** The mark of whoever's lie is in that part of the node's store; 0: it is right. */
  #markIn(node: Node, { piece, begin, length }: Block): number {
    const first = geometryOf(this.world.info).pieceOffset(piece) + begin;
    const [held, right] = [node.store.subarray(first, first + length), this.world.data.subarray(first, first + length)];
    if (equal(held, right)) return 0;
    const at = held.findIndex((byte, i) => byte !== right[i]);
    return (held[at] as number) ^ (right[at] as number);
  }

  #within(from: number, to: number): number {
    return from + below(this.#faults, to - from);
  }
}

/** Fails if a piece that the node counts as its own is not the content's. */
function holdsNothingWrong(w: World, node: Node): void {
  for (let piece = 0; piece < w.pieces; piece++) {
    if (!node.swarm.have.has(piece)) continue;
    assert.ok(equal(w.piece(node.store, piece), w.piece(w.data, piece)), `peer ${node.id.slice(-4)} holds a wrong piece ${piece}`);
  }
}

/** Whether the liar sent the node a list of piece hashes. */
function sentHashes(liar: Node, node: Node): boolean {
  return liar.sentTo(node).some(({ type }) => type === "hashes");
}

// What one peer alone was to send, and is begun anew with another because it is slow, is thrown away unjudged.
describe("three hundred peers: who is honest and stays gets the content, and liars are found out by nearly all to whom they lied", () => {
  for (let seed = 1; seed <= 3; seed++) {
    test(`seed ${seed}`, () => {
      const town = new Town(seed, { seeders: 4, leechers: 250, liars: 30, stallers: 16 });
      const w = town.world;
      w.finish(minute, ...town.stay); // it takes a third of that
      w.settle(minute); // then nobody waits for anything

      const liars = new Map(town.liars.map((liar) => [liar.id, liar]));
      let [lies, missed, bans] = [0, 0, 0];
      for (const node of w.nodes) {
        const name = `peer ${node.id.slice(-4)}`;
        assert.deepEqual(node.broken, [], `${name} broke with somebody`);
        assert.ok(node.swarm.peers().every(({ owes }) => owes === 0), `${name} still waits for blocks`);
        holdsNothingWrong(w, node);
        const spoilers = town.spoilers(node);
        for (const id of node.banned) {
          bans++;
          const liar = liars.get(id);
          assert.ok(liar !== undefined, `${name} banned the honest peer ${id.slice(-4)}`);
          assert.ok(spoilers.has(liar) || sentHashes(liar, node), `${name} banned ${id.slice(-4)}, who never lied to it`);
        }
        if (node.complete === 0) continue; // it may have left before it could know
        for (const liar of spoilers) {
          lies++;
          if (!node.banned.has(liar.id)) missed++;
        }
      }
      for (const node of town.stay) assert.equal(node.swarm.openPieces, 0, "it is complete and still fetches");
      const { gaveUp, withheld } = town;
      assert.ok(missed * 100 < lies, `${missed} of ${lies} lies were not found out`);
      assert.ok(lies > 100 && bans > lies && gaveUp > 20 && withheld > 100, `${lies} lies, ${bans} bans, ${gaveUp} left early, ${withheld} blocks withheld`);
    });
  }
});

test("the same seed gives the same world, to the last frame", () => {
  const trace = (): string => {
    const town = new Town(7, { seeders: 1, leechers: 20, liars: 3, stallers: 2 });
    const w = town.world;
    w.finish(minute, ...town.stay);
    const all = createHash("sha256");
    for (const node of w.nodes) {
      all.update(`${node.id} ${node.doneAt}\n`);
      for (const other of w.nodes) for (const frame of node.sentTo(other)) all.update(encode(frame));
    }
    return all.digest("hex");
  };
  assert.equal(trace(), trace());
});
