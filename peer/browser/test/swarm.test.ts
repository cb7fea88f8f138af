// The scenarios of Go's peer/swarm, in the same order.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { toHex } from "../src/bytes.ts";
import { hasPieceHashes, type Info } from "../src/content.ts";
import type { PeerID } from "../src/ident.ts";
import { Bits, type Frame, MaxFrame, MaxRequests, MinFrame, Reason } from "../src/wire.ts";
import { below, type Load, type Node, seeded, World } from "./world.ts";

const kib = 1 << 10;
const mib = 1 << 20;
const minute = 60_000;

const stranger = "01".padEnd(40, "0") as PeerID;

function handshake(w: World, number = 1): Frame {
  const { fullHash, totalLength, pieceLength } = w.info;
  return { type: "handshake", number, fullHash, totalLength, pieceLength, maxFrame: MinFrame };
}

describe("a leecher fetches from a seeder", () => {
  for (const length of [0, 1, 16 * kib - 1, 16 * kib, 16 * kib + 1, 64 * kib, 64 * kib + 1, 200_001, 5 * mib + 3]) {
    test(`${length} bytes`, () => {
      const w = new World(1, length, 64 * kib);
      const [seeder, leecher] = [w.seeder(), w.leecher()];
      w.connect(leecher, seeder);
      w.run(minute);
      w.done(leecher);
      assert.equal(leecher.swarm.peers().length + seeder.swarm.peers().length, 0, "two complete peers did not part");
    });
  }
});

test("blocks fit what the peer can send", () => {
  for (const maxFrame of [MinFrame, 40 * kib, 64 * kib, MaxFrame]) {
    const w = new World(1, mib, 256 * kib);
    const [seeder, leecher] = [w.seeder(), w.leecher()];
    [seeder.maxFrame, leecher.maxFrame] = [maxFrame, MinFrame];
    w.connect(leecher, seeder);
    w.run(minute); // deliver fails the test for a frame that is too large
    w.done(leecher);
  }
});

describe("a bare link fetches the piece hashes first", () => {
  for (const pieces of [2, 256, 257, 700]) {
    test(`${pieces} pieces`, () => {
      const w = new World(2, pieces * 16 * kib - 5, 16 * kib);
      const [seeder, leecher] = [w.seeder(), w.add({ ...w.info, pieceHashes: null })];
      assert.ok(!hasPieceHashes(leecher.swarm.info));
      w.connect(leecher, seeder);
      w.run(minute);
      w.done(leecher);
      assert.equal(leecher.described, 1);
      assert.deepEqual(leecher.swarm.info.pieceHashes?.map(toHex), w.info.pieceHashes?.map(toHex));
      const kinds = leecher.sentTo(seeder).map((frame) => frame.type);
      assert.ok(kinds.lastIndexOf("hash_request") < kinds.indexOf("request"), "content was asked for before the hashes were complete");
    });
  }
});

test("wrong piece hashes are found out before content", () => {
  const w = new World(3, 10 * 64 * kib, 64 * kib);
  const hashes = (w.info.pieceHashes ?? []).map((hash) => hash.slice());
  (hashes[3] as Uint8Array)[0] = ((hashes[3] as Uint8Array)[0] as number) ^ 1;
  const liar = w.add({ ...w.info, pieceHashes: hashes }, Bits.full(10));
  const leecher = w.add({ ...w.info, pieceHashes: null });
  w.connect(leecher, liar);
  w.run(minute);
  assert.ok(leecher.banned.has(liar.id), "the liar was not banned");
  w.connect(leecher, w.seeder());
  w.run(minute);
  w.done(leecher);
});

test("a bare link among peers without hashes", () => {
  const w = new World(4, 10 * 64 * kib, 64 * kib);
  const bare: Info = { ...w.info, pieceHashes: null };
  const [first, second] = [w.add(bare), w.add(bare)];
  w.connect(first, second);
  w.run(minute);
  assert.ok(!first.swarm.complete && !second.swarm.complete, "content out of nothing");
  w.connect(first, w.seeder());
  w.run(5 * minute);
  w.done(first);
  w.done(second); // from the first, which had no hashes when it was asked
});

