// The parts of the swarm that stand alone: picker and pace.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { calm, firstBudget, jitter, Pace } from "../src/swarm/pace.ts";
import { Picker } from "../src/swarm/picker.ts";
import { Bits } from "../src/wire.ts";
import { below, seeded } from "./world.ts";

const kib = 1 << 10;
const mib = 1 << 20;

describe("picker", () => {
  test("whatever happens in whatever order, the rarest come first", () => {
    for (let seed = 0; seed < 40; seed++) {
      const random = seeded(seed);
      const pieces = 1 + below(random, 40);
      const have = new Bits(pieces);
      const offered = new Set<number>();
      const counts = new Array<number>(pieces).fill(0);
      for (let piece = 0; piece < pieces; piece++) {
        if (below(random, 4) === 0) have.add(piece);
        else offered.add(piece);
      }
      const picker = new Picker(have, 16 * kib, random);
      for (let step = 0; step < 600; step++) {
        const piece = below(random, pieces);
        const what = below(random, 5);
        const count = counts[piece] ?? 0;
        if (what <= 1) {
          picker.more(piece);
          counts[piece] = count + 1;
        } else if (what === 2 && count > 0) {
          picker.fewer(piece);
          counts[piece] = count - 1;
        } else if (what === 3) {
          picker.remove(piece);
          offered.delete(piece);
        } else if (what === 4) {
          picker.add(piece);
          offered.add(piece);
        }
        assert.equal(picker.empty, offered.size === 0);
        for (let i = 0; i < pieces; i++) assert.equal(picker.offers(i), offered.has(i));
        assert.equal(picker.among(Bits.full(pieces)), offered.size);
        const allowed = new Set([...offered].filter(() => below(random, 3) === 0));
        const may = (i: number): boolean => allowed.has(i);
        const [rarest, any] = [picker.rarest(may), picker.any(may)];
        if (allowed.size === 0) {
          assert.deepEqual([rarest, any], [-1, -1]);
          continue;
        }
        const least = Math.min(...[...allowed].map((i) => counts[i] ?? 0));
        assert.ok(allowed.has(rarest) && counts[rarest] === least, `seed ${seed}, step ${step}: ${rarest} is not the rarest`);
        assert.ok(allowed.has(any));
      }
    }
  });

  test("of pieces that are equally rare, each comes first about as often", () => {
    const [pieces, rounds] = [10, 4000];
    const random = seeded(1);
    const firsts = new Array<number>(pieces).fill(0);
    for (let round = 0; round < rounds; round++) {
      const picker = new Picker(new Bits(pieces), 64 * kib, random);
      for (let i = 0; i < pieces; i++) picker.more((i + round) % pieces); // now all of them have one peer
      const first = picker.rarest(() => true);
      firsts[first] = (firsts[first] ?? 0) + 1;
    }
    for (const n of firsts) assert.ok(n > 300 && n < 500, String(firsts));
  });

  test("pieces beside each other come one after the other, in runs of a MiB whose order is chance", () => {
    const pieces = 1024;
    const picker = new Picker(new Bits(pieces), 64 * kib, seeded(2));
    const order: number[] = [];
    for (let i = 0; i < pieces; i++) {
      const piece = picker.rarest(() => true);
      order.push(piece);
      picker.remove(piece);
    }
    const run = mib / (64 * kib);
    const beside = order.filter((piece, i) => piece === (order[i - 1] ?? -2) + 1).length;
    assert.ok(beside >= pieces - pieces / run - 2, `${beside} of ${pieces} pieces followed the one before`);
    const runs = order.filter((piece) => piece % run === 0);
    assert.equal(runs.length, pieces / run);
    const [ascending, descending] = [[...runs].sort((a, b) => a - b), [...runs].sort((a, b) => b - a)];
    assert.notDeepEqual(runs, ascending);
    assert.notDeepEqual(runs, descending);
  });
});

