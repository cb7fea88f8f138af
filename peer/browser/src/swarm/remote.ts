import type { PeerID } from "../ident.ts";
import { type Bits, type Block, sameBlock } from "../wire.ts";
import { Pace, stallAfter } from "./pace.ts";
import type { OpenPiece } from "./piece.ts";

/** A run of missing piece hashes. */
export interface HashSpan {
  readonly index: number;
  from: Remote | null; // who was asked
}

/** A block that a peer owes. A cancelled one is still owed an answer, but is not waited for. */
export interface Asked {
  readonly block: Block;
  readonly of: OpenPiece; // what it was asked for; that may have been given up since, and the same piece begun anew
  readonly attempt: number; // of that
  readonly at: number; // when
  cancelled: boolean;
}

/** A peer, as far as this content goes. Times are ms; 0 where there is none. */
export class Remote {
  readonly id: PeerID;
  readonly maxSend: number; // bytes: the largest frame that we can send it
  readonly likely: boolean; // it should have the content
  maxFrame = 0; // bytes: the largest that it can send; 0 before it was heard
  greeted = false; // its handshake came
  has: Bits | null = null; // null before its bitfield came
  all = false; // it has everything, and is not in the picker's counts
  presumed = false; // has is what we take it to have, before its bitfield; see early
  offered = 0; // how many pieces it has of those that the picker offers
  asked: Asked[] = []; // blocks that it owes, oldest first; at most maxAsked
  waits = 0; // how many of them are not cancelled
  inFlight = 0; // bytes of those
  readonly pace = new Pace();
  heard: number; // when it last delivered, or was asked while it owed nothing
  stalled = false; // it owes something and has delivered nothing for a moment
  silent = false; // it ran out of our patience and delivered nothing since
  span: HashSpan | null = null; // the span of hashes that it owes
  noHashes = 0; // until when it is not asked for hashes: it had none, or never answered
  refused: number[] = []; // pieces of which it rejected a block; taken out of has until pardon
  pardon = 0; // when it may be asked for them again

  constructor(id: PeerID, maxSend: number, likely: boolean, now: number) {
    this.id = id;
    this.maxSend = maxSend;
    this.likely = likely;
    this.heard = now;
  }

  /** When the peer counts as stalled; null if it owes nothing or does already. */
  get stalls(): number | null {
    return this.waits > 0 && !this.stalled ? this.heard + stallAfter : null;
  }

  /**
   * Removes the block from what the peer owes and returns it. If it was asked for, cancelled, and asked for
   * again, data is for the request that is waited for, and a refusal for the one that was cancelled.
   */
  take(block: Block, refused: boolean): Asked | undefined {
    const meant = this.asked.findIndex((asked) => asked.cancelled === refused && sameBlock(asked.block, block));
    const at = meant >= 0 ? meant : this.asked.findIndex((asked) => sameBlock(asked.block, block));
    const asked = at < 0 ? undefined : this.asked.splice(at, 1)[0];
    if (asked !== undefined && !asked.cancelled) {
      this.inFlight -= block.length;
      this.waits--;
    }
    return asked;
  }
}