test("several seeders share the work", () => {
  const w = new World(5, 8 * mib, 64 * kib);
  const leecher = w.leecher();
  const seeders = [w.seeder(), w.seeder(), w.seeder()];
  for (const seeder of seeders) w.connect(leecher, seeder);
  w.run(minute);
  w.done(leecher);
  for (const seeder of seeders) {
    const sent = seeder.sentTo(leecher).reduce((sum, frame) => sum + (frame.type === "piece" ? frame.data.length : 0), 0);
    assert.ok(sent >= mib, `one sent ${sent} bytes of 8 MiB`);
  }
});

test("leechers serve each other", () => {
  const w = new World(6, 2 * mib, 64 * kib);
  const [seeder, near, far] = [w.seeder(), w.leecher(), w.leecher()];
  w.connect(near, seeder);
  w.connect(far, near); // which is all that it ever sees
  w.run(minute);
  w.done(near);
  w.done(far);
});

test("the first piece is random", () => {
  const firsts = new Set<number>();
  for (let seed = 0; seed < 20; seed++) {
    const w = new World(seed, 20 * 64 * kib, 64 * kib);
    const [seeder, leecher] = [w.seeder(), w.leecher()];
    w.connect(leecher, seeder);
    w.run(minute);
    firsts.add(leecher.requests(seeder)[0]?.piece ?? -1);
  }
  assert.ok(firsts.size >= 5, `20 leechers began with only ${firsts.size} different pieces`);
});

test("the rest is rarest first", () => {
  const w = new World(7, 20 * 64 * kib, 64 * kib);
  const rare = 13;
  const have = new Bits(20);
  have.add(0); // past the first piece
  const leecher = w.add(w.info, have, { inFlight: 1 }); // a block at a time, so that the order shows
  const seeder = w.seeder();
  for (let i = 0; i < 3; i++) {
    const common = Bits.full(20);
    common.remove(rare);
    const other = w.add(w.info, common);
    leecher.swarm.connected(other.id, other.maxFrame, false, w.now);
    leecher.swarm.received(other.id, handshake(w), w.now);
    leecher.swarm.received(other.id, common.frame(1), w.now);
  }
  leecher.swarm.actions();
  w.connect(leecher, seeder);
  w.run(25);
  assert.equal(leecher.requests(seeder)[0]?.piece, rare);
});

// One test per way to lie; in each an honest seeder makes the download complete, and the
// liar is named where it can be.
describe("liars", () => {
  const lies: { name: string; banned?: boolean; reply: (node: Node, load: Load) => Frame[] }[] = [
    {
      name: "wrong data",
      banned: true, // found out by the content's hash
      reply: (node, load) => {
        const piece = node.truth(load);
        piece.data[0] = (piece.data[0] as number) ^ 1;
        return [piece];
      },
    },
    {
      name: "wrong index",
      banned: true,
      reply: (node, load) => {
        const piece = node.truth(load);
        return [{ ...piece, piece: (piece.piece + 1) % 10 }];
      },
    },
    { name: "index beyond the content", reply: (node, load) => [{ ...node.truth(load), piece: 2 ** 31 }] },
    {
      name: "wrong begin",
      reply: (node, load) => {
        const piece = node.truth(load);
        return [{ ...piece, begin: piece.begin + 7 }];
      },
    },
    {
      name: "too short",
      reply: (node, load) => {
        const piece = node.truth(load);
        return [{ ...piece, data: piece.data.subarray(1) }];
      },
    },
    {
      name: "too long",
      reply: (node, load) => {
        const piece = node.truth(load);
        return [{ ...piece, data: Uint8Array.from([...piece.data, 0]) }];
      },
    },
    { name: "never answers", reply: () => [] },
    { name: "rejects all", reply: (_, load) => [{ type: "reject", number: load.number, ...load.block }] },
    { name: "twice", reply: (node, load) => [node.truth(load), node.truth(load)] },
  ];
  for (const { name, banned = false, reply } of lies) {
    test(name, () => {
      const w = new World(8, 10 * 64 * kib, 64 * kib);
      const [liar, leecher, honest] = [w.seeder(), w.leecher(), w.seeder()];
      liar.reply = (load) => reply(liar, load);
      w.connect(leecher, liar);
      w.run(45); // the liar is asked first
      w.connect(leecher, honest);
      w.run(5 * minute);
      w.done(leecher);
      assert.equal(leecher.banned.has(liar.id), banned);
      assert.ok(!leecher.banned.has(honest.id), "the honest peer was banned");
      if (!banned) return;
      const asked = leecher.sentTo(liar).length;
      w.connect(leecher, liar);
      w.run(minute);
      assert.deepEqual(leecher.sentTo(liar).slice(asked).filter((frame) => frame.type === "request"), []);
    });
  }
});

