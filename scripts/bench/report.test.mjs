// node --test scripts/bench/report.test.mjs

import assert from "node:assert/strict";
import { test } from "node:test";

import { median, summarize, table } from "./report.mjs";

const speed = { name: "a", what: "A", yardstick: "raw", unit: "MB/s", judged: "ratio", better: "higher", of: "median", must: 0.9, moonshot: 0.97 };
const memory = { name: "m", what: "M", yardstick: null, unit: "MiB", judged: "ours", better: "lower", of: "max", must: 80, moonshot: 48 };

test("the median", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([10, 9]), 9.5);
});

test("the ratio is that of each round, and of these the median", () => {
  const samples = [{ ours: 50, yardstick: 50 }, { ours: 9, yardstick: 10 }, { ours: 80, yardstick: 100 }];
  const { ours, yardstick, ratio, reached, against } = summarize(speed, samples, null);
  assert.deepEqual({ ours, yardstick, ratio, reached, against }, { ours: 50, yardstick: 50, ratio: 0.9, reached: "yes", against: "raw" });
});

test("of several yardsticks, the best over all rounds counts", () => {
  const samples = [{ ours: 9, yardstick: { x: 10, y: 99 } }, { ours: 9, yardstick: { x: 10, y: 5 } }, { ours: 9, yardstick: { x: 10, y: 5 } }];
  const { yardstick, ratio, against } = summarize(speed, samples, null);
  assert.deepEqual({ yardstick, ratio, against }, { yardstick: 10, ratio: 0.9, against: "raw, x" });
  const time = { ...speed, better: "lower" };
  assert.equal(summarize(time, samples, null).against, "raw, y");
});

test("memory counts at its worst, and has no ratio", () => {
  const { ours, ratio, reached } = summarize(memory, [{ ours: 40 }, { ours: 81 }, { ours: 50 }], null);
  assert.deepEqual({ ours, ratio, reached }, { ours: 81, ratio: null, reached: "no" });
});

test("what is reached, at the bounds", () => {
  const reached = (row, ours) => summarize(row, [{ ours, yardstick: 1 }], null).reached;
  assert.deepEqual([0.89, 0.9, 0.96, 0.97].map((ours) => reached(speed, ours)), ["no", "yes", "yes", "moonshot"]);
  assert.deepEqual([80.1, 80, 48.1, 48].map((ours) => reached(memory, ours)), ["no", "yes", "yes", "moonshot"]);
  assert.equal(reached({ ...speed, must: null, moonshot: null }, 5), null);
});

test("a failure is a row, with what was measured before it", () => {
  const text = table([summarize(speed, [], "no way"), summarize(memory, [{ ours: 40 }], "late")]);
  assert.match(text, /^a +A +– +– +– +≥ 0\.9 +≥ 0\.97 +FAILED$/m);
  assert.match(text, /^m +M +40\.0 MiB +– +– +≤ 80 MiB +≤ 48 MiB +FAILED$/m);
  assert.match(text, /\na failed: no way\n[^]*m failed: late\n$/);
});
