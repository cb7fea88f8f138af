import { LeafLength } from "../content.ts";
import type { Block } from "../wire.ts";
import { blockLength } from "../wire.ts";
import { type Core, MaxAsked, maxKeeping } from "./core.ts";
import { askHashes } from "./hashes.ts";
import { jitter, stallAfter } from "./pace.ts";
import { OpenPiece } from "./piece.ts";
import { earlyBytes, presumeNothing } from "./presumed.ts";
import type { Remote } from "./remote.ts";

/**
 * From where on several peers fetch one piece together rather than a piece each, in bytes:
 * it is whole, and can be passed on, that much earlier.
 */
const largePiece = 1 << 20;

/** What a peer is to be asked, of an open piece. */
interface Ask {
  readonly of: OpenPiece;
  readonly block: Block;
}

/** Asks peers for as much as may be in flight. It is called after every event. */
export function fill(core: Core, now: number): void {
  if (core.complete || core.checking) return;
  if (core.spans.length > 0) return askHashes(core, now);
  if (core.solo.size > 0) reclaim(core);
  for (const r of core.peers.values()) fillPeer(core, r, now);
}

/** Asks a peer for blocks, within what it may owe, what the disk takes and what the rate allows. */
export function fillPeer(core: Core, r: Remote, now: number): void {
  if (r.has === null) return;
  let budget = r.pace.budget(core.inFlight);
  if (r.presumed) budget = Math.min(budget, earlyBytes);
  if (r.silent) budget = 1; // one block, to see whether it is there again
  // Several blocks in one frame, where nobody waits for one.
  if (r.inFlight > budget - r.pace.portion(budget) && core.urgent.length === 0 && !core.picker.empty) return;
  const blocks: Block[] = [];
  while (r.inFlight < budget && r.asked.length < MaxAsked && core.keeping < maxKeeping && now >= core.thirsty) {
    const ask = nextFor(core, r);
    if (ask === null || !allowed(core, now, ask.block.length)) break;
    const { of, block } = ask;
    of.ask(block);
    if (r.waits === 0) {
      r.heard = now; // its patience begins with what it owes
      r.stalled = false;
      r.pace.idle();
    }
    r.asked.push({ block, of, attempt: of.attempt, at: now, cancelled: false });
    r.inFlight += block.length;
    r.waits++;
    blocks.push(block);
  }
  if (blocks.length > 0) core.send(r, { type: "request", number: core.number, blocks });
}

/** Asks allow, and notes when to ask it again. */
function allowed(core: Core, now: number, bytes: number): boolean {
  const wait = core.allow(now, bytes);
  core.thirsty = wait > 0 ? now + wait : 0;
  return wait <= 0;
}

/** What the peer is to be asked next; null if there is nothing. */
function nextFor(core: Core, r: Remote): Ask | null {
  const length = Math.min(blockLength(r.maxFrame), r.pace.block(core.inFlight));
  let of = urgentFor(core, r);
  if (of === null) {
    const waited = head(core);
    const again = waited === null ? null : duplicate(core, r, length, waited);
    if (again !== null) return again;
    of = pieceFor(core, r);
  }
  const block = of?.next(length);
  if (of !== null && block) return { of, block };
  return core.picker.empty ? duplicate(core, r, length, null) : null;
}

/** A piece that a reader waits for. */
function urgentFor(core: Core, r: Remote): OpenPiece | null {
  for (const { first, end } of core.urgent) {
    for (let index = first; index < end; index++) {
      if (core.have.has(index) || !mayFetch(core, r, index)) continue;
      const p = core.open.get(index);
      if (p === undefined) return begin(core, r, index);
      if (mayJoin(core, p, r)) return p;
    }
  }
  return null;
}

/** Whether the peer may be asked for what nobody was asked for yet. */
function mayJoin(core: Core, p: OpenPiece, r: Remote): boolean {
  if (p.unasked === 0 || p.spoilt) return false;
  if (p.solo && p.from === null && !isSlow(core, r, p)) p.from = r;
  return !p.solo || p.from === r;
}

