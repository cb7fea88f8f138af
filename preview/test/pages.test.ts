import assert from "node:assert/strict";
import { test } from "node:test";

import type { Timeline } from "../../peer/browser/src/index.ts";
import { explain } from "../src/explain.ts";
import * as format from "../src/format.ts";
import { Speeds } from "../src/peers.ts";
import { filled, layout } from "../src/piecemap.ts";
import { kindOf, textOf } from "../src/present.ts";
import { stepsOf } from "../src/timeline.ts";
import { caption, playsLater } from "../src/watch.ts";

test("lengths, speeds and times are short and never show a thousand", () => {
  assert.deepEqual(
    [0, 1, 999, 1000, 1024, 5 * 1024 * 1024, 118 * 1024 * 1024, 1023.9 * 1024 * 1024].map(format.bytes),
    ["0 B", "1 B", "999 B", "1.0 KiB", "1.0 KiB", "5.0 MiB", "118 MiB", "1.0 GiB"],
  );
  assert.deepEqual([0, 0.4, 2048].map(format.speed), ["–", "–", "2.0 KiB/s"]);
  assert.deepEqual(
    [0, 4.4, 999.4, 999.6, 1250, 9994, 38_000, 59_600, 320_000, 7_800_000].map(format.duration),
    ["0 ms", "4 ms", "999 ms", "1.00 s", "1.25 s", "9.99 s", "38 s", "1 min 0 s", "5 min 20 s", "2 h 10 min"],
  );
  assert.deepEqual([format.counted(1, "person", "people"), format.counted(0, "person", "people")], ["1 person", "0 people"]);
});

test("the steps of the timeline follow each other without gaps", () => {
  const timeline: Timeline = {
    started: 100, mediator_open: 110, established: 120, peers_named: 150, offer_sent: 151,
    answer_received: 190, ice_connected: 230, channel_open: 240, first_piece: 260, complete: 400,
  };
  const steps = stepsOf(timeline);
  assert.deepEqual(steps.map(({ from, to }) => [from, to]), [[0, 20], [20, 50], [50, 90], [90, 140], [140, 160], [160, 300]]);
});

test("the step that goes on has no end, and nothing stands behind it", () => {
  assert.deepEqual(stepsOf({}), []);
  assert.deepEqual(stepsOf({ started: 5, established: 9 }).map(({ from, to }) => [from, to]), [[0, 4], [4, null]]);
});

test("a mediator that was reached before the start took no time", () => {
  assert.deepEqual(stepsOf({ started: 100, established: 40, peers_named: 130 }).map(({ from, to }) => [from, to]), [[0, 0], [0, 30], [30, null]]);
});

test("what a connection that was there already made needless is no step", () => {
  const timeline: Timeline = { started: 100, established: 40, lookup_sent: 101, first_piece: 150, complete: 190 };
  assert.deepEqual(stepsOf(timeline).map(({ label, to }) => [label, to]), [["Reach a mediator", 0], ["First piece", 50], ["The rest", 90]]);
  assert.deepEqual(stepsOf({ ...timeline, peers_named: 120 }).map(({ label, to }) => [label, to]), [
    ["Reach a mediator", 0], ["Find somebody", 20], ["First piece", 50], ["The rest", 90],
  ]);
});

test("every piece has a place on the map, in squares that can be seen", () => {
  for (const pieces of [1, 2, 17, 500, 1024, 65_536]) {
    for (const width of [40, 300, 640]) {
      const { columns, rows, side, group } = layout(pieces, width, 110);
      assert.ok(columns * rows * group >= pieces, `${pieces} pieces in ${width} px`);
      assert.ok(columns * side <= width && rows * side <= 110, `${pieces} pieces in ${width} px`);
      assert.ok(side >= 6);
    }
  }
});

test("a square is as full as its pieces are", () => {
  const map = { pieces: 10, verified: 3, bitmap: Uint8Array.of(0b1010_0000, 0b0100_0000) };
  assert.deepEqual([0, 1, 2, 9].map((square) => filled(map, square, 1)), [1, 0, 1, 1]);
  assert.deepEqual([0, 1, 2].map((square) => filled(map, square, 4)), [0.5, 0, 0.5]);
});

test("only pictures, films and sound are shown by their type", () => {
  assert.deepEqual(
    ["image/png", "IMAGE/PNG; x=y", "image/svg+xml", "image/SVG+XML;charset=utf-8", "video/mp4", "audio/ogg", "text/html", "application/xhtml+xml", "", "imagepng"].map(kindOf),
    ["image", "image", "svg", "svg", "video", "audio", "other", "other", "other", "other"],
  );
});

test("text is told by its bytes, and may be cut off within a letter", () => {
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  assert.equal(textOf(encode("<script>alert(1)</script>\n")), "<script>alert(1)</script>\n");
  assert.equal(textOf(encode("größer €").subarray(0, -1)), "größer ");
  assert.equal(textOf(Uint8Array.of(0x89, 0x50, 0x4e, 0x47)), null);
  assert.equal(textOf(encode("a\0b")), null);
});

test("an error is explained by its code, or else in its own words", () => {
  const coded = (code: string, message: string): Error => Object.assign(new Error(message), { code });
  assert.match(explain(coded("link_without_length", "x")).title, /length/);
  assert.match(explain(coded("contradiction", "x")).title, /contradicts/);
  assert.equal(explain(coded("no_such_code", "the moon is full")).advice, "the moon is full (no_such_code)");
  assert.equal(explain(new Error("the moon is full")).advice, "the moon is full");
  assert.equal(explain("nonsense").advice, "nonsense");
});

test("the line under a film says what it waits for", () => {
  const moment = { kind: "video", state: "downloading", known: true, waiting: false } as const;
  assert.match(caption(moment), /^You can watch .* jump to any place/);
  assert.match(caption({ ...moment, kind: "audio" }), /^You can listen/);
  assert.match(caption({ ...moment, known: false, waiting: true }), /as soon as the beginning/);
  assert.match(caption({ ...moment, waiting: true }), /^Waiting for this part/);
  for (const state of ["searching", "connecting"] as const) {
    assert.match(caption({ ...moment, state, waiting: true }), /^Waiting for somebody/);
  }
  assert.equal(caption({ ...moment, state: "complete", waiting: true }), "All of it is here.");
});

test("a page that cannot stream says why, and what comes then", () => {
  assert.match(playsLater("video", false, "no secure context"), /^You can watch when all of it is here: .*https.*\.$/);
  assert.match(playsLater("audio", true, "no service workers"), /^You can listen when all of it is here \(no service workers\)\.$/);
});

test("large counts are easy to read", () => {
  assert.deepEqual([format.count(7), format.count(1024), format.counted(1234, "piece", "pieces")], ["7", "1,024", "1,234 pieces"]);
});

test("speeds are measured over two seconds, each on its own", () => {
  const speeds = new Speeds();
  const at = (now: number, counts: Record<string, number>): unknown => Object.fromEntries(speeds.of(new Map(Object.entries(counts)), now));
  assert.deepEqual(at(1000, { a: 500 }), { a: 0 });
  assert.deepEqual(at(2000, { a: 900, b: 0 }), { a: 0, b: 0 });
  assert.deepEqual(at(3000, { a: 4500, b: 10 }), { a: 2000, b: 0 });
  assert.deepEqual(at(4500, { a: 9000, b: 10 }), { a: 2000, b: 4 });
  assert.deepEqual(at(5000, { b: 10 }), { b: 4 });
  assert.deepEqual(at(9000, { a: 9000 }), { a: 0 });
});
