/**
 * The identity that a peer has, as Go's common/ident: parsed once at the
 * boundary and trusted inside.
 */

import { toHex } from "./bytes.ts";

declare const peerID: unique symbol;

/**
 * Names one connection of a peer to its mediator: 40 lower-case hex digits,
 * chosen at random for each connection, so it identifies nobody for longer.
 */
export type PeerID = string & { readonly [peerID]: true };

/** Twenty bytes, as in BEP 3: far more than needed for random ids never to meet. */
export const PeerIDSize = 20;

/** Parses 40 lower-case hex digits; null for anything else. */
export function parsePeerID(text: string): PeerID | null {
  return /^[0-9a-f]{40}$/.test(text) ? (text as PeerID) : null;
}

/** Fills the array with random bytes, as crypto.getRandomValues does. */
export type RandomBytes = (into: Uint8Array<ArrayBuffer>) => void;

/** Chooses a fresh id. */
export function newPeerID(random: RandomBytes): PeerID {
  const bytes = new Uint8Array(PeerIDSize);
  random(bytes);
  return toHex(bytes) as PeerID;
}
