/**
 * What the page and its worker say to each other. Both come in one bundle, so that nothing is
 * checked. Every request is answered by one "done" or "failed", a check by any number of
 * "progress" before. The first thing that the worker says is "ready".
 */

import type { Bytes } from "../bytes.ts";
import type { StoreReason } from "./error.ts";

/** What can be asked of the worker: arguments, and what the answer carries. */
export interface Calls {
  /** info: a dictionary as encodeInfo writes it. The answer is one with the piece hashes that an earlier visit knew. */
  open: { ask: { info: string }; answer: string };
  /** The answer is a bitfield. */
  check: { ask: { info: string }; answer: Bytes };
  /** The buffer under data is transferred. The answer is the leaf hashes, one after the other. */
  keep: { ask: { piece: number; begin: number; data: Bytes }; answer: Bytes };
  settle: { ask: { pieces: readonly number[] }; answer: null };
  /** The buffer under the answer is transferred. */
  read: { ask: { piece: number; begin: number; length: number }; answer: Bytes };
  complete: { ask: object; answer: File };
  close: { ask: { discard: boolean }; answer: null };
}

export type CallType = keyof Calls;

/** A request of one type: call is its number, content the number that the page gave the content. */
export type Request<T extends CallType = CallType> = {
  [K in T]: { readonly type: K; readonly call: number; readonly content: number } & Readonly<Calls[K]["ask"]>;
}[T];

export type Reply =
  | { readonly type: "ready" }
  | { readonly type: "done"; readonly call: number; readonly value: Calls[CallType]["answer"] }
  | { readonly type: "failed"; readonly call: number; readonly reason: StoreReason; readonly message: string }
  | { readonly type: "progress"; readonly call: number; readonly done: number; readonly total: number };
