import { type Bytes, fromHex } from "../bytes.ts";
import { ContentError } from "./error.ts";

/** The length of a leaf in bytes (BEP 52: 16 KiB blocks). */
export const LeafLength = 16 << 10;

/** The length of every node of the tree, in bytes. */
export const HashSize = 32;

/** One node of the Merkle tree: 32 bytes, never changed once made. */
export type Hash = Bytes;

declare const fullHash: unique symbol;

/** The root of the tree, the name of the content: 64 lower-case hex digits. */
export type FullHash = string & { readonly [fullHash]: true };

/** Whether the text is 64 lower-case hex digits. */
export function isHash(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

/** Parses 64 lower-case hex digits; throws a ContentError "bad_full_hash" for anything else. */
export function parseFullHash(text: string): FullHash {
  if (!isHash(text)) throw new ContentError("bad_full_hash", "a full hash is 64 lower-case hex digits");
  return text as FullHash;
}

/** The first eight digits, for people to read. */
export function shortHash(hash: FullHash): string {
  return hash.slice(0, 8);
}

/** The hash of 64 lower-case hex digits, which the text must be. */
export function parseHash(text: string): Hash {
  return fromHex(text, HashSize) as Hash;
}

/** The hashes one after the other: one message part instead of many. */
export function joinHashes(hashes: readonly Hash[]): Bytes {
  const all = new Uint8Array(hashes.length * HashSize);
  hashes.forEach((hash, i) => all.set(hash, i * HashSize));
  return all;
}

/** What joinHashes joined; the hashes are views of it. */
export function splitHashes(all: Bytes): Hash[] {
  return Array.from({ length: all.length / HashSize }, (_, i) => all.subarray(i * HashSize, (i + 1) * HashSize));
}
