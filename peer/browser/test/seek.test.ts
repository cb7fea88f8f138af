import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { PeerID } from "../src/ident.ts";
import { Asking, Known, Review } from "../src/seek.ts";
import type { SwarmPeer } from "../src/swarm.ts";

const id = (name: string): PeerID => name.padEnd(40, "0") as PeerID;
const [a, b, c] = [id("a"), id("b"), id("c")];

describe("known peers", () => {
  test("are tried in the order in which they were named, those that failed later", () => {
    const known = new Known();
    for (const peer of [a, b, c, a]) known.add(peer);
    assert.deepEqual(known.due(0), [a, b, c]);
    known.missed(a, 0);
    assert.deepEqual(known.due(4_999), [b, c]);
    assert.deepEqual(known.due(5_000), [b, c, a]);
    known.missed(a, 5_000);
    assert.deepEqual(known.due(14_999), [b, c]);
    assert.deepEqual(known.due(15_000), [b, c, a]);
  });

  test("wait for two minutes at most", () => {
    const known = new Known();
    known.add(a);
    for (let i = 0; i < 50; i++) known.missed(a, 0);
    assert.deepEqual([known.due(119_999), known.due(120_000)], [[], [a]]);
  });

  test("never come again once they are banned, and are forgotten when they are gone", () => {
    const known = new Known();
    for (const peer of [a, b, c]) known.add(peer);
    known.ban(a);
    known.delete(b);
    known.add(a);
    known.missed(b, 0); // not known any more
    known.renew(); // another mediator
    for (const peer of [a, c]) known.add(peer);
    assert.deepEqual(known.due(1e9), [c]);
    known.clear();
    assert.deepEqual(known.due(1e9), []);
  });

  test("are bounded", () => {
    const known = new Known();
    for (let i = 0; i < 5000; i++) known.add(id(i.toString(16).padStart(8, "0")));
    assert.equal(known.due(0).length, 1024);
  });
});

describe("asking", () => {
  /** The times at which it asks, of a download that stands still. */
  function times(asking: Asking, until: number, from = 0): number[] {
    const all: number[] = [];
    for (let now = from; now < until; now += 100) {
      if (!asking.due(now)) continue;
      all.push(now);
      asking.asked(now);
    }
    return all;
  }

  test("comes at growing intervals, up to a minute", () => {
    assert.deepEqual(times(new Asking(() => 0.5), 240_000), [0, 15_000, 45_000, 105_000, 165_000, 225_000]);
  });

  test("comes soon when the last peer is lost, then less and less", () => {
    const asking = new Asking(() => 0.5);
    times(asking, 60_000);
    asking.lost(60_000);
    assert.deepEqual(times(asking, 100_000, 60_000), [61_000, 62_000, 64_000, 68_000, 76_000, 92_000]);
    asking.went();
    assert.deepEqual(times(asking, 200_000, 100_000), [124_000, 139_000, 169_000]);
  });

  test("comes no later for a loss, and not all at once", () => {
    const asking = new Asking(() => 0.5);
    asking.asked(0);
    asking.lost(14_900);
    assert.ok(asking.due(15_000));
    const [early, late] = [new Asking(() => 0), new Asking(() => 0.999)];
    for (const one of [early, late]) one.asked(0);
    assert.deepEqual([early.due(11_250), late.due(18_700)], [true, false]);
  });
});

describe("a review", () => {
  const peer = (id: PeerID, delivered: number, rtt = 10): SwarmPeer => ({
    id, delivered, rtt, rate: 0, pieces: 0, owes: 0, silent: false,
  });
  const all = (): boolean => true;

  test("comes each half minute, and names who delivered least, and little", () => {
    const review = new Review(0);
    assert.deepEqual([review.due(29_999), review.due(30_000)], [false, true]);
    assert.equal(review.worst([peer(a, 0), peer(b, 0)], all, 30_000), null, "new peers were judged");
    assert.deepEqual([review.due(59_999), review.due(60_000)], [false, true]);
    assert.equal(review.worst([peer(a, 100), peer(b, 1000), peer(c, 5)], all, 60_000), a, "c is new");
    assert.equal(review.worst([peer(a, 1100), peer(b, 1600), peer(c, 905)], all, 90_000), null, "nobody is that bad");
  });

  test("of equals it names who is farthest away, and only who may leave", () => {
    const review = new Review(0);
    const peers = [peer(a, 0, 10), peer(b, 0, 300), peer(c, 0)];
    review.worst(peers, all, 30_000);
    const later = [peer(a, 10, 10), peer(b, 10, 300), peer(c, 1000)];
    assert.equal(review.worst(later, all, 60_000), b);
    const much = [peer(a, 10, 10), peer(b, 10, 300), peer(c, 2000)];
    assert.equal(review.worst(much, (one) => one !== b, 90_000), a);
  });

  const [near, far] = [10, 300];
  const cases: [name: string, peers: [got: number, rtt: number][], worst: number][] = [
    ["the only one", [[1000, 0]], 0],
    ["equal, the far one", [[1000, near], [1000, far]], 1],
    ["the far one, although faster", [[1000, near], [1030, far]], 1],
    ["the far one, slower", [[1000, far], [1030, near]], 0],
    ["at the limit", [[1000, near], [1200, far]], 1],
    ["beyond it, the slow one", [[1000, near], [1201, far]], 0],
    ["compared with the slowest, not one by one", [[1000, near], [1150, 2 * near], [1300, far]], 1],
    ["in whatever order", [[1300, far], [1150, 2 * near], [1000, near]], 1],
    ["equally far, the slower one", [[1100, far], [1000, far]], 1],
    ["alike in all, the first", [[1000, far], [1000, far]], 0],
    ["who never answered, of those that sent nothing", [[0, far], [0, 0], [0, near]], 1],
    ["and the first of them", [[0, far], [0, 0], [0, 0]], 1],
    ["who sent nothing, before who sent something", [[1, far], [0, near]], 1],
  ];
  for (const [name, peers, worst] of cases) {
    test(`names, beside a fast one: ${name}`, () => {
      const review = new Review(0);
      const fast = id("f");
      const at = (i: number): PeerID => id(i.toString());
      review.worst([peer(fast, 0), ...peers.map(([, rtt], i) => peer(at(i), 0, rtt))], all, 30_000);
      const later = [peer(fast, 1e6, 1000), ...peers.map(([got, rtt], i) => peer(at(i), got, rtt))];
      assert.equal(review.worst(later, all, 60_000), at(worst));
    });
  }

  test("names nobody who delivered half of the average, however far", () => {
    const review = new Review(0);
    review.worst([peer(a, 0), peer(b, 0), peer(c, 0)], all, 30_000);
    // The average is 1000: 490 is bad, and 500 hardly more, but not bad.
    assert.equal(review.worst([peer(a, 490, 10), peer(b, 500, 300), peer(c, 2010)], all, 60_000), a);
  });
});