/**
 * Whether another peer would send a piece, all of it, much earlier than this one sends the rest
 * of it. A piece that one peer alone must send is not for such a one: a liar could keep it.
 */
function isSlow(core: Core, r: Remote, p: OpenPiece): boolean {
  const rest = r.pace.takes(p.missing * LeafLength);
  const length = core.geometry.pieceSize(p.index);
  for (const other of core.peers.values()) {
    if (other === r || other.silent || other.stalled || !other.has?.has(p.index)) continue;
    if (2 * other.pace.takes(other.inFlight + length) + stallAfter < rest) return true;
  }
  return false;
}

/** Takes pieces that one peer alone must send from peers that are slow, so that they are begun anew with another one. */
function reclaim(core: Core): void {
  for (const p of core.open.values()) {
    const { from } = p;
    if (!p.solo || from === null || p.spoilt || !isSlow(core, from, p)) continue;
    for (const asked of from.asked) {
      if (asked.of === p && asked.attempt === p.attempt && !asked.cancelled) core.cancel(from, asked);
    }
    p.restart();
  }
}

/**
 * An open piece of which the peer is to be asked a block: its own first, then one that
 * nobody fetches, then a new one; and before that, where pieces are large, or else after it,
 * one that others fetch.
 */
function pieceFor(core: Core, r: Remote): OpenPiece | null {
  let orphan: OpenPiece | null = null;
  let other: OpenPiece | null = null;
  for (const p of core.open.values()) {
    if (p.unasked === 0 || p.spoilt) continue;
    if (p.from === r) return p;
    if (p.from === null && orphan === null && mayFetch(core, r, p.index) && !(p.solo && isSlow(core, r, p))) orphan = p;
    else if (p.from !== null && other === null && !p.solo && mayFetch(core, r, p.index)) other = p;
  }
  if (orphan !== null) {
    orphan.from = r;
    return orphan;
  }
  if (other !== null && core.geometry.pieceLength >= largePiece) return other;
  const index = choose(core, r);
  return index >= 0 && makeRoom(core, r) ? begin(core, r, index) : other;
}

/** Opens a piece for a peer. */
function begin(core: Core, r: Remote, index: number): OpenPiece {
  const p = new OpenPiece(index, core.geometry, core.solo.has(index));
  p.from = r;
  core.withdraw(index);
  core.open.set(index, p);
  return p;
}

/** Whether the piece may be asked of the peer: it has it, and, where the peer was silent, nobody better does. */
function mayFetch(core: Core, r: Remote, piece: number): boolean {
  if (!r.has?.has(piece)) return false;
  if (!r.silent) return true;
  for (const other of core.peers.values()) if (!other.silent && other.has?.has(piece)) return false;
  return true;
}

/** Whether a peer that is not silent has everything: then nothing is asked of one that is. */
function somebodyHasAll(core: Core): boolean {
  for (const r of core.peers.values()) if (r.all && !r.silent) return true;
  return false;
}

/**
 * The piece to open next for a peer: any for the very first, then the rarest, ties at
 * random; -1 if the peer has none that is wanted.
 */
function choose(core: Core, r: Remote): number {
  if (r.offered === 0 || (r.silent && somebodyHasAll(core))) return -1;
  const may = (piece: number): boolean => mayFetch(core, r, piece);
  return core.have.count === 0 && core.open.size === 0 ? core.picker.any(may) : core.picker.rarest(may);
}

/**
 * Whether one more piece may be open. Where there is no room it gives up a piece that
 * nobody fetches and this peer does not have.
 */
function makeRoom(core: Core, r: Remote): boolean {
  if (core.open.size === 0 || (core.open.size + 1) * core.geometry.pieceLength <= core.openBytes) return true;
  for (const p of core.open.values()) {
    if (p.from !== null || p.arrived > 0 || mayFetch(core, r, p.index)) continue;
    core.open.delete(p.index);
    core.offer(p.index);
    return true;
  }
  return false;
}