test("a piece of several senders is fetched anew from one", () => {
  const w = new World(9, 256 * kib, 256 * kib);
  const [liar, leecher, honest] = [w.seeder(), w.leecher(), w.seeder()];
  let served = 0;
  liar.reply = (load) => {
    if (++served > 1) return []; // one wrong block, then nothing more
    const piece = liar.truth(load);
    piece.data[5] = (piece.data[5] as number) ^ 1;
    return [piece];
  };
  w.connect(leecher, liar);
  w.run(1000);
  w.connect(leecher, honest);
  w.run(10 * minute);
  w.done(leecher);
  assert.ok(!leecher.banned.has(honest.id), "the honest peer was blamed for the liar's block");
  assert.ok(leecher.banned.has(liar.id), "the liar was not found out by the leaf that it sent");
});

test("a piece that was refused is asked for again later", () => {
  const w = new World(20, 10 * 64 * kib, 64 * kib);
  const [seeder, leecher] = [w.seeder(), w.leecher()];
  let busy = true;
  seeder.reply = (load) => (busy ? [{ type: "reject", number: load.number, ...load.block }] : [seeder.truth(load)]);
  w.connect(leecher, seeder);
  w.run(9_000);
  const asked = leecher.sentTo(seeder).filter((frame) => frame.type === "request").length;
  assert.ok(asked > 0 && asked <= 20, `a peer that rejects was asked ${asked} times`); // two blocks a piece
  busy = false;
  w.run(minute);
  w.done(leecher);
});

test("refusals of a piece that was given up do not touch the next one", () => {
  for (let delay = 0; delay < 40; delay++) {
    const w = new World(delay, 4 * 256 * kib, 256 * kib);
    const [refuser, leecher, liar, honest] = [w.seeder(), w.leecher(), w.seeder(), w.seeder()];
    refuser.reply = (load) => [{ type: "reject", number: load.number, ...load.block }];
    liar.reply = (load) => {
      const piece = liar.truth(load);
      piece.data[0] = (piece.data[0] as number) ^ 1;
      return [piece];
    };
    w.connect(leecher, refuser);
    w.run(delay);
    w.connect(leecher, liar);
    w.connect(leecher, honest);
    w.run(5 * minute);
    w.done(leecher);
    assert.ok(!leecher.banned.has(honest.id) && !leecher.banned.has(refuser.id), "an honest peer was banned");
  }
});

test("a silent peer is asked again when it wakes", () => {
  const w = new World(10, 10 * 64 * kib, 64 * kib);
  const [seeder, leecher] = [w.seeder(), w.leecher()];
  let asleep = true;
  seeder.reply = (load) => (asleep ? [] : [seeder.truth(load)]);
  w.connect(leecher, seeder);
  w.run(30_000);
  assert.ok(leecher.swarm.peers()[0]?.silent, "a peer that never answered is not silent");
  asleep = false;
  w.run(minute);
  w.done(leecher);
});

test("a peer that is silent for ever is asked a bounded number of times", () => {
  const w = new World(11, 10 * 64 * kib, 64 * kib);
  const [seeder, leecher] = [w.seeder(), w.leecher()];
  seeder.reply = () => [];
  w.connect(leecher, seeder);
  w.run(24 * 60 * minute);
  const asked = leecher.sentTo(seeder).filter((frame) => frame.type === "request").length;
  assert.ok(asked <= MaxRequests, `${asked} requests wait`);
  w.connect(leecher, w.seeder());
  w.run(minute);
  w.done(leecher);
});

test("a peer that never says what it has is left", () => {
  const w = new World(12, 64 * kib, 64 * kib);
  const [mute, leecher] = [w.seeder(), w.leecher()];
  mute.mute = true;
  w.connect(leecher, mute);
  w.run(minute);
  assert.equal(leecher.swarm.peers().length, 0);
});

