import assert from "node:assert/strict";
import { test } from "node:test";

import { FakeClock } from "../../peer/browser/test/clock.ts";
import { parseObject } from "../../peer/browser/src/strict.ts";
import * as format from "../src/format.ts";
import { History } from "../src/history.ts";
import { arrange, choose, crowd, crowdRadius, heightOf, inWords, type Network } from "../src/network.ts";
import { Poll } from "../src/poll.ts";
import { nameOf, type Neighbour, pageOf, parseReport, readText, type Report } from "../src/report.ts";
import { box, curve } from "../src/sparkline.ts";

const id = (n: number): string => `12D3KooW${String(n).padStart(8, "0")}`;

/** What a mediator answers, with these fields in place of its own. */
function answer(fields: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    id: id(0), version: "v1.2", uptime_seconds: 60, connections: 4, peers: 3, contents: 2, announced: 1, searches: 1,
    pending: 0, running: 0, messages: 100, refusals: { rate_limited: 2, bad_message: 1 },
    dht: { mediators: 2, streams: 1, records: 5, unstored: 0 },
    mediators: [{ id: id(1), public_url: "wss://one.example/mediation", version: "v1.1", peers: 7, rtt_ms: 12.5 }, { id: id(2), peers: 0 }],
    ...fields,
  };
}

function report(fields: Record<string, unknown> = {}): Report {
  const parsed = parseReport(answer(fields));
  assert.ok(parsed !== null);
  return parsed;
}

/** That many mediators; the first is the nearest. */
function many(count: number): Record<string, unknown>[] {
  return Array.from({ length: count }, (_, n) => ({ id: id(count - n), peers: n, rtt_ms: n + 1 }));
}

test("a report is read whole", () => {
  assert.deepEqual(parseReport(answer({ turn: { allocations: 1, bytes: 9, dropped_bytes: 0 }, of_tomorrow: [{}] })), {
    id: id(0), version: "v1.2", uptime: 60, peers: 3, contents: 2, searches: 1, records: 5, messages: 100, refusals: 3, known: 2, reach: null, astray: false, relayed: 9,
    neighbours: [
      { id: id(1), page: "https://one.example/", version: "v1.1", peers: 7, roundTrip: 12.5 },
      { id: id(2), page: null, version: "", peers: 0, roundTrip: null },
    ],
  });
  const { relayed, version, neighbours } = report({ version: undefined, mediators: null });
  assert.deepEqual({ relayed, version, neighbours }, { relayed: null, version: "", neighbours: [] });
});

test("what is no report is none", () => {
  for (const value of [null, undefined, 7, "text", true, [], [answer()], {}]) assert.equal(parseReport(value), null);
  for (const text of ["", "no JSON", "[1]", "null", '{"id":', `${"[".repeat(100)}`]) assert.equal(parseReport(parseObject(text)), null);
  for (const name of ["uptime_seconds", "peers", "contents", "searches", "messages", "refusals", "dht"]) {
    for (const value of [undefined, null, "12", {}.toString, [], true, NaN, -1, -Infinity]) {
      assert.equal(parseReport(answer({ [name]: value })), null, `${name}: ${String(value)}`);
    }
  }
  for (const value of [undefined, 7, "", "two\nlines", "\u202egnp.exe", "x".repeat(129)]) assert.equal(parseReport(answer({ id: value })), null);
});

test("how others reach a mediator is read, and nothing else for it", () => {
  const dht = (reach: unknown): Record<string, unknown> => ({ dht: { mediators: 0, records: 0, reach } });
  for (const reach of ["public", "hidden", "relayed"]) assert.equal(report(dht(reach)).reach, reach);
  for (const reach of ["unconfirmed", "toString", "", 1, null, {}]) assert.equal(report(dht(reach)).reach, null);
  assert.equal(report({ public_url_error: "another mediator answers there" }).astray, true);
  for (const error of ["", null, {}, undefined]) assert.equal(report({ public_url_error: error }).astray, false);
});

test("numbers are bounded", () => {
  const { peers, messages, refusals, relayed, known } = report({
    peers: Infinity, messages: 1e300, refusals: { a: 1e300, b: 1e300, c: -5, d: "7", e: NaN }, turn: { bytes: 2 ** 64 }, dht: { mediators: 1e99, records: 0 },
  });
  assert.deepEqual([...new Set([peers, messages, refusals, relayed, known])], [Number.MAX_SAFE_INTEGER]);
  assert.equal(report({ turn: { bytes: "all" } }).relayed, null);
});

