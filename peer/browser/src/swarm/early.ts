import { Bits } from "../wire.ts";
import type { Core } from "./core.ts";
import { fillPeer } from "./fill.ts";
import { askSpan } from "./hashes.ts";
import type { Remote } from "./remote.ts";

/**
 * Asks a peer that should have the content before it said so: the questions go in one flight with our
 * handshake, which saves a round trip, and content of one block is there with the first answer. Until its
 * handshake and bitfield come it is taken for one that has everything; what it does not have it rejects.
 *
 * Blocks of which the piece hashes are still to come, in the same flight before them, are asked for where
 * all hashes are one answer, and nothing is in the store that they would have to be compared with first.
 */
export function early(core: Core, r: Remote, now: number): void {
  if (!r.likely || r.greeted || core.complete || core.checking) return;
  if (core.spans.length > 0) {
    askSpan(core, r, now);
    if (r.span === null || core.spans.length > 1 || core.mayCheck) return;
  }
  r.has = Bits.full(core.geometry.pieces);
  r.all = r.presumed = true;
  r.offered = core.picker.length;
  fillPeer(core, r, now);
}

/**
 * Takes back what the peer was asked for too early, now that it is known what it has. Its
 * rejections are still to come, and it need not be told.
 */
export function reconsider(core: Core, r: Remote): void {
  for (const asked of r.asked) {
    if (!asked.cancelled && !r.has?.has(asked.block.piece)) core.disown(r, asked);
  }
  for (const p of core.open.values()) if (p.from === r && !r.has?.has(p.index)) core.abandon(p);
}