test("a disconnected peer's blocks go to others", () => {
  const w = new World(13, 4 * mib, 64 * kib);
  const [first, leecher, second] = [w.seeder(), w.leecher(), w.seeder()];
  w.connect(leecher, first);
  w.run(100);
  assert.ok(leecher.swarm.have.count > 0 && !leecher.swarm.complete);
  w.disconnect(leecher, first);
  w.connect(leecher, second);
  w.run(minute);
  w.done(leecher);
});

test("open pieces are bounded and never block", () => {
  const w = new World(14, 64 * 64 * kib, 64 * kib);
  const [half, other] = [new Bits(64), new Bits(64)];
  for (let piece = 0; piece < 64; piece++) (piece < 32 ? half : other).add(piece);
  const first = w.add(w.info, half);
  const leecher = w.leecher({ openBytes: 4 * 64 * kib });
  // the first block of every piece, so that all stay open
  first.reply = (load) => (load.block.begin > 0 ? [] : [first.truth(load)]);
  w.connect(leecher, first);
  w.run(1000);
  assert.equal(leecher.swarm.openPieces, 4);
  w.disconnect(leecher, first);
  w.connect(leecher, w.add(w.info, other));
  w.run(minute);
  assert.equal(leecher.swarm.have.count, 32);
});

describe("a geometry that differs is a goodbye", () => {
  const cases: [string, (info: Info) => Info, number][] = [
    ["total length", (info) => ({ ...info, totalLength: info.totalLength + 1 }), Reason.WrongTotalLength],
    ["piece length", (info) => ({ ...info, pieceLength: info.pieceLength * 2 }), Reason.WrongPieceLength],
  ];
  for (const [name, change, reason] of cases) {
    test(name, () => {
      const w = new World(15, 10 * 64 * kib, 64 * kib);
      const [seeder, leecher] = [w.seeder(), w.add(change({ ...w.info, pieceHashes: null }))];
      w.connect(leecher, seeder);
      w.run(minute);
      assert.equal(leecher.swarm.peers().length + seeder.swarm.peers().length, 0, "they did not part");
      assert.ok(seeder.sentTo(leecher).some((frame) => frame.type === "goodbye" && frame.reason === reason));
    });
  }
});

describe("breaches", () => {
  const none: Frame = { type: "have_none", number: 1 };
  const again = "handshake";
  const request = (piece: number, begin: number, length: number): Frame => ({ type: "request", number: 1, blocks: [{ piece, begin, length }] });
  const cases: Record<string, (Frame | typeof again)[]> = {
    "second handshake": [none, again],
    "second bitfield": [none, { type: "have_all", number: 1 }],
    "bitfield too long": [{ type: "bitfield", number: 1, bits: new Uint8Array(3) }],
    "bitfield with spare": [{ type: "bitfield", number: 1, bits: Uint8Array.of(0, 1) }],
    "have before bitfield": [{ type: "have", number: 1, piece: 1 }],
    "have beyond": [none, { type: "have", number: 1, piece: 10 }],
    "request beyond": [request(10, 0, 16 * kib)],
    "request past the end": [request(0, 64 * kib, 16 * kib)],
    "request across the end": [request(0, 48 * kib, 32 * kib)],
    "request unaligned": [request(0, 1, 16 * kib)],
    "request odd length": [request(0, 0, 16 * kib + 1)],
    "request of nothing": [request(0, 0, 0)],
    "request overflowing": [request(0, 2 ** 32 - 16 * kib, 16 * kib)],
    "hash request unaligned": [{ type: "hash_request", number: 1, index: 1 }],
    "hash request beyond": [{ type: "hash_request", number: 1, index: 16 }],
  };
  for (const [name, frames] of Object.entries(cases)) {
    test(name, () => {
      const w = new World(16, 10 * 64 * kib, 64 * kib);
      const { swarm } = w.seeder();
      swarm.connected(stranger, MinFrame, false, w.now);
      swarm.received(stranger, handshake(w), w.now);
      for (const frame of frames) swarm.received(stranger, frame === again ? handshake(w) : frame, w.now);
      assert.ok(swarm.actions().some((action) => action.type === "break"), "it was let pass");
      assert.equal(swarm.peers().length, 0, "the peer is still in the swarm");
    });
  }
});