test("of the mediators it names, the wrong ones are passed over", () => {
  const { neighbours } = report({
    mediators: [
      null, 7, "text", [], {}, { id: 5, peers: 1 }, { id: id(3) }, { id: id(4), peers: -1 }, { id: "<b>\u0000", peers: 1 },
      { id: id(0), peers: 9 }, { id: id(5), peers: 1 }, { id: id(5), peers: 2 },
      { id: "__proto__", peers: 3, version: "v\u2028", public_url: "javascript:alert(1)", rtt_ms: -4 },
    ],
  });
  assert.deepEqual(neighbours.map(({ id: name, peers }) => [name, peers]), [[id(5), 1], ["__proto__", 3]]);
  assert.deepEqual(neighbours[1], { id: "__proto__", page: null, version: "", peers: 3, roundTrip: null });
});

test("thousands of mediators are counted, and hundreds read", () => {
  const { neighbours, known } = report({ mediators: many(5000) });
  assert.deepEqual([neighbours.length, known], [512, 5000]);
});

test("only the page on a mediator's own host is linked", () => {
  assert.deepEqual(
    ["ws://a.example:8080/mediation", "wss://A.example", "wss://[::1]:9/mediation?x=//b.example"].map(pageOf),
    ["http://a.example:8080/", "https://a.example/", "https://[::1]:9/"],
  );
  for (const url of [
    undefined, null, 7, "", "a.example", "http://a.example", "javascript:alert(1)", "wss:a.example", "wss://", "wss://me@a.example/",
    "wss://a.example/#x", "wss://a.example\\@b.example/", "wss://a.example:0/", "wss://a.example:99999/", "wss://ä.example/",
    "wss://1.2.3.4.5/", " wss://a.example", "wss://a.example/\n", `wss://${"a".repeat(300)}`,
  ]) {
    assert.equal(pageOf(url), null, String(url));
  }
});

test("a mediator is called by its host, or else by the end of its id", () => {
  const [named, nameless] = report().neighbours as [Neighbour, Neighbour];
  assert.deepEqual([nameOf(named), nameOf(nameless)], ["one.example", "…00000002"]);
});

test("an answer that is too long is not read to its end", async () => {
  let pulled = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      pulled++;
      controller.enqueue(new Uint8Array(1000));
    },
  });
  assert.equal(await readText(endless, 10_000), null);
  assert.ok(pulled < 20, `${pulled} blocks were read`);
  const euro = new TextEncoder().encode("10 €");
  const split = new ReadableStream<Uint8Array>({
    start: (controller) => {
      controller.enqueue(euro.subarray(0, 4));
      controller.enqueue(euro.subarray(4));
      controller.close();
    },
  });
  assert.equal(await readText(split, euro.length), "10 €");
});

test("rates are taken between reports", () => {
  const history = new History();
  const at = (now: number, messages: number, refused: number, more: Record<string, unknown> = {}): unknown[] => {
    const sample = history.add(report({ messages, refusals: { x: refused }, ...more }), now);
    return [sample.messages, sample.refusals];
  };
  assert.deepEqual(at(1000, 100, 5), [null, null]);
  assert.deepEqual(at(3000, 300, 5), [100, 0]);
  assert.deepEqual(at(3000, 400, 5), [null, null]); // at once
  assert.deepEqual(at(5000, 400, 9), [0, 2]);
  assert.deepEqual(at(7000, 10, 9), [null, null]); // fell: it was started anew
  assert.deepEqual(at(9000, 30, 0), [null, null]);
  assert.deepEqual(at(11_000, 50, 0), [10, 0]);
  assert.deepEqual(at(13_000, 90, 0, { uptime_seconds: 1 }), [null, null]); // started anew, and busier than before
  assert.deepEqual(at(15_000, 90, 0, { id: id(9) }), [null, null]);
  assert.deepEqual(at(99_000, 900, 0, { id: id(9) }), [null, null]); // nobody looked
});

test("the last five minutes are remembered", () => {
  const history = new History();
  for (let now = 0; now <= 3_600_000; now += 2000) history.add(report(), now);
  assert.deepEqual([history.samples.length, history.samples[0]?.at], [151, 3_300_000]);
});

test("a curve goes from the left to now, and breaks where nothing is known", () => {
  const sample = (at: number, messages: number | null) => ({ at, peers: 0, messages, refusals: 0 });
  assert.deepEqual(curve([], "peers", 0), { line: "", area: "", top: 0 });
  const flat = curve([sample(0, 0), sample(2000, 0)], "messages", 2000);
  assert.deepEqual([flat.line, flat.top], [`M298 39L300 39`, 0]);
  const broken = curve([sample(0, 5), sample(150_000, 10), sample(152_000, null), sample(298_000, 5), sample(300_000, 10)], "messages", 300_000);
  assert.equal(broken.line, "M0 20h1M150 1h1M298 20L300 1");
  assert.equal(broken.area, "M0 40L0 20V40ZM150 40L150 1V40ZM298 40L298 20L300 1V40Z");
  assert.equal(curve([sample(0, 5)], "messages", 400_000).line, "");
  const numbers = curve([sample(0, Number.MAX_SAFE_INTEGER), sample(2000, 1)], "messages", 2000).line.match(/[\d.]+/g)?.map(Number) ?? [];
  assert.ok(numbers.every((value) => value >= 0 && value <= box.width));
});

