import { type Bytes, equal } from "../bytes.ts";
import { type Hash, pieceHash } from "../content.ts";
import type { PeerID } from "../ident.ts";
import { type Block, type Piece, Reason } from "../wire.ts";
import type { Core } from "./core.ts";
import { type Leaf, type OpenPiece, senders, span } from "./piece.ts";
import type { Remote } from "./remote.ts";

/**
 * Takes a block that a peer sends. What was asked for and has not come goes to the driver; of
 * the rest, nothing is needed.
 */
export function delivered(core: Core, r: Remote, frame: Piece, now: number): void {
  const block: Block = { piece: frame.piece, begin: frame.begin, length: frame.data.length };
  const asked = r.take(block, false);
  if (asked === undefined) return; // not asked for: a wrong piece, begin or length, or no longer owed
  r.pace.came(block.length, now);
  r.pace.answered(now - asked.at);
  r.heard = now;
  r.silent = false;
  r.stalled = false;
  const p = asked.of;
  if (!asked.cancelled && asked.attempt === p.attempt) p.unask(block);
  if (core.spans.length > 0 || core.checking) return; // asked for early, it came before what it is compared with: it is asked for again
  if (core.open.get(block.piece) !== p || asked.attempt !== p.attempt || p.spoilt || (p.solo && p.from !== r)) return;
  const [begin, end] = span(block);
  for (let first = begin, run = begin; first < end; first = run) {
    while (run < end && p.leaf(run).state === "missing") run++;
    if (run > first) arrived(core, p, first, run, r, frame);
    else run++;
  }
}

/** Hands a run of leaves out of a frame to the driver, and asks nobody for them any more. */
function arrived(core: Core, p: OpenPiece, first: number, end: number, r: Remote, frame: Piece): void {
  p.arrive(first, end, r.id);
  const block = p.block(first, end);
  core.keeping += block.length;
  core.do({ type: "keep", block, data: part(frame, block) });
  if (!p.leaves.slice(first, end).some((leaf) => leaf.askers > 0)) return;
  for (const other of core.peers.values()) {
    for (const asked of other.asked) {
      if (!asked.cancelled && asked.of === p && p.here(asked.block)) core.cancel(other, asked);
    }
  }
}

/** The part of a frame's data that the block is. A frame's buffer is given away once: parts are copies. */
function part({ data, begin }: Piece, block: Block): Bytes {
  if (data.length === block.length) return data;
  return data.slice(block.begin - begin, block.begin - begin + block.length);
}

/** Takes what the driver answers to a keep: the block is in the store, and these are the hashes of its leaves. */
export function kept(core: Core, block: Block, hashes: readonly Hash[]): void {
  core.keeping -= block.length;
  const p = core.open.get(block.piece);
  if (p === undefined) return;
  const [first, end] = span(block);
  for (let i = first; i < end; i++) {
    const sender = p.leaf(i).sender;
    p.settle(i, hashes[i - first] as Hash, !p.spoilt && sender !== null && !core.banned.has(sender));
  }
  if (p.spoilt) p.restart();
  else if (p.missing === 0) judge(core, p);
}

/** Folds a piece whose leaves are all kept. */
function judge(core: Core, p: OpenPiece): void {
  if (equal(p.root(core.geometry), pieceHash(core.info, p.index))) return verified(core, p);
  const from = senders(p.leaves);
  if (from.length > 1) {
    // Nobody can be blamed before the right piece is there.
    p.evidence = p.leaves;
    p.solo = true;
    core.solo.add(p.index);
    return p.restart();
  }
  p.restart();
  expel(core, from[0] as PeerID);
}

/** Takes a piece that is right. Everybody who lacks it is told. */
function verified(core: Core, p: OpenPiece): void {
  core.open.delete(p.index);
  core.solo.delete(p.index);
  core.has(p.index);
  core.do({ type: "verified", piece: p.index });
  for (const liar of liars(p)) expel(core, liar);
  core.completeIfAll();
}

/** Compares what came in the attempt that failed with what is right. */
function liars(p: OpenPiece): PeerID[] {
  const right = (leaf: Leaf, i: number): boolean => equal(leaf.hash as Hash, p.leaf(i).hash as Hash);
  return senders(p.evidence.filter((leaf, i) => !right(leaf, i)));
}

/** Drops a liar for good, whether or not it is still there, and all that it sent and that is not verified yet. */
function expel(core: Core, liar: PeerID): void {
  if (core.banned.has(liar)) return;
  core.ban(liar);
  for (const p of core.open.values()) p.renounce(liar);
  const r = core.peers.get(liar);
  if (r !== undefined) return core.leave(r, Reason.Poisoned, true);
  core.do({ type: "drop", peer: liar, reason: Reason.Poisoned, banned: true });
}
