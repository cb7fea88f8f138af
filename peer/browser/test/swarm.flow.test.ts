// How a swarm goes on with what is there, serves readers, and uses the network: the
// scenarios of Go's peer/swarm (resume, stream, speed, crowd), on exact simulated time.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Info } from "../src/content.ts";
import { DefaultInFlight } from "../src/swarm.ts";
import { Bits } from "../src/wire.ts";
import { below, type Node, seeded, World } from "./world.ts";

const kib = 1 << 10;
const mib = 1 << 20;
const minute = 60_000;

/** A leecher whose store has these pieces of an earlier visit. */
function resumed(w: World, info: Info, pieces: readonly number[]): Node {
  const node = w.add(info, undefined, { check: true });
  for (const piece of pieces) {
    node.kept.add(piece);
    w.piece(node.store, piece).set(w.piece(w.data, piece));
  }
  w.act(node);
  return node;
}

/** How many pieces another one was told of. */
function told(node: Node, other: Node): number {
  let pieces = 0;
  for (const frame of node.sentTo(other)) {
    if (frame.type === "have") pieces++;
    if (frame.type === "have_all") pieces = node.swarm.have.pieces;
    if (frame.type === "bitfield") pieces += (Bits.parse(frame.bits, node.swarm.have.pieces) as Bits).count;
  }
  return pieces;
}

/** What came to the node and was not needed, over the content. */
function waste(w: World, node: Node): number {
  return node.fetched / w.data.length - 1;
}

/** Runs until the node is complete, and returns the content's length over the time since now, in bytes/s. */
function speed(w: World, bound: number, node: Node): number {
  const began = w.now;
  w.finish(bound, node);
  return (1000 * w.data.length) / (node.doneAt - began);
}

describe("resuming", () => {
  for (const bare of [false, true]) {
    test(`what is there is never asked for${bare ? ", by a bare link" : ""}`, () => {
      const w = new World(1, 40 * 64 * kib - 9, 64 * kib);
      const even = Array.from({ length: 20 }, (_, i) => 2 * i);
      const leecher = resumed(w, bare ? { ...w.info, pieceHashes: null } : w.info, even);
      const [seeder, other] = [w.seeder(), w.leecher()];
      w.connect(leecher, seeder);
      w.connect(leecher, other);
      w.finish(minute, leecher, other);
      assert.deepEqual(leecher.requests(seeder).filter(({ piece }) => piece % 2 === 0), []);
      assert.equal(told(leecher, other), 40);
    });
  }

  test("nothing is fetched before the store was looked at", () => {
    const w = new World(2, 10 * 64 * kib, 64 * kib);
    const [leecher, seeder, other] = [w.leecher({ check: true }), w.seeder(), w.leecher()];
    let checks = 0;
    leecher.check = () => checks++;
    w.connect(leecher, seeder);
    w.connect(leecher, other);
    w.run(minute);
    assert.deepEqual([leecher.requests(seeder).length, checks], [0, 1]);
    const have = new Bits(10);
    have.add(3);
    w.piece(leecher.store, 3).set(w.piece(w.data, 3));
    leecher.swarm.checked(have, w.now);
    w.act(leecher);
    assert.equal(told(leecher, other), 1);
    leecher.swarm.checked(Bits.full(10), w.now); // nobody asked
    w.finish(minute, leecher, other);
  });

  test("everything is there already: it is complete without a peer, and seeds", () => {
    const w = new World(3, 10 * 64 * kib, 64 * kib);
    const leecher = resumed(w, w.info, [...Array(10).keys()]);
    w.done(leecher);
    const other = w.leecher();
    w.connect(leecher, other);
    w.finish(minute, other);
    assert.equal(leecher.fetched, 0);
  });
});