describe("pace", () => {
  const block = 64 * kib;

  /** Has delivered blocks at a rate (bytes/s) for a while, each after the round trip. */
  function steady(rate: number, rtt: number, lasted: number): { pace: Pace; now: number } {
    const pace = new Pace();
    const each = (1000 * block) / rate;
    let now = 0;
    for (; now < lasted; now += each) {
      pace.came(block, now);
      pace.answered(rtt);
    }
    return { pace, now };
  }

  test("the budget is the bandwidth-delay product twice, and what comes during a jitter where that is little", () => {
    for (const [rate, rtt] of [[1e6, 50], [4e6, 20], [3e6, 400]] as const) {
      const product = (2 * rate * rtt) / 1000;
      const want = Math.max(product, Math.min(calm, product + (rate * jitter) / 1000));
      const got = steady(rate, rtt, 3000).pace.budget(4 * mib);
      assert.ok(got > 0.95 * want && got < 1.05 * want, `${rate} bytes/s over ${rtt} ms: ${got} instead of ${want}`);
    }
  });

  test("the budget is bounded", () => {
    assert.equal(new Pace().budget(4 * mib), firstBudget);
    assert.equal(new Pace().budget(1000), 1000);
    assert.equal(steady(1000, 1, 300_000).pace.budget(4 * mib), 128 * kib);
    assert.equal(steady(1e9, 100, 1000).pace.budget(4 * mib), 4 * mib);
  });

  test("a burst is not a rate", () => {
    const rate = 1e6;
    const pace = new Pace();
    pace.idle();
    for (let i = 0; i < 4; i++) pace.came(block, 0); // a quarter of a second's worth at once
    assert.equal(pace.rate, 0);
    for (let now = 0; now < 2000; ) {
      now += (1000 * block) / rate;
      pace.came(block, now);
    }
    assert.ok(pace.rate > 0.9 * rate && pace.rate < 2 * rate, `${pace.rate} bytes/s`);
  });

  test("idle time does not count", () => {
    const { pace, now: begun } = steady(2e6, 20, 1000);
    let now = begun;
    for (let i = 0; i < 5; i++) {
      now += 10_000;
      pace.idle();
      for (let n = 0; n < 20; n++) {
        pace.came(block, now);
        now += (1000 * block) / 2e6;
      }
    }
    assert.ok(pace.rate > 1.8e6 && pace.rate < 2.2e6, `${pace.rate} bytes/s`);
  });

  test("an old rate is forgotten", () => {
    const { pace, now: begun } = steady(10e6, 20, 1000);
    assert.ok(pace.rate > 9e6 && pace.rate < 11e6);
    for (let i = 1, now = begun; i <= 25; i++) {
      now += (1000 * block) / 100e3;
      pace.came(block, now);
    }
    assert.ok(pace.rate > 95e3 && pace.rate < 105e3, `${pace.rate} bytes/s, of 100,000`);
  });

  test("patience follows the rate", () => {
    assert.equal(new Pace().patience(48 * kib, 10_000), 10_000);
    assert.equal(steady(10e6, 20, 1000).pace.patience(48 * kib, 10_000), 3_000);
    assert.equal(steady(1e3, 20, 200_000).pace.patience(48 * kib, 10_000), 10_000);
    assert.equal(steady(10e6, 20, 1000).pace.patience(48 * kib, 1_000), 1_000);
  });

  test("what a peer takes is its round trip and its bytes; by its first budget where nothing is known", () => {
    assert.equal(new Pace().takes(firstBudget), 1_000);
    assert.equal(new Pace().takes(0), 0);
    const got = steady(1e6, 50, 3000).pace.takes(500_000);
    assert.ok(Math.abs(got - 550) < 20, `${got} ms for half a second of bytes`);
  });

  test("the least round trip counts", () => {
    const pace = new Pace();
    for (const took of [300, 40, 500]) pace.answered(took);
    assert.equal(pace.rtt, 40);
  });
});
