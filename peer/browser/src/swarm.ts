/**
 * The heart of a peer: what happens between it and all others about one content.
 * It decides which block is asked of whom, what is told to whom, and whom to believe.
 * A mirror of Go's peer/swarm, whose comment is the specification.
 *
 * It is pure. Events go in by method calls that carry the time, and what is to be
 * done comes out as a list of actions; there is no I/O, no timer, no clock and no
 * hashing in it.
 *
 *     driver (client.ts)                         Swarm
 *     channel open           ── connected ──▶    handshake, what we have, first requests
 *     channel closed         ── disconnected ─▶  its blocks are asked of others
 *     frame arrived          ── received ────▶   …
 *     store answered a save  ── saved/wrong ─▶   have to all / the liar is dropped
 *     time passed            ── tick ────────▶   who is silent is not waited for
 *                            ◀── actions ──      send, load, unload, save, drop, break, described, complete
 *
 * Times are milliseconds of one clock, whichever the driver has; lengths are bytes.
 */

import type { Bytes } from "./bytes.ts";
import {
  type Geometry,
  type Hash,
  type Info,
  LeafLength,
  geometryOf,
  hasPieceHashes,
  pieceHash,
  shortHash,
} from "./content.ts";
import type { PeerID } from "./ident.ts";
import {
  Bits,
  type Block,
  type BlockFrame,
  type Frame,
  FrameError,
  type Goodbye,
  type HashRequest,
  type Hashes,
  type Handshake,
  type Have,
  MaxBlock,
  MaxRequests,
  type Piece,
  Reason,
  blockLength,
  sameBlock,
} from "./wire.ts";

/** Something that the driver must do. They are to be carried out in order. */
export type Action =
  /** Sends a frame to a peer. */
  | { readonly type: "send"; readonly peer: PeerID; readonly frame: Frame }
  /** Answers a peer's request: the driver reads the block and sends it as piece, or reject if it cannot. */
  | { readonly type: "load"; readonly peer: PeerID; readonly number: number; readonly block: Block }
  /** Takes a load back, if it is not done yet; the driver then sends reject. */
  | { readonly type: "unload"; readonly peer: PeerID; readonly number: number; readonly block: Block }
  /**
   * Asks the driver to verify a whole piece (it must have that hash) and to keep it, and
   * to answer with saved or wrong. The data belongs to the driver.
   */
  | { readonly type: "save"; readonly piece: number; readonly hash: Hash; readonly data: Bytes }
  /**
   * Ends this content with the peer: goodbye was said. The peer stays connected for
   * other contents. Where banned is set the driver must not connect it to this content again.
   */
  | { readonly type: "drop"; readonly peer: PeerID; readonly reason: number; readonly banned: boolean }
  /** Ends the whole connection with the peer, which broke the protocol. */
  | { readonly type: "break"; readonly peer: PeerID; readonly why: string }
  /** Says that the piece hashes are now known: info is complete. */
  | { readonly type: "described"; readonly info: Info }
  /** Says that every piece is verified and kept. It comes once. */
  | { readonly type: "complete" };

/** What may be asked of a peer and not have come: 1 MiB keeps 80 Mbit/s busy over 100 ms. */
export const DefaultInFlight = 1 << 20;

/** How long a peer may owe a block and send nothing, in ms. A block takes this long only below 6.5 KB/s. */
export const DefaultPatience = 10_000;

/** Bounds the pieces that are partly there and held in memory. */
export const DefaultOpenBytes = 64 << 20;

/**
 * Bounds the memory of liars. Ids are fresh for every connection, so remembering more
 * of them would not keep anybody away.
 */
const maxBanned = 1024;

/** What a swarm is made of. */
export interface SwarmConfig {
  /** Must be valid; without piece hashes they are asked for. */
  readonly info: Info;
  /** Our content number, the same towards every peer. */
  readonly number: number;
  /** The pieces that are in the store, verified; default none. The swarm owns it from now on. */
  readonly have?: Bits;
  /** In [0, 1), for the first piece and for ties. */
  readonly random: () => number;
  readonly inFlight?: number;
  readonly patience?: number;
  /** At least one piece is always open. */
  readonly openBytes?: number;
}

/** What a person wants to know of a peer. */
export interface SwarmPeer {
  readonly id: PeerID;
  /** That it has. */
  readonly pieces: number;
  /** Bytes that were asked of it and have not come. */
  readonly owes: number;
  /** It ran out of our patience. */
  readonly silent: boolean;
}