describe("reading", () => {
  /** A leecher with three seeders, of which each takes a while. */
  function reading(length: number, pieceLength: number): { w: World; leecher: Node; seeders: Node[]; order: number[] } {
    const w = new World(1, length, pieceLength);
    const leecher = w.leecher();
    const seeders = Array.from({ length: 3 }, () => w.seeder());
    for (const seeder of seeders) {
      seeder.up = 1e6;
      w.over(40, leecher, seeder);
    }
    const order: number[] = [];
    leecher.verified = (piece) => order.push(piece);
    return { w, leecher, seeders, order };
  }

  test("what a reader waits for comes first, in about its order, from everybody", () => {
    const { w, leecher, seeders, order } = reading(16 * mib, 256 * kib);
    leecher.swarm.urge([{ first: 0, end: 16 }], w.now);
    w.until(minute, "head", () => order.length >= 16);
    for (const [i, piece] of order.entries()) assert.ok(piece < 16 && Math.abs(piece - i) <= 3, `pieces came in the order ${order}`);
    for (const seeder of seeders) assert.ok(seeder.uploaded >= (16 * 256 * kib) / 6, `one sent ${seeder.uploaded} bytes of the head`);
    assert.ok(w.now < 1.15 * ((1000 * 16 * 256 * kib) / 3e6), `the head took ${w.now} ms`);
  });

  test("after a jump to the end the next requests are for that", () => {
    const { w, leecher, seeders, order } = reading(32 * mib, 256 * kib);
    const last = w.pieces - 4;
    leecher.swarm.urge([{ first: 0, end: 32 }], w.now);
    w.run(2000);
    const asked = seeders.map((seeder) => leecher.requests(seeder).length);
    leecher.swarm.urge([{ first: last, end: last + 4 }], w.now);
    w.act(leecher);
    const jumped = w.now;
    w.until(minute, "end of the content", () => order.includes(last));
    assert.ok(w.now - jumped <= 1000, `the first piece came after ${w.now - jumped} ms`);
    for (const [i, seeder] of seeders.entries()) {
      for (const { piece } of leecher.requests(seeder).slice(asked[i] ?? 0, (asked[i] ?? 0) + 4)) assert.ok(piece >= last, `piece ${piece} after the jump`);
    }
    leecher.swarm.urge([], w.now);
    w.finish(2 * minute, leecher);
  });

  test("ranges beyond the content, or the wrong way round, wait for nothing", () => {
    const w = new World(1, 10 * 64 * kib, 64 * kib);
    const leecher = w.leecher();
    leecher.swarm.urge([[-5, 3], [8, 20], [5, 5], [7, 6], [100, 200], [-9, -2]].map(([first = 0, end = 0]) => ({ first, end })), w.now);
    w.connect(leecher, w.seeder());
    w.finish(minute, leecher);
  });

  for (const [name, up] of [["it takes requests, and that is all", null], ["one block in five seconds", 10e3], ["one block in half a second", 100e3]] as const) {
    test(`a reader is not held up by a slow peer: ${name}`, () => {
      const w = new World(2, 8 * mib, 256 * kib);
      const [leecher, slow, fast] = [w.leecher(), w.seeder(), w.seeder()];
      if (up === null) slow.reply = () => [];
      else slow.up = up;
      fast.up = 2e6;
      w.over(20, leecher, slow);
      leecher.swarm.urge([{ first: 0, end: 8 }], w.now);
      w.run(100);
      w.over(20, leecher, fast);
      for (let piece = 0; piece < 8; piece++) {
        leecher.swarm.urge([{ first: piece, end: 8 }], w.now); // as a reader says it
        w.until(4000, "head", () => leecher.swarm.have.has(piece));
      }
      assert.ok(w.now <= 2500, `the head took ${w.now} ms`); // one second until it counts as stalled, and one for the 2 MiB
      leecher.swarm.urge([], w.now);
      w.finish(minute, leecher);
      assert.ok(waste(w, leecher) <= 0.08, `${waste(w, leecher)} of the content for nothing`);
    });
  }
});

