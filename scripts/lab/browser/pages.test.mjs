import assert from "node:assert/strict";
import { test } from "node:test";

import { kinds, observe } from "./pages.mjs";

/** What a page has after observe, with a clock that is set. */
function page() {
  globalThis.window = {};
  observe();
  return window.lab;
}

test("the same seed gives the same bytes, and another one others, of any length", () => {
  const lab = page();
  for (const length of [0, 1, 3, 16384, 200_001]) {
    const bytes = lab.bytes(length, "1/chromium/1/1");
    assert.equal(bytes.length, length);
    assert.deepEqual(bytes, lab.bytes(length, "1/chromium/1/1"));
    if (length > 16) assert.notDeepEqual(bytes, lab.bytes(length, "1/chromium/2/1"));
  }
  const counts = new Array(256).fill(0);
  for (const byte of lab.bytes(256_000, "x")) counts[byte]++;
  assert.ok(Math.min(...counts) > 850 && Math.max(...counts) < 1150, "each value is about as frequent as any other");
});

test("a phase is kept when it is first reached, and told since started", () => {
  const lab = page();
  lab.keep("started", 100);
  lab.keep("channel_open", 150);
  lab.keep("channel_open", 170);
  assert.deepEqual(lab.phases(), { started: 0, channel_open: 50 });
});

test("what ends is told with its phases; what does not, without an outcome", async () => {
  const lab = page();
  lab.keep("started", 0);
  lab.ending = new Promise(() => {});
  assert.deepEqual(await lab.result(1), { phases: { started: 0 } });
  lab.ending = Promise.resolve({ outcome: "complete" });
  assert.deepEqual(await kinds.p2pcdn.result(1000), { outcome: "complete", phases: { started: 0 } });
});

test("both kinds can do all that a driver asks for", () => {
  for (const kind of Object.values(kinds)) {
    assert.equal(typeof kind.folder, "string");
    for (const name of ["load", "seed", "get", "result"]) assert.equal(typeof kind[name], "function");
  }
});