/** Everything stands inside the picture, and no two mediators on each other. */
function isTidy({ width, height, middle, places, crowd: points }: Network): void {
  for (const { x, y, radius } of places) {
    assert.ok(radius >= 8, `a radius of ${radius}`);
    assert.ok(x - radius >= 0 && x + radius <= width && y - radius >= 0 && y + radius <= height, `${x}, ${y} in ${width} × ${height}`);
    assert.ok(Math.hypot(x - middle.x, y - middle.y) >= crowdRadius + radius - 0.01, "a mediator in the crowd");
  }
  for (const [index, a] of places.entries()) {
    for (const b of places.slice(index + 1)) assert.ok(Math.hypot(a.x - b.x, a.y - b.y) > a.radius + b.radius, `${width} px: one on the other`);
  }
  for (const { x, y } of points) assert.ok(Math.hypot(x - middle.x, y - middle.y) <= crowdRadius - 2);
}

test("nothing overlaps in the picture, however narrow or full it is", () => {
  for (const width of [248, 264, 330, 480, 608, 1200]) {
    for (const count of [0, 1, 2, 7, 24, 256, 5000]) {
      for (const rtt of [undefined, 0.01, 8, 90, 1e12]) {
        const mediators = many(count).map((entry, n) => ({ ...entry, peers: n % 2 === 0 ? 1e15 : 0, rtt_ms: rtt }));
        const full = report({ mediators, peers: 10 ** (count % 16), dht: { mediators: 3, records: 0 } });
        const network = arrange(full, width, new Set());
        isTidy(network);
        assert.equal(network.places.length + network.more, full.known);
        assert.ok(network.places.length <= 24 && network.places.length >= Math.min(count, 18));
      }
      isTidy(arrange(report({ mediators: many(count) }), width, new Set()));
    }
  }
  assert.equal(arrange(report({ mediators: [] }), 608, new Set()).height, 2 * (crowdRadius + 16)); // no room for nobody
  assert.deepEqual([264, 400, 608, 1200].map(heightOf), [264, 300, 353, 360]);
});

test("the longer the round trip, the further out; the more peers, the larger", () => {
  const mediators = [1, 5, 50, 400, 9999, undefined].map((rtt, n) => ({ id: id(n + 1), peers: 10 ** n, rtt_ms: rtt }));
  const { places, middle } = arrange(report({ mediators }), 300, new Set());
  const distances = places.map(({ x, y }) => Math.round(Math.hypot(x - middle.x, y - middle.y)));
  assert.deepEqual(distances, [...distances].sort((a, b) => a - b));
  assert.equal(new Set(distances).size, 5); // what takes very long and what is not known stand at the edge
  const radii = places.map(({ radius }) => radius);
  assert.deepEqual(radii, [...radii].sort((a, b) => a - b));
});

test("the nearest are drawn, and stay while they are known", () => {
  const names = (list: readonly Neighbour[]): string[] => list.map((neighbour) => neighbour.id);
  const { neighbours } = report({ mediators: many(9) }); // 9 is the nearest, 1 the furthest
  const first = choose(neighbours, 3, new Set());
  assert.deepEqual(names(first), [id(7), id(8), id(9)]);
  assert.deepEqual(names(choose(neighbours, 3, new Set([id(2), id(8), "gone"]))), [id(2), id(8), id(9)]);
  assert.deepEqual(names(choose([...neighbours].reverse(), 3, new Set(names(first)))), names(first));
});

test("a crowd is never a blot, and says how many a point stands for", () => {
  const middle = { x: 0, y: 0 };
  const sizes = [0, 1, 100, 101, 200, 201, 501, 1001, 25_000, Number.MAX_SAFE_INTEGER].map((peers) => crowd(peers, middle));
  assert.deepEqual(sizes.map(({ each }) => each), [1, 1, 1, 2, 2, 5, 10, 20, 500, 1e14]);
  assert.deepEqual(sizes.map(({ points }) => points.length), [0, 1, 100, 51, 100, 41, 51, 51, 50, 91]);
});

