import { LeafLength } from "../content.ts";
import type { Core } from "./core.ts";
import { allowed, ask, nextPiece } from "./fill.ts";
import type { Remote } from "./remote.ts";

/**
 * How many leaves a peer is asked for before it said what it has. They stand in the flight of our handshake, and so
 * a small content is there with the first answer. More would be a waste where the peer has nothing, and too much where
 * many ask one that is slow.
 */
export const maxEarly = 4;

/**
 * Asks a peer that has said nothing yet for the first leaves, as if it had everything. In blocks of a leaf, since it is not
 * known how long its frames may be. What it does not have it rejects, at once and to no harm: see rejected.
 */
export function fillEarly(core: Core, r: Remote, now: number): void {
  if (r.greeted) return; // what it has follows its handshake
  ask(core, r, now, () => {
    if (r.early >= maxEarly) return null;
    const of = nextPiece(core, r);
    const block = of?.next(LeafLength) ?? null;
    if (of === null || block === null || !allowed(core, now, block.length)) return null;
    r.early++;
    return { of, block, early: true };
  });
}