test("requests that cannot be served are rejected", () => {
  const w = new World(17, 10 * 64 * kib, 64 * kib);
  const { swarm } = w.leecher();
  swarm.connected(stranger, MinFrame, false, w.now);
  swarm.actions();
  for (const length of [16 * kib, 64 * kib]) {
    const block = { piece: 1, begin: 0, length };
    swarm.received(stranger, { type: "request", number: 5, blocks: [block] }, w.now);
    assert.deepEqual(swarm.actions(), [{ type: "send", peer: stranger, frame: { type: "reject", number: 100, ...block } }]);
  }
});

test("peers that have everything part, also after a refusal", () => {
  const w = new World(19, 4 * 64 * kib, 64 * kib);
  const [refuser, other, leecher] = [w.seeder(), w.seeder(), w.leecher()];
  refuser.reply = ({ number, block }) => [{ type: "reject", number, ...block }];
  w.connect(leecher, refuser);
  w.run(100);
  refuser.mute = true; // it does not say goodbye by itself
  w.connect(leecher, other);
  w.run(minute);
  w.done(leecher);
  assert.equal(leecher.swarm.peers().length, 0);
});

test("a cancel takes a load back", () => {
  const w = new World(18, 10 * 64 * kib, 64 * kib);
  const { swarm } = w.seeder();
  swarm.connected(stranger, 64 * kib, false, w.now);
  swarm.actions();
  const block = { piece: 1, begin: 0, length: 16 * kib };
  swarm.received(stranger, { type: "request", number: 1, blocks: [block] }, w.now);
  swarm.received(stranger, { type: "cancel", number: 1, ...block }, w.now);
  assert.deepEqual(swarm.actions(), [
    { type: "load", peer: stranger, number: 100, block },
    { type: "unload", peer: stranger, number: 100, block },
  ]);
});

test("leaving says goodbye", () => {
  const w = new World(19, 4 * mib, 64 * kib);
  const [seeder, leecher] = [w.seeder(), w.leecher()];
  w.connect(leecher, seeder);
  w.run(100);
  seeder.swarm.leave();
  w.act(seeder);
  w.run(minute);
  assert.ok(leecher.swarm.peers().length === 0 && !leecher.swarm.complete, "the leecher did not lose its seeder");
  w.connect(leecher, w.seeder());
  w.run(minute);
  w.done(leecher);
});

describe("many peers with churn and liars", () => {
  for (let seed = 0; seed < 5; seed++) {
    test(`seed ${seed}`, () => {
      const w = new World(seed, 40 * 64 * kib + 77, 64 * kib);
      const seeder = w.seeder();
      for (let i = 0; i < 3; i++) w.liar();
      const leechers = Array.from({ length: 12 }, () => w.leecher());
      w.mesh();
      const faults = seeded(seed + 99);
      for (let i = 0; i < 20; i++) {
        w.run(50);
        const [a, b] = [leechers[below(faults, 12)] as Node, leechers[below(faults, 12)] as Node];
        if (a !== b && !a.line(b).gone) w.disconnect(a, b);
      }
      w.run(10 * minute);
      for (const leecher of leechers) {
        w.done(leecher);
        assert.ok(!leecher.banned.has(seeder.id), "the honest seeder was banned");
      }
    });
  }
});

// A property: whatever order and faults, what a leecher holds at the end is the content.
test("whatever happens", () => {
  for (let seed = 0; seed < 60; seed++) {
    const faults = seeded(seed + 7);
    const w = new World(seed, 1 + below(faults, 600 * kib), (16 * kib) << (seed % 4));
    const [leecher, honest, faulty] = [w.leecher(), w.seeder(), w.seeder()];
    faulty.reply = (load) => {
      const piece = faulty.truth(load);
      const place = below(faults, piece.data.length);
      switch (below(faults, 6)) {
        case 0:
          piece.data[place] = (piece.data[place] as number) ^ 1;
          return [piece];
        case 1:
          return [{ ...piece, begin: piece.begin + below(faults, 3) * 16 * kib }];
        case 2:
          return [{ ...piece, data: piece.data.subarray(0, below(faults, piece.data.length + 1)) }];
        case 3:
          return [];
        case 4:
          return [{ type: "reject", number: load.number, ...load.block }];
        default:
          return [piece];
      }
    };
    w.connect(leecher, faulty);
    w.run(below(faults, 300));
    w.connect(leecher, honest);
    w.run(30 * minute);
    w.done(leecher);
    assert.ok(!leecher.banned.has(honest.id), `seed ${seed}: the honest peer was banned`);
  }
});