/** The piece that a reader waits for right now, if it is on its way. */
function head(core: Core): OpenPiece | null {
  const [first] = core.urgent;
  if (first === undefined) return null;
  for (let index = first.first; index < first.end; index++) {
    if (!core.have.has(index)) return core.open.get(index) ?? null;
  }
  return null;
}

/**
 * For the endgame, where nothing is left that nobody was asked for (of is null then), and for
 * the piece that a reader waits for: the block that would come last of all that others owe, if
 * this peer would send it much earlier; whoever is second is sent a cancel. Rates are only
 * estimates, so in the endgame no more than one block at a time is asked for twice, where no peer has stalled.
 */
function duplicate(core: Core, r: Remote, length: number, of: OpenPiece | null): Ask | null {
  if (r.silent) return null;
  let best: Ask | null = null;
  let latest = 2 * r.pace.takes(r.inFlight + length) + jitter;
  for (const other of core.peers.values()) {
    if (other === r || other.waits === 0 || (of === null && !other.stalled && r.inFlight > 0)) continue;
    // Of one that stalled, at least: longer than everybody who has not.
    const eta = other.stalled ? core.patience : other.pace.takes(other.inFlight);
    if (eta <= latest) continue;
    const found = lastOwed(r, other, length, of);
    if (found !== null) [best, latest] = [found, eta];
  }
  return best;
}

/** The last block that a peer owes and that another one may be asked for, too. */
function lastOwed(r: Remote, owner: Remote, length: number, of: OpenPiece | null): Ask | null {
  for (let i = owner.asked.length - 1; i >= 0; i--) {
    const asked = owner.asked[i];
    const p = asked?.of;
    if (asked === undefined || p === undefined || asked.cancelled || asked.attempt !== p.attempt) continue;
    if (p.solo || p.spoilt || (of !== null && p !== of) || !r.has?.has(p.index)) continue;
    const block = p.alone(asked.block, length);
    if (block !== null) return { of: p, block };
  }
  return null;
}

/**
 * Asks a peer that says it has a piece for what peers that have everything owe of it, where
 * those would not be sooner: what others can send is not fetched from them, so that they are left
 * free for what only they have. Otherwise leechers that came together all ask a seeder for
 * the same pieces, and it sends each of them half as often again as it must.
 */
export function handOver(core: Core, r: Remote, piece: number): void {
  const p = core.open.get(piece);
  if (p === undefined || p.solo || p.spoilt || r.all || r.silent || r.stalled) return;
  if (core.picker.empty || core.urgent.some(({ first, end }) => first <= piece && piece < end)) return;
  const length = core.geometry.pieceSize(piece);
  for (const other of core.peers.values()) {
    if (!other.all || other.pace.takes(other.inFlight) < r.pace.takes(r.inFlight + length)) continue;
    for (const asked of other.asked) {
      if (asked.of !== p || asked.attempt !== p.attempt || asked.cancelled) continue;
      core.cancel(other, asked);
      p.from = r;
    }
  }
}

/**
 * Takes the refusal of a block. The peer is not asked for that piece for a while, or
 * before it says anew that it has it; where it did not say yet what it has, for nothing before it does.
 */
export function rejected(core: Core, r: Remote, block: Block, now: number): void {
  const asked = r.take(block, true);
  if (asked === undefined || asked.cancelled) return;
  r.heard = now;
  r.stalled = false;
  if (asked.attempt === asked.of.attempt) asked.of.unask(block);
  if (asked.of.from === r) core.abandon(asked.of);
  if (r.presumed) return presumeNothing(core, r);
  if (!r.has?.has(block.piece)) return;
  core.loses(r, block.piece);
  r.refused.push(block.piece);
  if (r.pardon === 0) r.pardon = now + core.patience;
}

/** Counts the pieces that a peer refused as its own again. */
export function forgive(core: Core, r: Remote): void {
  for (const piece of r.refused) core.gains(r, piece);
  r.refused = [];
  r.pardon = 0;
}