describe("speed", () => {
  for (const pieceLength of [64 * kib, mib]) {
    test(`four seeders together, pieces of ${pieceLength / kib} KiB`, () => {
      const w = new World(1, 8 * mib, pieceLength);
      const leecher = w.leecher();
      for (let i = 0; i < 4; i++) {
        const seeder = w.seeder();
        seeder.up = 2e6;
        w.over(40, leecher, seeder);
      }
      const reached = speed(w, minute, leecher);
      assert.ok(reached >= 0.9 * 8e6, `${reached} bytes/s of 8 MB/s`);
      assert.ok(waste(w, leecher) <= 0.03, `${waste(w, leecher)} of it for nothing`);
    });

    for (const slow of [10e3, 1e6]) {
      test(`a seeder of ${slow} bytes/s does not hold up the end, pieces of ${pieceLength / kib} KiB`, () => {
        const w = new World(2, 16 * mib, pieceLength);
        const leecher = w.leecher();
        for (const up of [slow, 4e6, 4e6, 4e6]) {
          const seeder = w.seeder();
          seeder.up = up;
          w.over(40, leecher, seeder);
        }
        const reached = speed(w, minute, leecher) / (12e6 + slow);
        assert.ok(reached >= 0.8, `${reached} of all uplinks together`);
        assert.ok(waste(w, leecher) <= 0.05, `${waste(w, leecher)} of it for nothing`);
      });
    }
  }

  for (const [rtt, up, most] of [[100, 20e6, DefaultInFlight], [20, 2e6, 1.3 * mib], [2, 100e3, 192 * kib]] as const) {
    test(`a path of ${up} bytes/s and ${rtt} ms is filled, and not overfilled`, () => {
      const w = new World(3, Math.max(mib, 6 * up), 64 * kib); // 6 seconds of it
      const [seeder, leecher] = [w.seeder(), w.leecher()];
      seeder.up = up;
      w.over(rtt, leecher, seeder);
      w.run(4000); // a window of the first answers, with what was asked before anything was known
      let owes = 0;
      for (let i = 0; i < 50; i++) {
        w.run(10);
        owes = Math.max(owes, leecher.swarm.peers()[0]?.owes ?? 0);
      }
      const reached = (1000 * seeder.uploaded) / w.now / up;
      assert.ok(reached >= 0.8, `${reached} of the uplink, the start included`);
      assert.ok(owes <= most + 64 * kib, `${owes} bytes in flight`);
    });
  }

  test("what may be asked for per second is what comes per second", () => {
    const rate = 1e6;
    const w = new World(4, 4 * mib, 64 * kib);
    let free = 0; // until when the rate is used up
    const leecher = w.leecher({
      allow: (now, bytes) => {
        if (free > now) return free - now;
        free = now + (1000 * bytes) / rate;
        return 0;
      },
    });
    for (let i = 0; i < 3; i++) w.over(40, leecher, w.seeder());
    w.finish(minute, leecher);
    const exact = (1000 * 4 * mib) / rate;
    assert.ok(w.now >= 0.97 * exact && w.now <= 1.05 * exact, `it took ${w.now} ms instead of ${exact}`);
  });

  for (const [name, pause] of [["for ever", 60 * minute], ["for five seconds", 5000]] as const) {
    test(`nobody waits for a seeder that stalls ${name}`, () => {
      const w = new World(5, 16 * mib, 256 * kib);
      const [leecher, stalling, other] = [w.leecher(), w.seeder(), w.seeder()];
      stalling.up = 4e6;
      other.up = 4e6;
      w.over(40, leecher, stalling);
      w.over(40, leecher, other);
      w.run(1000);
      for (const line of [stalling.line(leecher), leecher.line(stalling)]) line.last = w.now + pause;
      w.finish(minute, leecher);
      // The second one alone needs 3 s for what is left then.
      assert.ok(w.now <= 5000, `it took ${w.now} ms`);
      assert.ok(waste(w, leecher) <= 0.1, `${waste(w, leecher)} of it for nothing`);
    });
  }

  test("ten leechers in a row pass on what they have from the first piece on", () => {
    const up = 4e6;
    const w = new World(6, 4 * mib, 64 * kib);
    let before = w.seeder();
    before.up = up;
    const chain: Node[] = [];
    for (let i = 0; i < 10; i++) {
      const next = w.leecher();
      next.up = up;
      w.over(20, before, next);
      chain.push(next);
      before = next;
    }
    w.finish(minute, ...chain);
    const alone = (1000 * 4 * mib) / up;
    assert.ok(w.now <= 2.5 * alone, `ten transfers in a row took ${w.now / alone} times as long as one`);
  });

  test("eight leechers at once take little longer than they must", () => {
    const up = 4e6;
    const w = new World(1, 8 * mib, 64 * kib);
    const seeder = w.seeder();
    const leechers = Array.from({ length: 8 }, () => w.leecher());
    for (const node of w.nodes) node.up = up;
    w.mesh();
    w.finish(minute, ...leechers);
    const bound = (1000 * Math.max(w.data.length, (8 * w.data.length) / 9)) / up;
    assert.ok(w.now <= 1.7 * bound, `${w.now / bound} of the bound; the seeder sent ${seeder.uploaded / w.data.length} of the content`);
  });

  test("a disk that takes its time is waited for, and nothing is lost", () => {
    const random = seeded(9);
    const w = new World(7, 8 * mib, 256 * kib);
    const [leecher, liar] = [w.leecher(), w.liar()];
    leecher.disk = () => below(random, 200);
    for (const seeder of [w.seeder(), w.seeder(), liar]) w.connect(leecher, seeder);
    w.finish(minute, leecher);
    assert.ok(leecher.banned.has(liar.id));
    assert.equal(leecher.banned.size, 1);
  });
});
