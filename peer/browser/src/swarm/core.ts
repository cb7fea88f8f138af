import { type Geometry, geometryOf, hasPieceHashes, type Hash, type Info, type Proofs } from "../content.ts";
import type { PeerID } from "../ident.ts";
import { Bits, type Frame, MaxRequests, Reason } from "../wire.ts";
import type { Action } from "./actions.ts";
import type { OpenPiece } from "./piece.ts";
import { Picker } from "./picker.ts";
import { type Asked, type HashSpan, Remote } from "./remote.ts";

/** The most that may be asked of a peer and not have come, in bytes: with 100 ms between the two, 4 MiB keep 40 MB/s busy. */
export const DefaultInFlight = 4 << 20;

/** How long a peer may owe a block and send nothing, in ms. A block of 32 KiB takes this long only below 3.3 KB/s. */
export const DefaultPatience = 10_000;

/**
 * Bounds the pieces that are partly there, in bytes, and with them what is fetched anew after
 * a page was closed. Of each leaf of them, some hundred bytes are held in memory.
 */
export const DefaultOpenBytes = 64 << 20;

/** How many requests one content may have waiting at a peer: so that eight contents stay within MaxRequests. */
export const MaxAsked = MaxRequests / 8;

/** Bounds what came and is not in the store yet, in bytes: a disk that is slower than the network is waited for. */
export const maxKeeping = 8 << 20;

/**
 * Bounds the memory of liars. Ids are fresh for every connection, so remembering more
 * of them would not keep anybody away.
 */
const maxBanned = 1024;

/** What a swarm is made of. Times in ms, lengths in bytes. */
export interface SwarmConfig {
  /** Must be valid; without piece hashes they are asked for. */
  readonly info: Info;
  /** Our content number, the same towards every peer. */
  readonly number: number;
  /** The pieces that are in the store, verified; default none. The swarm owns it from now on. */
  readonly have?: Bits;
  /** The store may hold more: it is to be asked before anything is fetched. */
  readonly check?: boolean;
  /** In [0, 1), for the first piece and for ties. */
  readonly random: () => number;
  readonly inFlight?: number;
  readonly patience?: number;
  /** At least one piece is always open. */
  readonly openBytes?: number;
  /**
   * Says whether so many bytes may be asked for now, and counts them then: 0; if not, after how
   * many ms to ask again. Default: always. It holds downloads to a rate.
   */
  readonly allow?: (now: number, bytes: number) => number;
}

/** A run of pieces; end is one behind the last. */
export interface Range {
  readonly first: number;
  readonly end: number;
}

/** What a swarm holds, and the steps that all its rooms take. */
export class Core {
  readonly number: number;
  readonly inFlight: number;
  readonly patience: number;
  readonly openBytes: number;
  readonly allow: (now: number, bytes: number) => number;
  readonly mayCheck: boolean;
  readonly geometry: Geometry;
  info: Info; // its piece hashes are complete once spans is empty
  readonly hashes: Hash[] = []; // piece hashes that have come, while spans is not empty
  proofs: Proofs | null = null; // once somebody asked for piece hashes
  readonly have: Bits;
  complete: boolean; // "complete" was said
  checking = false; // "check" was said, and not answered

  readonly peers = new Map<PeerID, Remote>(); // in the order in which they came: for determinism
  readonly banned = new Set<PeerID>(); // bounded by maxBanned
  readonly open = new Map<number, OpenPiece>(); // pieces that are being fetched, by index, oldest first; bounded by openBytes, and what readers waited for
  readonly solo = new Set<number>(); // pieces that failed with several senders: fetch from one only
  readonly picker: Picker; // the other missing pieces
  urgent: readonly Range[] = []; // what readers wait for, most urgent first
  spans: HashSpan[] = []; // spans of piece hashes that are missing; empty once they are known
  keeping = 0; // bytes that the driver keeps at the moment
  thirsty = 0; // when allow may say yes; 0: it never said no since
  #actions: Action[] = [];

  constructor(config: SwarmConfig) {
    this.number = config.number;
    this.inFlight = config.inFlight ?? DefaultInFlight;
    this.patience = config.patience ?? DefaultPatience;
    this.openBytes = config.openBytes ?? DefaultOpenBytes;
    this.allow = config.allow ?? (() => 0);
    this.mayCheck = config.check ?? false;
    this.info = config.info;
    this.geometry = geometryOf(config.info);
    const { pieces, proofSpan } = this.geometry;
    this.have = config.have ?? new Bits(pieces);
    this.complete = this.have.all;
    this.picker = new Picker(this.have, this.geometry.pieceLength, config.random);
    if (!hasPieceHashes(config.info)) {
      for (let index = 0; index < pieces; index += proofSpan) this.spans.push({ index, from: null });
    } else if (!this.complete) {
      this.check();
    }
  }

