import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decode, DecodeError, encode, mayName } from "../src/mediation.ts";
import { vectors } from "./vectors.ts";

interface Vector {
  name: string;
  text?: string;
  base64?: string;
  fill?: { text: string; value: string; count: number };
  message?: object;
  code?: string;
}

interface Naming {
  name: string;
  from: string;
  to: string;
  may: boolean;
}

/** Puts a text in place of {fill} in every string of a value. */
function filled<T>(value: T, fill: string): T {
  return JSON.parse(JSON.stringify(value).replaceAll("{fill}", () => JSON.stringify(fill).slice(1, -1))) as T;
}

describe("messages.json", () => {
  for (const { name, text, base64, fill, message, code } of vectors<{ vectors: Vector[] }>("mediation", "messages.json").vectors) {
    // A text frame is UTF-8: a browser fails the connection before we see what is not.
    if (base64 !== undefined) {
      test(`${name}: no text`, () => {
        assert.equal(code, "bad_message");
        assert.throws(() => new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(base64, "base64")));
      });
      continue;
    }
    test(name, () => {
      const source = (text as string).replaceAll("{fill}", () => fill?.text.repeat(fill.count) ?? "");
      const decoded = decode(source);
      if (code !== undefined) {
        assert.ok(decoded instanceof DecodeError, `decoded to ${JSON.stringify(decoded).slice(0, 200)}`);
        return assert.equal(decoded.code, code);
      }
      if (decoded instanceof DecodeError) return assert.fail(`${decoded.code}: ${decoded.message}`);
      const want = fill === undefined ? message : filled(message, fill.value.repeat(fill.count));
      assert.deepEqual(JSON.parse(encode(decoded)), want);
      assert.deepEqual(decode(encode(decoded)), decoded);
    });
  }
});

test("what is no text is no message", () => {
  for (const data of [new ArrayBuffer(4), new Blob([]), null, undefined, 5, {}]) {
    const decoded = decode(data);
    assert.ok(decoded instanceof DecodeError && decoded.code === "bad_message");
  }
});

test("the text of an error is cut to what a receiver takes", () => {
  const decoded = decode(encode({ type: "error", code: "bad_message", message: "ü".repeat(2000) }));
  assert.ok(!(decoded instanceof DecodeError) && decoded.type === "error");
  assert.equal(decoded.message, "ü".repeat(512));
});

describe("naming.json", () => {
  for (const { name, from, to, may } of vectors<{ vectors: Naming[] }>("mediation", "naming.json").vectors) {
    test(name, () => assert.equal(mayName(from, to), may));
  }
});