/** A peer, as far as this content goes. */
interface Remote {
  readonly id: PeerID;
  maxFrame: number; // what our side of the channel can carry; then the smaller of both
  greeted: boolean; // its handshake came
  has: Bits | null; // null before its bitfield came
  asked: Asked[]; // blocks that it owes, oldest first
  inFlight: number; // bytes that it owes
  heard: number; // when it last delivered, or was asked while it owed nothing
  silent: boolean; // it ran out of our patience and delivered nothing since
  span: Span | null; // the span of hashes that it owes
  refused: number[]; // pieces of which it rejected a block; taken out of has until pardon
  pardon: number; // when it may be asked for them again; 0 if there are none
  noHashes: number; // until when it is not asked for hashes: it had none, or never answered; 0: it may be asked
}

/** A block that a peer owes. A cancelled one is still owed an answer, but is not waited for. */
interface Asked {
  readonly block: Block;
  readonly of: OpenPiece; // what it was asked for; that may have been given up since, and the same piece begun anew
  cancelled: boolean;
}

const leafMissing = 0;
const leafAsked = 1;
const leafHere = 2;

/** A piece on its way. */
interface OpenPiece {
  readonly index: number;
  readonly data: Bytes;
  readonly state: Uint8Array; // per leaf: missing, asked or here
  missing: number; // leaves that have not come
  from: Remote | null; // whom it is asked of; null: nobody at the moment
  readonly senders: Set<PeerID>; // who sent leaves of it
  readonly solo: boolean; // one peer alone must send it, so that it can be blamed
  saving: boolean; // given to the driver
}

/** A run of missing piece hashes. */
interface Span {
  readonly index: number;
  from: Remote | null; // who was asked
}

/** One content and all peers about it. The driver owns it; it owns every field below. */
export class Swarm {
  readonly #number: number;
  readonly #random: () => number;
  readonly #inFlight: number;
  readonly #patience: number;
  readonly #openBytes: number;
  readonly #geometry: Geometry;
  #info: Info; // its piece hashes are complete once #spans is empty
  readonly #hashes: Hash[]; // piece hashes that have come, while #spans is not empty
  readonly #have: Bits;
  #complete: boolean; // "complete" was said

  readonly #peers = new Map<PeerID, Remote>(); // in the order in which they came: for determinism
  readonly #banned = new Set<PeerID>(); // bounded by maxBanned
  #open: OpenPiece[] = []; // pieces that are being fetched or verified, oldest first; bounded by #openBytes
  readonly #solo = new Set<number>(); // pieces that failed with several senders: fetch from one only
  readonly #available: Uint32Array; // per piece: how many peers have it
  #spans: Span[] = []; // spans of piece hashes that are missing; empty once they are known
  #actions: Action[] = [];

  /** It sends nothing before a peer is connected. */
  constructor(config: SwarmConfig) {
    this.#number = config.number;
    this.#random = config.random;
    this.#inFlight = config.inFlight ?? DefaultInFlight;
    this.#patience = config.patience ?? DefaultPatience;
    this.#openBytes = config.openBytes ?? DefaultOpenBytes;
    this.#info = config.info;
    this.#geometry = geometryOf(config.info);
    const { pieces, proofSpan } = this.#geometry;
    this.#have = config.have ?? new Bits(pieces);
    this.#complete = this.#have.all;
    this.#available = new Uint32Array(pieces);
    this.#hashes = [];
    if (!hasPieceHashes(config.info)) {
      for (let index = 0; index < pieces; index += proofSpan) this.#spans.push({ index, from: null });
    }
  }