  /** What is to be done since the last call, in order. */
  actions(): Action[] {
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  do(action: Action): void {
    this.#actions.push(action);
  }

  send(r: Remote, frame: Frame): void {
    this.do({ type: "send", peer: r.id, frame });
  }

  /** Asks the driver what is there already, where there may be something. */
  check(): void {
    if (!this.mayCheck) return;
    this.checking = true;
    this.do({ type: "check", info: this.info });
  }

  /** Takes a peer out: what it owes can be asked of others. */
  forget(r: Remote): void {
    this.#release(r);
    if (r.has !== null && !r.all) this.uncount(r.has);
    this.peers.delete(r.id);
  }

  /** Adds what a peer has to what is available. */
  count(bits: Bits): void {
    for (let piece = 0; piece < bits.pieces; piece++) if (bits.has(piece)) this.picker.more(piece);
  }

  uncount(bits: Bits): void {
    for (let piece = 0; piece < bits.pieces; piece++) if (bits.has(piece)) this.picker.fewer(piece);
  }

  /** Notes that the peer has one more piece. */
  gains(r: Remote, piece: number): void {
    if (r.has === null || !r.has.add(piece)) return;
    this.picker.more(piece);
    if (this.picker.offers(piece)) r.offered++;
  }

  /** Notes that the peer has one piece less. */
  loses(r: Remote, piece: number): void {
    if (r.has === null || !r.has.has(piece)) return;
    if (r.all) {
      r.all = false;
      this.count(r.has);
    }
    r.has.remove(piece);
    this.picker.fewer(piece);
    if (this.picker.offers(piece)) r.offered--;
  }

  /** Takes a piece out of what the picker offers. */
  withdraw(piece: number): void {
    if (!this.picker.offers(piece)) return;
    this.picker.remove(piece);
    for (const r of this.peers.values()) if (r.has?.has(piece)) r.offered--;
  }

  /** Puts a piece back into what the picker offers. */
  offer(piece: number): void {
    if (this.picker.offers(piece)) return;
    this.picker.add(piece);
    for (const r of this.peers.values()) if (r.has?.has(piece)) r.offered++;
  }

  /** Takes back everything that was asked of a peer, without a word to it. */
  #release(r: Remote): void {
    for (const asked of r.asked) {
      if (!asked.cancelled && asked.attempt === asked.of.attempt) asked.of.unask(asked.block);
    }
    r.asked = [];
    r.inFlight = 0;
    r.waits = 0;
    if (r.span !== null) {
      r.span.from = null;
      r.span = null;
    }
    this.orphan(r);
  }

  /**
   * Takes the peer's pieces from it: others may go on with them. A piece that one peer alone
   * must send is begun anew.
   */
  orphan(r: Remote): void {
    for (const p of this.open.values()) if (p.from === r) this.abandon(p);
  }

  abandon(p: OpenPiece): void {
    p.from = null;
    if (p.solo) p.restart();
  }

  /** Takes a request back, so that the block can be asked of others. */
  cancel(r: Remote, asked: Asked): void {
    this.disown(r, asked);
    this.send(r, { type: "cancel", number: this.number, ...asked.block });
  }

  /** Waits no longer for what a peer was asked for. */
  disown(r: Remote, asked: Asked): void {
    asked.cancelled = true;
    if (asked.attempt === asked.of.attempt) asked.of.unask(asked.block);
    r.waits--;
    r.inFlight -= asked.block.length;
  }

  /** Says goodbye to a peer and forgets it. */
  leave(r: Remote, reason: number, banned: boolean): void {
    this.send(r, { type: "goodbye", fullHash: this.info.fullHash, reason, message: "" });
    this.forget(r);
    if (banned) this.ban(r.id);
    this.do({ type: "drop", peer: r.id, reason, banned });
  }

  ban(id: PeerID): void {
    if (this.banned.size < maxBanned) this.banned.add(id);
  }

  breach(r: Remote, why: string): void {
    this.forget(r);
    this.do({ type: "break", peer: r.id, why });
  }

  /** Says goodbye where neither side can ever want anything of the other. */
  partIfDone(r: Remote): void {
    if (this.complete && !r.presumed && r.has?.all) this.leave(r, Reason.Finished, false);
  }

  /** Adds a piece to what we have, and tells everybody who lacks it. */
  has(piece: number): void {
    this.have.add(piece);
    this.withdraw(piece);
    for (const r of this.peers.values()) {
      if (!r.has?.has(piece)) this.send(r, { type: "have", number: this.number, piece });
    }
  }

  /** Says so once every piece is there. */
  completeIfAll(): void {
    if (!this.have.all || this.complete) return;
    this.complete = true;
    this.do({ type: "complete" });
    for (const r of [...this.peers.values()]) this.partIfDone(r);
  }
}
