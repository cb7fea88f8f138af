import { Proofs } from "../content.ts";
import { type Bits, type HashRequest, type Hashes, Reason } from "../wire.ts";
import type { Core } from "./core.ts";
import type { HashSpan, Remote } from "./remote.ts";

/** Asks for the spans of piece hashes that are missing, one of each peer at a time. */
export function askHashes(core: Core, now: number): void {
  for (const r of core.peers.values()) if (r.greeted) askSpan(core, r, now);
}

/** Asks a peer for a span that nobody was asked for, unless it owes one or has none. */
export function askSpan(core: Core, r: Remote, now: number): void {
  if (r.span !== null || now < r.noHashes) return;
  const missing = core.spans.find((span) => span.from === null);
  if (missing === undefined) return;
  missing.from = r;
  r.span = missing;
  r.heard = now;
  core.send(r, { type: "hash_request", number: core.number, index: missing.index });
}

/**
 * Stops waiting for the hashes that the peer owes, and asks it no more for a while: a
 * leecher that has none now may have them later.
 */
export function giveUpSpan(core: Core, r: Remote, span: HashSpan, now: number): void {
  span.from = null;
  r.span = null;
  r.noHashes = now + core.patience;
}

export function serveHashes(core: Core, r: Remote, { index }: HashRequest): void {
  const { number, geometry, info } = core;
  if (index >= geometry.pieces || index % geometry.proofSpan !== 0) {
    return core.breach(r, `a request for piece hashes from ${index} of ${geometry.pieces}`);
  }
  if (info.pieceHashes !== null) core.proofs ??= new Proofs(geometry, info.pieceHashes);
  const proven = core.proofs?.prove(index) ?? null;
  if (proven === null) return core.send(r, { type: "hash_reject", number, index });
  core.send(r, { type: "hashes", number, index, ...proven });
}

export function gotHashes(core: Core, r: Remote, frame: Hashes, now: number): void {
  const span = r.span;
  if (span?.index !== frame.index) return; // not asked for, or no longer
  try {
    core.geometry.checkProof(core.info.fullHash, frame.index, frame.hashes, frame.proof);
  } catch {
    return core.leave(r, Reason.Poisoned, true);
  }
  r.heard = now;
  r.span = null;
  frame.hashes.forEach((hash, i) => {
    core.hashes[frame.index + i] = hash;
  });
  core.spans = core.spans.filter((other) => other !== span);
  if (core.spans.length > 0) return;
  core.info = { ...core.info, pieceHashes: core.hashes };
  core.do({ type: "described", info: core.info });
  core.check();
}

/** Takes what the driver answers to a check: these pieces are in the store, and right. */
export function checked(core: Core, have: Bits): void {
  if (!core.checking) return;
  core.checking = false;
  for (let piece = 0; piece < have.pieces; piece++) {
    if (have.has(piece) && !core.have.has(piece)) core.has(piece);
  }
  core.completeIfAll();
}