  /** What is to be done since the last call, in order. */
  actions(): Action[] {
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  /** The info dictionary; its piece hashes are complete once "described" was said. */
  get info(): Info {
    return this.#info;
  }

  /** The pieces that are verified and kept; the caller leaves it as it is. */
  get have(): Bits {
    return this.#have;
  }

  /** Whether every piece is verified and kept. */
  get complete(): boolean {
    return this.#complete;
  }

  /** The length of the pieces that are verified and kept. */
  get haveBytes(): number {
    const last = this.#have.pieces - 1;
    const short = this.#have.has(last) ? this.#geometry.pieceLength - this.#geometry.pieceSize(last) : 0;
    return this.#have.count * this.#geometry.pieceLength - short;
  }

  /** How many pieces are partly there or being verified. */
  get openPieces(): number {
    return this.#open.length;
  }

  /** The peers, in the order in which they came. */
  peers(): SwarmPeer[] {
    return [...this.#peers.values()].map((r) => ({
      id: r.id,
      pieces: r.has?.count ?? 0,
      owes: r.inFlight,
      silent: r.silent,
    }));
  }

  #do(action: Action): void {
    this.#actions.push(action);
  }

  #send(r: Remote, frame: Frame): void {
    this.#do({ type: "send", peer: r.id, frame });
  }

  /**
   * Says that there is a channel to the peer for this content: because it was found, or
   * because its handshake came (which is then to be handed to received). maxFrame is what
   * our side of the channel can send and receive. A banned peer is said goodbye to at
   * once; a peer that is connected already stays as it is.
   */
  connected(peer: PeerID, maxFrame: number, now: number): void {
    if (this.#peers.has(peer)) return;
    const { fullHash, totalLength, pieceLength } = this.#info;
    if (this.#banned.has(peer)) {
      this.#do({ type: "send", peer, frame: { type: "goodbye", fullHash, reason: Reason.Poisoned, message: "" } });
      this.#do({ type: "drop", peer, reason: Reason.Poisoned, banned: true });
      return;
    }
    const r: Remote = {
      id: peer,
      maxFrame,
      greeted: false,
      has: null,
      asked: [],
      inFlight: 0,
      heard: now,
      silent: false,
      span: null,
      noHashes: 0,
      refused: [],
      pardon: 0,
    };
    this.#peers.set(peer, r);
    this.#send(r, { type: "handshake", number: this.#number, fullHash, totalLength, pieceLength, maxFrame });
    this.#send(r, this.#have.frame(this.#number));
  }

  /** Says that the channel to the peer is gone. */
  disconnected(peer: PeerID, now: number): void {
    const r = this.#peers.get(peer);
    if (r === undefined) return;
    this.#forget(r);
    this.#fill(now);
  }

  /** Takes a peer out: what it owes can be asked of others. */
  #forget(r: Remote): void {
    this.#release(r);
    if (r.has !== null) this.#count(r.has, -1);
    this.#peers.delete(r.id);
  }

  #count(bits: Bits, by: 1 | -1): void {
    for (let piece = 0; piece < this.#available.length; piece++) {
      if (bits.has(piece)) this.#available[piece] = (this.#available[piece] as number) + by;
    }
  }

  /** Takes back everything that was asked of a peer, without a word to it. */
  #release(r: Remote): void {
    for (const { block, of, cancelled } of r.asked) {
      if (!cancelled) mark(of, block, leafMissing);
    }
    r.asked = [];
    r.inFlight = 0;
    if (r.span !== null) {
      r.span.from = null;
      r.span = null;
    }
    this.#orphan(r);
  }

  /**
   * Takes the peer's pieces from it: others may go on with them. A piece that one peer
   * alone must send is begun anew.
   */
  #orphan(r: Remote): void {
    this.#open = this.#open.filter((p) => {
      if (p.from !== r) return true;
      p.from = null;
      return !p.solo;
    });
  }

  /** Says goodbye to a peer and forgets it. */
  #leave(r: Remote, reason: number, banned: boolean): void {
    this.#send(r, { type: "goodbye", fullHash: this.#info.fullHash, reason, message: "" });
    this.#forget(r);
    if (banned && this.#banned.size < maxBanned) this.#banned.add(r.id);
    this.#do({ type: "drop", peer: r.id, reason, banned });
  }

  #breach(r: Remote, why: string): void {
    this.#forget(r);
    this.#do({ type: "break", peer: r.id, why });
  }

  /**
   * Hands in a frame whose content number stands for this content in the peer's
   * frames. A frame of a peer that is not connected is ignored.
   */
  received(peer: PeerID, frame: Frame, now: number): void {
    const r = this.#peers.get(peer);
    if (r === undefined) return;
    this.#handle(r, frame, now);
    this.#fill(now);
  }

  #handle(r: Remote, frame: Frame, now: number): void {
    const { pieces } = this.#geometry;
    switch (frame.type) {
      case "handshake":
        return this.#handshake(r, frame);
      case "bitfield": {
        const bits = Bits.parse(frame.bits, pieces);
        return bits instanceof FrameError ? this.#breach(r, bits.message) : this.#learn(r, bits);
      }
      case "have_all":
        return this.#learn(r, Bits.full(pieces));
      case "have_none":
        return this.#learn(r, new Bits(pieces));
      case "have":
        return this.#haveOne(r, frame);
      case "request":
        return this.#serve(r, frame);
      case "cancel":
        return this.#do({ type: "unload", peer: r.id, number: this.#number, block: blockOf(frame) });
      case "piece":
        return this.#delivered(r, frame, now);
      case "reject":
        return this.#rejected(r, blockOf(frame), now);
      case "hash_request":
        return this.#serveHashes(r, frame);
      case "hashes":
        return this.#gotHashes(r, frame, now);
      case "hash_reject":
        if (r.span?.index === frame.index) this.#giveUpSpan(r, r.span, now);
        return;
      case "goodbye":
        return this.#goodbye(r, frame);
    }
  }

  #goodbye(r: Remote, frame: Goodbye): void {
    this.#forget(r);
    this.#do({ type: "drop", peer: r.id, reason: frame.reason, banned: false });
  }

  #handshake(r: Remote, frame: Handshake): void {
    if (r.greeted) return this.#breach(r, `a second handshake for ${shortHash(this.#info.fullHash)}`);
    if (frame.totalLength !== this.#info.totalLength) return this.#leave(r, Reason.WrongTotalLength, false);
    if (frame.pieceLength !== this.#info.pieceLength) return this.#leave(r, Reason.WrongPieceLength, false);
    r.greeted = true;
    r.maxFrame = Math.min(r.maxFrame, frame.maxFrame);
  }

  #learn(r: Remote, bits: Bits): void {
    if (!r.greeted || r.has !== null) return this.#breach(r, "a bitfield that does not follow its handshake");
    r.has = bits;
    this.#count(bits, 1);
    this.#partIfDone(r);
  }

  #haveOne(r: Remote, frame: Have): void {
    const { pieces } = this.#geometry;
    if (r.has === null || frame.piece >= pieces) return this.#breach(r, `it has piece ${frame.piece} of ${pieces}`);
    if (r.has.add(frame.piece)) this.#available[frame.piece] = (this.#available[frame.piece] as number) + 1;
    this.#partIfDone(r);
  }

  /** Says goodbye where neither side can ever want anything of the other. */
  #partIfDone(r: Remote): void {
    if (this.#complete && r.has?.all) this.#leave(r, Reason.Finished, false);
  }

  /** Whether a block lies within the content, on the borders of leaves. */
  #blockFits({ piece, begin, length }: Block): boolean {
    if (piece >= this.#geometry.pieces) return false;
    const size = this.#geometry.pieceSize(piece);
    const end = begin + length;
    return (
      begin % LeafLength === 0 &&
      begin <= size &&
      end <= size &&
      (end === size || end % LeafLength === 0) &&
      (length > 0 || size === 0) &&
      length <= MaxBlock
    );
  }

  #serve(r: Remote, frame: BlockFrame): void {
    const block = blockOf(frame);
    if (!this.#blockFits(block)) {
      return this.#breach(
        r,
        `a request outside the content: ${block.length} bytes at ${block.begin} of piece ${block.piece}`,
      );
    }
    if (!this.#have.has(block.piece) || block.length > blockLength(r.maxFrame)) {
      return this.#send(r, { type: "reject", number: this.#number, ...block });
    }
    this.#do({ type: "load", peer: r.id, number: this.#number, block });
  }

  #serveHashes(r: Remote, frame: HashRequest): void {
    const { pieces, proofSpan } = this.#geometry;
    const { index } = frame;
    if (index >= pieces || index % proofSpan !== 0) {
      return this.#breach(r, `a request for piece hashes from ${index} of ${pieces}`);
    }
    if (this.#info.pieceHashes === null) {
      return this.#send(r, { type: "hash_reject", number: this.#number, index });
    }
    const proven = this.#geometry.prove(this.#info.pieceHashes, index);
    this.#send(r, { type: "hashes", number: this.#number, index, ...proven });
  }

  #gotHashes(r: Remote, frame: Hashes, now: number): void {
    const span = r.span;
    if (span?.index !== frame.index) return; // not asked for, or no longer
    try {
      this.#geometry.checkProof(this.#info.fullHash, frame.index, frame.hashes, frame.proof);
    } catch {
      return this.#leave(r, Reason.Poisoned, true);
    }
    r.heard = now;
    r.span = null;
    frame.hashes.forEach((hash, i) => {
      this.#hashes[frame.index + i] = hash;
    });
    this.#spans = this.#spans.filter((other) => other !== span);
    if (this.#spans.length === 0) {
      this.#info = { ...this.#info, pieceHashes: this.#hashes };
      this.#do({ type: "described", info: this.#info });
    }
  }

  #delivered(r: Remote, frame: Piece, now: number): void {
    const block: Block = { piece: frame.piece, begin: frame.begin, length: frame.data.length };
    const asked = take(r, block);
    if (asked === undefined) return; // not asked for: a wrong piece, begin or length, or no longer owed
    r.heard = now;
    r.silent = false;
    const p = asked.of;
    if (this.#piece(frame.piece) !== p || !wants(p, block, r, asked.cancelled)) return;
    p.data.set(frame.data, frame.begin);
    p.missing -= mark(p, block, leafHere);
    p.senders.add(r.id);
    if (p.missing === 0) {
      p.saving = true;
      p.from = null; // what it waits for is the driver, not a peer
      this.#do({ type: "save", piece: p.index, hash: pieceHash(this.#info, p.index), data: p.data });
    }
  }

  /**
   * Takes the refusal of a block. The peer is not asked for that piece for a while, or
   * before it says anew that it has it.
   */
  #rejected(r: Remote, block: Block, now: number): void {
    const asked = take(r, block);
    if (asked === undefined || asked.cancelled) return;
    r.heard = now;
    const p = asked.of;
    mark(p, block, leafMissing);
    if (p.from === r) {
      p.from = null;
      if (p.solo) this.#open = this.#open.filter((other) => other !== p);
    }
    if (r.has?.has(block.piece)) {
      r.has.remove(block.piece);
      this.#available[block.piece] = (this.#available[block.piece] as number) - 1;
      r.refused.push(block.piece);
      if (r.pardon === 0) r.pardon = now + this.#patience;
    }
  }

  /** Counts the pieces that a peer refused as its own again. */
  #forgive(r: Remote): void {
    for (const piece of r.refused) {
      if (r.has?.add(piece)) this.#available[piece] = (this.#available[piece] as number) + 1;
    }
    r.refused = [];
    r.pardon = 0;
  }

  /** Asks peers for as much as may be in flight. It is called after every event. */
  #fill(now: number): void {
    if (this.#complete) return;
    if (this.#spans.length > 0) return this.#askHashes(now);
    for (const r of this.#peers.values()) this.#fillPeer(r, now);
  }

  #fillPeer(r: Remote, now: number): void {
    if (r.has === null) return;
    const budget = r.silent ? 1 : this.#inFlight; // silent: one block, to see whether it is there again
    while (r.inFlight < budget && r.asked.length < MaxRequests) {
      const p = this.#pieceFor(r, r.has);
      if (p === undefined) return;
      const block = nextBlock(p, this.#geometry, blockLength(r.maxFrame));
      mark(p, block, leafAsked);
      if (r.inFlight === 0) r.heard = now; // its patience begins with what it owes
      r.asked.push({ block, of: p, cancelled: false });
      r.inFlight += block.length;
      this.#send(r, { type: "request", number: this.#number, ...block });
    }
  }

  /**
   * An open piece of which the peer is to be asked the next block: its own first, then
   * one that nobody fetches, then a new one.
   */
  #pieceFor(r: Remote, has: Bits): OpenPiece | undefined {
    const own = this.#open.find((p) => p.from === r && unasked(p));
    if (own !== undefined) return own;
    const orphan = this.#open.find(
      (p) => p.from === null && !p.saving && unasked(p) && this.#mayFetch(r, has, p.index),
    );
    if (orphan !== undefined) {
      orphan.from = r;
      return orphan;
    }
    const index = this.#choose(r, has);
    if (index < 0 || !this.#makeRoom(r, has)) return undefined;
    const leaves = this.#geometry.leaves(index);
    const p: OpenPiece = {
      index,
      data: new Uint8Array(this.#geometry.pieceSize(index)),
      state: new Uint8Array(leaves),
      missing: leaves,
      from: r,
      senders: new Set(),
      solo: this.#solo.has(index),
      saving: false,
    };
    this.#open.push(p);
    return p;
  }

  /** Whether the piece may be asked of the peer: it has it, and, where the peer was silent, nobody better does. */
  #mayFetch(r: Remote, has: Bits, piece: number): boolean {
    if (!has.has(piece)) return false;
    if (!r.silent) return true;
    for (const other of this.#peers.values()) {
      if (!other.silent && other.has?.has(piece)) return false;
    }
    return true;
  }

  /**
   * The piece to open next for a peer: any for the very first, then the rarest, ties at
   * random; -1 if the peer has none that is wanted.
   */
  #choose(r: Remote, has: Bits): number {
    let best = -1;
    let ties = 0;
    let bestAvailable = 0;
    const first = this.#have.count === 0 && this.#open.length === 0;
    const open = new Set(this.#open.map((p) => p.index));
    for (let piece = 0; piece < this.#available.length; piece++) {
      if (this.#have.has(piece) || open.has(piece) || !this.#mayFetch(r, has, piece)) continue;
      const available = this.#available[piece] as number;
      if (best < 0 || (!first && available < bestAvailable)) {
        best = piece;
        bestAvailable = available;
        ties = 1;
      } else if (first || available === bestAvailable) {
        ties++; // reservoir sampling: each tie is as likely
        if (Math.floor(this.#random() * ties) === 0) best = piece;
      }
    }
    return best;
  }

  /**
   * Whether one more piece may be held in memory. Where there is no room it gives up a
   * piece that nobody fetches and this peer does not have.
   */
  #makeRoom(r: Remote, has: Bits): boolean {
    if (this.#open.length === 0 || (this.#open.length + 1) * this.#geometry.pieceLength <= this.#openBytes) return true;
    const given = this.#open.findIndex((p) => p.from === null && !p.saving && !this.#mayFetch(r, has, p.index));
    if (given < 0) return false;
    this.#open.splice(given, 1);
    return true;
  }

  #piece(index: number): OpenPiece | undefined {
    return this.#open.find((p) => p.index === index);
  }

  /** Asks for the spans of piece hashes that are missing, one of each peer at a time. */
  #askHashes(now: number): void {
    for (const r of this.#peers.values()) {
      if (!r.greeted || r.span !== null || now < r.noHashes) continue;
      const missing = this.#spans.find((span) => span.from === null);
      if (missing === undefined) return;
      missing.from = r;
      r.span = missing;
      r.heard = now;
      this.#send(r, { type: "hash_request", number: this.#number, index: missing.index });
    }
  }

  /**
   * Stops waiting for the hashes that the peer owes, and asks it no more for a while: a
   * leecher that has none now may have them later.
   */
  #giveUpSpan(r: Remote, span: Span, now: number): void {
    span.from = null;
    r.span = null;
    r.noHashes = now + this.#patience;
  }

  /** Answers a save: the piece was right and is kept. Everybody who lacks it is told. */
  saved(piece: number, now: number): void {
    if (this.#close(piece) === undefined || !this.#have.add(piece)) return;
    this.#solo.delete(piece);
    for (const r of this.#peers.values()) {
      if (!r.has?.has(piece)) this.#send(r, { type: "have", number: this.#number, piece });
    }
    if (this.#have.all && !this.#complete) {
      this.#complete = true;
      this.#do({ type: "complete" });
      for (const r of [...this.#peers.values()]) this.#partIfDone(r);
    }
    this.#fill(now);
  }

  /** Answers a save: the piece did not hash to what it should. */
  wrong(piece: number, now: number): void {
    const p = this.#close(piece);
    if (p === undefined) return;
    if (p.senders.size > 1) {
      this.#solo.add(piece);
    } else {
      for (const liar of p.senders) this.#expel(liar);
    }
    this.#fill(now);
  }

  /** Ends a piece that was being saved and returns it. */
  #close(piece: number): OpenPiece | undefined {
    const at = this.#open.findIndex((p) => p.index === piece && p.saving);
    return at < 0 ? undefined : this.#open.splice(at, 1)[0];
  }

  /** Drops a liar for good, whether or not it is still there. */
  #expel(liar: PeerID): void {
    const r = this.#peers.get(liar);
    if (r !== undefined) return this.#leave(r, Reason.Poisoned, true);
    if (this.#banned.size < maxBanned) this.#banned.add(liar);
    this.#do({ type: "drop", peer: liar, reason: Reason.Poisoned, banned: true });
  }

  /** Says that time has passed; see nextTick. */
  tick(now: number): void {
    for (const r of [...this.#peers.values()]) {
      if (now >= r.noHashes) r.noHashes = 0;
      if (r.pardon !== 0 && now >= r.pardon) this.#forgive(r);
      const deadline = this.#deadline(r);
      if (deadline === null || now < deadline) continue;
      if (r.has === null) this.#leave(r, Reason.Finished, false); // it never said what it has
      else if (r.span !== null) this.#giveUpSpan(r, r.span, now);
      else this.#hush(r);
    }
    this.#fill(now);
  }

  /** When tick is to be called; null if nothing is waited for. It changes with every event. */
  nextTick(): number | null {
    let next: number | null = null;
    const earlier = (at: number): void => {
      if (next === null || at < next) next = at;
    };
    for (const r of this.#peers.values()) {
      const deadline = this.#deadline(r);
      if (deadline !== null) earlier(deadline);
      if (this.#spans.length > 0 && r.noHashes !== 0 && r.span === null) earlier(r.noHashes);
      if (r.pardon !== 0) earlier(r.pardon);
    }
    return next;
  }

  /** When our patience with the peer ends; null if it owes nothing. */
  #deadline(r: Remote): number | null {
    const owes = r.asked.some((asked) => !asked.cancelled);
    return owes || r.span !== null || r.has === null ? r.heard + this.#patience : null;
  }

  /** Cancels what a silent peer owes, so that others can be asked for it. */
  #hush(r: Remote): void {
    r.silent = true;
    for (const asked of r.asked) {
      if (asked.cancelled) continue;
      mark(asked.of, asked.block, leafMissing);
      asked.cancelled = true;
      this.#send(r, { type: "cancel", number: this.#number, ...asked.block });
    }
    r.inFlight = 0;
    this.#orphan(r);
  }

  /**
   * Says goodbye to every peer: the content is no longer wanted, or no longer served.
   * The swarm has no peers after it.
   */
  leave(): void {
    for (const r of [...this.#peers.values()]) this.#leave(r, Reason.Finished, false);
  }
}

function blockOf({ piece, begin, length }: Block): Block {
  return { piece, begin, length };
}

/**
 * Removes the block from what the peer owes and returns it: the request that is waited
 * for, if it was asked for twice, else one that was cancelled.
 */
function take(r: Remote, block: Block): Asked | undefined {
  const waitedFor = r.asked.findIndex((asked) => !asked.cancelled && sameBlock(asked.block, block));
  const at = waitedFor >= 0 ? waitedFor : r.asked.findIndex((asked) => sameBlock(asked.block, block));
  const asked = at < 0 ? undefined : r.asked.splice(at, 1)[0];
  if (asked !== undefined && !asked.cancelled) r.inFlight -= block.length;
  return asked;
}

function unasked(p: OpenPiece): boolean {
  return p.state.includes(leafMissing);
}

/** The first run of unasked leaves, as one block of at most length bytes. */
function nextBlock(p: OpenPiece, geometry: Geometry, length: number): Block {
  const first = p.state.indexOf(leafMissing);
  let last = first;
  while (last < p.state.length && p.state[last] === leafMissing && (last - first) * LeafLength < length) last++;
  const begin = first * LeafLength;
  const end = Math.min(last * LeafLength, geometry.pieceSize(p.index));
  return { piece: p.index, begin, length: end - begin };
}

/** The states of the leaves of a block, not a copy. */
function leavesOf(p: OpenPiece, { begin, length }: Block): Uint8Array {
  const first = begin / LeafLength;
  return p.state.subarray(first, first + Math.max(1, Math.ceil(length / LeafLength)));
}

/** Sets the leaves of a block and returns how many there are. */
function mark(p: OpenPiece, block: Block, state: number): number {
  return leavesOf(p, block).fill(state).length;
}

/**
 * Whether a block that the peer delivers is to be kept. What was asked of it and
 * cancelled is welcome where nobody else was asked in the meantime.
 */
function wants(p: OpenPiece, block: Block, r: Remote, cancelled: boolean): boolean {
  if (p.saving || (p.solo && p.from !== r)) return false;
  const leaves = leavesOf(p, block);
  return !leaves.includes(leafHere) && !(cancelled && leaves.includes(leafAsked));
}
