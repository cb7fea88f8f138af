import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fromHex, toHex } from "../src/bytes.ts";
import type { FullHash, Hash } from "../src/content.ts";
import { Bits, blockLength, decode, encode, Encoder, type Frame, FrameError, MaxFrame, reasonText } from "../src/wire.ts";
import { vectors } from "./vectors.ts";

function bytes(hex: string): Hash {
  return fromHex(hex, hex.length / 2) as Hash;
}

/** The fields of a frame as the vectors write them. */
function plain(frame: Frame): Record<string, unknown> {
  switch (frame.type) {
    case "bitfield":
      return { ...frame, bits: toHex(frame.bits) };
    case "piece":
      return { ...frame, data: toHex(frame.data) };
    case "hashes":
      return { ...frame, hashes: frame.hashes.map(toHex).join(""), proof: frame.proof.map(toHex).join("") };
    case "handshake": {
      const { type, number, fullHash, totalLength, pieceLength, maxFrame } = frame;
      return { type, number, full_hash: fullHash, total_length: totalLength, piece_length: pieceLength, max_frame: maxFrame };
    }
    case "goodbye":
      return { type: "goodbye", full_hash: frame.fullHash, reason: frame.reason, message: frame.message };
    default:
      return { ...frame };
  }
}

describe("frames.json", () => {
  const encoder = new Encoder(); // one for all of them, so that what was written before would show
  interface Vector {
    name: string;
    hex: string;
    fill?: { hex: string; count: number };
    frame?: Record<string, unknown>;
    encoded?: string;
    code?: string;
  }
  for (const { name, hex, fill, frame, encoded, code } of vectors<{ vectors: Vector[] }>("wire", "frames.json").vectors) {
    test(name, () => {
      const filled = (text: string): string => text.replaceAll("{fill}", () => fill?.hex.repeat(fill.count) ?? "");
      const source = bytes(filled(hex));
      const decoded = decode(source);
      if (code !== undefined) {
        assert.ok(decoded instanceof FrameError, "it decoded");
        return assert.equal(decoded.code, code);
      }
      if (decoded instanceof FrameError) return assert.fail(`${decoded.code}: ${decoded.message}`);
      const want = Object.entries(frame as object).map(([key, value]) => [key, typeof value === "string" ? filled(value) : value]);
      assert.deepEqual(plain(decoded), Object.fromEntries(want));
      assert.equal(toHex(encode(decoded)), filled(encoded ?? hex));
      assert.deepEqual(decode(encode(decoded)), decoded);
      assert.equal(toHex(encoder.encode(decoded)), toHex(encode(decoded)));
    });
  }
});

test("frames decode from the middle of a buffer", () => {
  const frame: Frame = { type: "request", number: 7, blocks: [{ piece: 1, begin: 2 << 14, length: 1 << 14 }] };
  const buffer = new Uint8Array(40);
  buffer.set(encode(frame), 5);
  assert.deepEqual(decode(buffer.subarray(5, 5 + encode(frame).length)), frame);
});

test("no bytes crash the decoder", () => {
  let seed = 1;
  const random = (): number => (seed = (seed * 48271) % 2147483647);
  for (let i = 0; i < 20_000; i++) {
    const frame = Uint8Array.from({ length: random() % 80 }, () => random() & 255);
    if (frame.length > 0) frame[0] = [4, 5, 6, 7, 8, 14, 15, 16, 21, 22, 23, 64, 65][random() % 13] as number;
    const decoded = decode(frame);
    if (!(decoded instanceof FrameError)) assert.deepEqual(decode(encode(decoded)), decoded);
  }
  assert.ok(decode(new Uint8Array(MaxFrame + 1)) instanceof FrameError);
});

describe("bits.json", () => {
  interface Vector {
    pieces: number;
    hex: string;
    set?: number[];
    frame?: string;
    code?: string;
  }
  const file = vectors<{ vectors: Vector[]; block_lengths: { max_frame: number; block_length: number }[] }>("wire", "bits.json");
  for (const { pieces, hex, set, frame, code } of file.vectors) {
    test(`${hex.length > 40 ? `${hex.slice(0, 40)}…` : hex || "nothing"} for ${pieces}`, () => {
      const bits = Bits.parse(bytes(hex), pieces);
      if (code !== undefined) {
        assert.ok(bits instanceof FrameError, "it was taken");
        return assert.equal(bits.code, code);
      }
      if (bits instanceof FrameError) return assert.fail(bits.message);
      const all = Array.from({ length: pieces }, (_, piece) => piece);
      assert.deepEqual(all.filter((piece) => bits.has(piece)), set);
      assert.equal(bits.count, set?.length);
      assert.equal(bits.all, bits.count === pieces);
      assert.equal(bits.frame(3).type, frame);
      assert.equal(toHex(bits.bytes()), hex);
    });
  }
  test("block lengths", () => {
    for (const { max_frame, block_length } of file.block_lengths) assert.equal(blockLength(max_frame), block_length);
  });
});

test("a set of pieces knows its pieces only", () => {
  const bits = new Bits(10);
  assert.ok(bits.add(9) && !bits.add(9) && !bits.add(10) && !bits.add(-1));
  assert.ok(bits.has(9) && !bits.has(10) && !bits.has(-1));
  bits.remove(9);
  bits.remove(3);
  assert.equal(bits.count, 0);
  assert.ok(Bits.full(10).all);
});

test("a goodbye's text is cut to what a receiver takes", () => {
  const frame: Frame = { type: "goodbye", fullHash: "0".repeat(64) as FullHash, reason: 1, message: "€".repeat(100) };
  const decoded = decode(encode(frame));
  assert.ok(!(decoded instanceof FrameError) && decoded.type === "goodbye");
  assert.equal(decoded.message, "€".repeat(85));
  assert.equal(reasonText(5), "poisoned");
  assert.equal(reasonText(99), "unknown reason");
});
