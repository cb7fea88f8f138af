/**
 * The heart of a peer: what happens between it and all others about one content. It
 * decides which block is asked of whom, what is told to whom, and whom to believe.
 * A mirror of Go's peer/swarm, file by file, whose comment is the specification.
 *
 * It is pure. Events go in by method calls that carry the time, and what is to be done
 * comes out as a list of actions; there is no I/O, no timer, no clock and no hashing in
 * it, but for folding the hashes of a piece's leaves.
 *
 *     driver (transfer.ts)                       Swarm
 *     channel open           ── connected ──▶    handshake, what we have, first requests
 *     channel closed         ── disconnected ─▶  its blocks are asked of others
 *     frame arrived          ── received ────▶   …
 *     store kept a block     ── kept ────────▶   have to all / the liar is dropped
 *     store was looked at    ── checked ─────▶   what is there is not fetched
 *     a reader waits         ── urge ────────▶   its pieces first
 *     time passed            ── tick ────────▶   who is silent is not waited for
 *                            ◀── actions ──      send, load, unload, keep, check, verified, drop, break,
 *                                                described, complete
 *
 * Times are milliseconds of one clock, whichever the driver has; lengths are bytes. The
 * rooms: core (what a swarm holds), remote (a peer), piece (a piece on its way), picker
 * (which piece next), pace (how much of whom), fill (who is asked for what), early (what is asked of a peer before it
 * said what it has), trust (what is believed), hashes (of the pieces, for a bare link), tick (what the time brings).
 */

export type { Action } from "./swarm/actions.ts";
export {
  DefaultInFlight,
  DefaultOpenBytes,
  DefaultPatience,
  MaxAsked,
  type Range,
  type SwarmConfig,
} from "./swarm/core.ts";
export { firstBudget } from "./swarm/pace.ts";
export { Swarm, type SwarmPeer } from "./swarm/swarm.ts";
