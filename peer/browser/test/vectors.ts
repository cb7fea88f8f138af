import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The vectors of a room of common/, which the Go tests read, too. */
export function vectors<T>(room: string, name: string): T {
  const root = process.env["P2PCDN_ROOT"];
  if (root === undefined) throw new Error("P2PCDN_ROOT is not set: run the tests with npm test");
  return JSON.parse(readFileSync(join(root, "common", room, "testdata/vectors", name), "utf8")) as T;
}

/** The first bytes of the content of the vectors: byte i is i modulo 251. */
export function sample(length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => i % 251);
}

/** The code of what a function throws; fails where it throws nothing, or something without a code. */
export function codeOf(fn: () => unknown): string {
  try {
    fn();
  } catch (error) {
    if (error instanceof Error && "code" in error) return String(error.code);
    throw error;
  }
  return "nothing was thrown";
}
