// What is presumed of a peer that should have a content, before it said so.

import { Bits } from "../wire.ts";
import type { Core } from "./core.ts";
import type { Remote } from "./remote.ts";

/**
 * How much is asked of a peer before it said what it has, in bytes: what comes within the first round trips of a
 * connection, since a sender begins slowly (RFC 9260, 7.2.1). More would be lost on one that has little.
 */
export const earlyBytes = 64 << 10;

/** Takes a peer that rejected something for one that has nothing, until it says what it has. */
export function presumeNothing(core: Core, r: Remote): void {
  r.has = new Bits(core.geometry.pieces);
  r.offered = 0;
}

/** Forgets what was presumed of a peer. */
export function unpresume(r: Remote): void {
  r.has = null;
  r.all = r.presumed = false;
  r.offered = 0;
}