test("the picture is told in words", () => {
  assert.equal(inWords(report()), "3 people are connected to this mediator. It knows 2 other mediators, with 7 people there.");
  assert.match(inWords(report({ dht: { mediators: 1000, records: 0 } })), /knows 1,000 other mediators, with 7 people at the 2 that it has heard from\.$/);
  assert.match(inWords(report({ mediators: [{ id: id(1), peers: 0 }], dht: { mediators: 1, records: 0 } })), /knows 1 other mediator, with nobody there\.$/);
  const alone = { mediators: [], dht: { mediators: 0, records: 0 } };
  assert.match(inWords(report({ ...alone, peers: 0 })), /^Nobody is connected/);
  assert.match(inWords(report({ ...alone, peers: 1 })), /^1 person is connected to this mediator\. It knows no other/);
  assert.match(inWords(report({ ...alone, dht: { mediators: 1, records: 0 } })), /1 other mediator, and has not heard from it yet\.$/);
});

/** A mediator that answers when a test says so. */
class Asked {
  readonly clock = new FakeClock();
  readonly times: number[] = [];
  readonly heard: string[] = [];
  answers = true;
  #waiting: { give: (answer: string | null) => void; fail: (error: Error) => void } | null = null;

  readonly poll = new Poll<string>({
    clock: this.clock,
    ask: (signal) => {
      assert.equal(this.#waiting, null, "two questions at a time");
      this.times.push(this.clock.now());
      return new Promise((give, fail) => {
        this.#waiting = { give, fail };
        signal.addEventListener("abort", () => this.end(new Error("it took too long")));
        if (this.answers) this.end("here");
      });
    },
    answered: (text) => this.heard.push(text),
    unanswered: () => this.heard.push("nothing"),
  });

  end(result: string | null | Error): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (result instanceof Error) waiting?.fail(result);
    else waiting?.give(result);
  }
}

test("the mediator is asked every two seconds", async () => {
  const { clock, poll, times, heard } = new Asked();
  await clock.pass(5000);
  assert.deepEqual(times, []);
  poll.resume();
  poll.resume();
  await clock.pass(6000);
  assert.deepEqual(times, [5000, 7000, 9000, 11_000]);
  assert.deepEqual(heard, ["here", "here", "here", "here"]);
});

test("a mediator that does not answer is asked less and less often, and at once by who comes back", async () => {
  const asked = new Asked();
  const { clock, poll, times, heard } = asked;
  asked.answers = false;
  poll.resume();
  await clock.pass(8000);
  assert.deepEqual([times.length, heard], [1, ["nothing"]]);
  await clock.pass(200_000);
  const waits = times.map((time, index) => time - (times[index - 1] ?? 0)).slice(1);
  assert.deepEqual(waits.slice(0, 6), [10_000, 12_000, 16_000, 24_000, 38_000, 38_000]); // eight seconds for the answer, and then 2, 4, 8, 16 and 30
  poll.pause();
  await clock.pass(3000);
  asked.answers = true;
  poll.resume();
  await clock.pass(0);
  asked.end(null);
  const before = times.length;
  await clock.pass(30_000);
  assert.ok(times.length > before);
  assert.equal(heard.at(-1), "here");
});

test("nothing is asked while nobody looks, nor more often for who comes and goes", async () => {
  const asked = new Asked();
  const { clock, poll, times, heard } = asked;
  asked.answers = false;
  poll.resume();
  await clock.pass(500);
  poll.pause();
  asked.end("late");
  await clock.pass(60_000);
  assert.deepEqual([times, heard, clock.waiting], [[0], ["late"], 0]);
  asked.answers = true;
  poll.resume();
  await clock.pass(0);
  for (let n = 0; n < 10; n++) {
    poll.pause();
    poll.resume();
    await clock.pass(100);
  }
  assert.deepEqual(times, [0, 60_500]);
  await clock.pass(1000);
  assert.deepEqual(times, [0, 60_500, 62_500]);
});

test("a mediator that answers nonsense does not answer", async () => {
  const asked = new Asked();
  asked.answers = false;
  asked.poll.resume();
  await asked.clock.pass(10);
  asked.end(null);
  await asked.clock.pass(10);
  assert.deepEqual(asked.heard, ["nothing"]);
});

test("what a stranger counts is never long", () => {
  assert.deepEqual([0, 9999, 12_345, 4_500_000, Number.MAX_SAFE_INTEGER].map(format.short), ["0", "9,999", "12.3K", "4.5M", "9007.2T"]);
  assert.deepEqual([0, 0.04, 0.4, 3, 9.94, 9.96, 1234.5].map(format.rate), ["0", "0", "0.4", "3.0", "9.9", "10", "1,235"]);
  assert.deepEqual([0, 59.9, 60, 7800, 100_000, 172_800, 1e9].map(format.uptime), ["0 s", "59 s", "1 min 0 s", "2 h 10 min", "27 h 46 min", "2 days", "11,574 days"]);
});
