// What is asked of a peer before it said what it has, as Go's peer/swarm/early_test.go.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { LeafLength } from "../src/content.ts";
import type { PeerID } from "../src/ident.ts";
import { DefaultPatience, firstBudget } from "../src/swarm.ts";
import { earlyBytes } from "../src/swarm/presumed.ts";
import { Bits, type Block, type Frame, MaxBlock, MinFrame } from "../src/wire.ts";
import { type Node, World } from "./world.ts";

const kib = 1 << 10;
const mib = 1 << 20;
const second = 1000;
const minute = 60 * second;
const trip = 100; // ms, there and back

const stranger = "09".padEnd(40, "0") as PeerID;

function greeting(w: World): Frame {
  const { fullHash, totalLength, pieceLength } = w.info;
  return { type: "handshake", number: 5, fullHash, totalLength, pieceLength, maxFrame: MinFrame };
}

function bytesOf(blocks: readonly Block[]): number {
  return blocks.reduce((sum, { length }) => sum + length, 0);
}

/** The frames that a swarm sends to the stranger, and what else it wants done. */
function sent({ swarm }: Node): { frames: Frame[]; types: string[] } {
  const actions = swarm.actions();
  return {
    frames: actions.flatMap((action) => (action.type === "send" && action.peer === stranger ? [action.frame] : [])),
    types: actions.map(({ type }) => type),
  };
}

function requested(frames: readonly Frame[]): Block[] {
  return frames.flatMap((frame) => (frame.type === "request" ? frame.blocks : []));
}

/** How long it takes until the condition holds. */
function took(w: World, what: string, holds: () => boolean): number {
  const began = w.now;
  w.until(minute, what, holds);
  return w.now - began;
}

/** A leecher that has only a link; with check, there may be something in its store. */
function bare(w: World, check: boolean): Node {
  return w.add({ ...w.info, pieceHashes: null }, undefined, { check });
}

test("some requests travel with the handshake, and as many as it may owe follow when it has spoken", () => {
  const w = new World(1, 5 * mib, 64 * kib);
  const [seeder, leecher] = [w.seeder(), w.leecher()];
  w.connect(leecher, seeder);
  assert.deepEqual(leecher.sentTo(seeder).map(({ type }) => type), ["handshake", "have_none", "request"]); // before any time has passed
  const early = leecher.requests(seeder);
  assert.equal(bytesOf(early), earlyBytes);
  assert.ok(early.every(({ length }) => length === LeafLength), "blocks of more than a leaf, before it is known what it can send");
  w.until(second, "an answer", () => leecher.sentTo(seeder).length > 3);
  assert.ok(seeder.sentTo(leecher).every(({ type }) => type !== "reject"), "a seeder rejects what is asked for early");
  const asked = bytesOf(leecher.requests(seeder));
  assert.ok(asked >= firstBudget && asked <= firstBudget + MaxBlock, `${asked} bytes in flight`);
  w.run(minute);
  w.done(leecher);
});

test("small content comes with the first answer", () => {
  const w = new World(1, 10_000, 16 * kib);
  const [seeder, leecher] = [w.seeder(), w.leecher()];
  w.over(trip, leecher, seeder);
  assert.equal(took(w, "the content", () => leecher.swarm.complete), trip);
});

test("what is asked early of one who has nothing is taken back without a word, and asked of others", () => {
  const w = new World(1, mib, 64 * kib);
  const [first, other, seeder] = [w.leecher(), w.leecher(), w.seeder()];
  w.over(20, first, other);
  assert.equal(bytesOf(first.requests(other)), earlyBytes);
  w.until(second, "its bitfield", () => first.swarm.peers().every(({ owes }) => owes === 0));
  assert.ok(!first.sentTo(other).some(({ type }) => type === "cancel"), "a request is cancelled that will be rejected");
  w.connect(first, seeder);
  w.run(minute);
  w.done(first);
});

test("who came to us is not asked before it said what it has, which follows its handshake", () => {
  const w = new World(1, mib, 64 * kib);
  const leecher = w.leecher();
  leecher.swarm.connected(stranger, 64 * kib, false, w.now);
  leecher.swarm.received(stranger, greeting(w), w.now);
  assert.deepEqual(requested(sent(leecher).frames), []);
});

test("who rejects before it said what it has is asked for nothing until then, and for everything then", () => {
  const w = new World(1, mib, 64 * kib);
  const leecher = w.leecher();
  leecher.swarm.connected(stranger, 64 * kib, true, w.now);
  const early = requested(sent(leecher).frames);
  leecher.swarm.received(stranger, greeting(w), w.now);
  for (const block of early) leecher.swarm.received(stranger, { type: "reject", number: 5, ...block }, w.now);
  assert.deepEqual(requested(sent(leecher).frames), []);
  leecher.swarm.received(stranger, Bits.full(16).frame(5), w.now);
  const asked = requested(sent(leecher).frames);
  assert.ok(early.every(({ piece }) => asked.some((block) => block.piece === piece)), "it is not asked again for what it has");
  assert.equal(leecher.swarm.peers()[0]?.pieces, 16);
});

describe("a link that lacks the piece hashes costs no round trip more where they are one answer", () => {
  for (const [name, check, trips] of [["nothing is in the store", false, 1], ["something may be", true, 2]] as const) {
    test(name, () => {
      const w = new World(1, 60_000, 16 * kib);
      const [seeder, leecher] = [w.seeder(), bare(w, check)];
      w.over(trip, leecher, seeder);
      assert.equal(took(w, "a piece", () => leecher.swarm.have.count > 0), trips * trip);
      w.run(minute);
      w.done(leecher);
    });
  }
});

test("where the store is still looked at, what is missing is asked for early behind that", () => {
  const w = new World(1, 10_000, 16 * kib);
  const leecher = w.leecher({ check: true });
  leecher.swarm.connected(stranger, 64 * kib, true, w.now);
  assert.deepEqual(sent(leecher).types, ["check", "send", "send"]);
  leecher.swarm.checked(new Bits(1), w.now);
  assert.equal(bytesOf(requested(sent(leecher).frames)), 10_000);
});

test("what comes before its hashes is not kept, and asked for again", () => {
  const w = new World(1, 60_000, 16 * kib);
  const [seeder, leecher] = [w.seeder(), bare(w, false)];
  leecher.swarm.connected(stranger, 64 * kib, true, w.now);
  const [first] = requested(sent(leecher).frames);
  assert.ok(first !== undefined, "nothing is asked for early");
  leecher.swarm.received(stranger, greeting(w), w.now);
  leecher.swarm.received(stranger, { type: "have_all", number: 5 }, w.now);
  leecher.swarm.received(stranger, { type: "piece", number: 5, piece: first.piece, begin: first.begin, data: new Uint8Array(first.length) }, w.now);
  assert.ok(!sent(leecher).types.includes("keep"), "a block is kept without its hash");
  leecher.swarm.disconnected(stranger, w.now);
  w.connect(leecher, seeder);
  w.run(minute);
  w.done(leecher);
});

test("a peer that was taken for a seeder and says nothing is left when our patience ends", () => {
  const w = new World(1, mib, 64 * kib);
  const leecher = w.leecher();
  leecher.swarm.connected(stranger, 64 * kib, true, w.now);
  assert.equal(leecher.swarm.peers()[0]?.pieces, 0); // it did not say so
  leecher.swarm.tick(w.now + DefaultPatience);
  assert.deepEqual(leecher.swarm.peers(), []);
});
