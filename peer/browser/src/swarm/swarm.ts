import { type Hash, type Info, LeafLength, shortHash } from "../content.ts";
import type { PeerID } from "../ident.ts";
import {
  Bits,
  type Block,
  type Frame,
  FrameError,
  type Handshake,
  type Have,
  MaxBlock,
  MaxFrame,
  Reason,
  blockLength,
} from "../wire.ts";
import type { Action } from "./actions.ts";
import { Core, type Range, type SwarmConfig } from "./core.ts";
import { early, reconsider } from "./early.ts";
import { fill, handOver, rejected } from "./fill.ts";
import { checked, giveUpSpan, gotHashes, serveHashes } from "./hashes.ts";
import { unpresume } from "./presumed.ts";
import { Remote } from "./remote.ts";
import { nextTick, tick } from "./tick.ts";
import { delivered, kept } from "./trust.ts";

/** What a person wants to know of a peer. */
export interface SwarmPeer {
  readonly id: PeerID;
  /** That it has. */
  readonly pieces: number;
  /** Bytes that were asked of it and have not come. */
  readonly owes: number;
  /** It ran out of our patience. */
  readonly silent: boolean;
  /** Bytes of blocks that it sent, ever. */
  readonly delivered: number;
  /** Bytes/s: the best that it delivered lately; 0: nothing yet. */
  readonly rate: number;
  /** From a question to its answer, at best, in ms; 0: not known. */
  readonly rtt: number;
}

/** One content and all peers about it. The driver owns it. Times are ms of one clock, never 0 or less. */
export class Swarm {
  readonly #core: Core;

  /** It sends nothing before a peer is connected. */
  constructor(config: SwarmConfig) {
    this.#core = new Core(config);
  }

  /** What is to be done since the last call, in order. */
  actions(): Action[] {
    return this.#core.actions();
  }

  /** The info dictionary; its piece hashes are complete once "described" was said. */
  get info(): Info {
    return this.#core.info;
  }

  /** The pieces that are verified and kept; the caller leaves it as it is. */
  get have(): Bits {
    return this.#core.have;
  }

  /** Whether every piece is verified and kept. */
  get complete(): boolean {
    return this.#core.complete;
  }

  /** The length of the pieces that are verified and kept. */
  get haveBytes(): number {
    const { have, geometry } = this.#core;
    const last = have.pieces - 1;
    const short = have.has(last) ? geometry.pieceLength - geometry.pieceSize(last) : 0;
    return have.count * geometry.pieceLength - short;
  }

  /** How many pieces are on their way. */
  get openPieces(): number {
    return this.#core.open.size;
  }

  /** The peers, in the order in which they came. */
  peers(): SwarmPeer[] {
    return [...this.#core.peers.values()].map(({ id, has, presumed, inFlight, silent, pace }) => ({
      id,
      pieces: presumed ? 0 : (has?.count ?? 0),
      owes: inFlight,
      silent,
      delivered: pace.delivered,
      rate: pace.rate,
      rtt: pace.rtt,
    }));
  }

  /**
   * Says that there is a channel to the peer for this content: because it was found, or
   * because its handshake came (which is then to be handed to received). maxFrame is the
   * largest frame that we can send, in bytes; likely says that it should have the content, so
   * that it may be asked before it said so. A banned peer is said goodbye to at once; a
   * peer that is connected already stays as it is.
   */
  connected(peer: PeerID, maxFrame: number, likely: boolean, now: number): void {
    const core = this.#core;
    if (core.peers.has(peer)) return;
    const { fullHash, totalLength, pieceLength } = core.info;
    if (core.banned.has(peer)) {
      core.do({ type: "send", peer, frame: { type: "goodbye", fullHash, reason: Reason.Poisoned, message: "" } });
      core.do({ type: "drop", peer, reason: Reason.Poisoned, banned: true });
      return;
    }
    const r = new Remote(peer, maxFrame, likely, now);
    core.peers.set(peer, r);
    core.send(r, { type: "handshake", number: core.number, fullHash, totalLength, pieceLength, maxFrame });
    core.send(r, core.have.frame(core.number));
    early(core, r, now);
  }

  /** Says that the channel to the peer is gone. */
  disconnected(peer: PeerID, now: number): void {
    const r = this.#core.peers.get(peer);
    if (r === undefined) return;
    this.#core.forget(r);
    fill(this.#core, now);
  }

  /**
   * Hands in a frame whose content number stands for this content in the peer's
   * frames. A frame of a peer that is not connected is ignored.
   */
  received(peer: PeerID, frame: Frame, now: number): void {
    const r = this.#core.peers.get(peer);
    if (r === undefined) return;
    this.#handle(r, frame, now);
    fill(this.#core, now);
  }

  /** Answers a keep: the block is in the store, and these are the hashes of its leaves. */
  kept(block: Block, hashes: readonly Hash[], now: number): void {
    kept(this.#core, block, hashes);
    fill(this.#core, now);
  }

  /** Answers a check: these pieces are in the store, and right. */
  checked(have: Bits, now: number): void {
    checked(this.#core, have);
    for (const r of this.#core.peers.values()) early(this.#core, r, now); // who came before that
    fill(this.#core, now);
  }

  /**
   * Says what readers wait for, most urgent first: these pieces are fetched before all
   * others, from everybody who has them, in this order. It replaces what was said before.
   * Pieces that are there cost little, but it should not be more than a few hundred.
   */
  urge(ranges: readonly Range[], now: number): void {
    const { pieces } = this.#core.geometry;
    this.#core.urgent = ranges
      .map(({ first, end }) => ({ first: Math.max(first, 0), end: Math.min(end, pieces) }))
      .filter(({ first, end }) => first < end);
    fill(this.#core, now);
  }

  /** Says that time has passed; see nextTick. */
  tick(now: number): void {
    tick(this.#core, now);
    fill(this.#core, now);
  }

  /** When tick is to be called; null if nothing is waited for. It changes with every event. */
  nextTick(): number | null {
    return nextTick(this.#core);
  }

  /**
   * Says goodbye to every peer: the content is no longer wanted, or no longer served.
   * The swarm has no peers after it.
   */
  leave(): void {
    for (const r of [...this.#core.peers.values()]) this.#core.leave(r, Reason.Finished, false);
  }

  #handle(r: Remote, frame: Frame, now: number): void {
    const core = this.#core;
    const { pieces } = core.geometry;
    switch (frame.type) {
      case "handshake":
        return this.#handshake(r, frame);
      case "bitfield": {
        const bits = Bits.parse(frame.bits, pieces);
        return bits instanceof FrameError ? core.breach(r, bits.message) : this.#learn(r, bits);
      }
      case "have_all":
        return this.#learn(r, Bits.full(pieces));
      case "have_none":
        return this.#learn(r, new Bits(pieces));
      case "have":
        return this.#haveOne(r, frame);
      case "request":
        for (const block of frame.blocks) {
          if (core.peers.get(r.id) === r) this.#serve(r, block); // unless an earlier one was nonsense
        }
        return;
      case "cancel":
        return core.do({ type: "unload", peer: r.id, number: core.number, block: blockOf(frame) });
      case "piece":
        return delivered(core, r, frame, now);
      case "reject":
        return rejected(core, r, blockOf(frame), now);
      case "hash_request":
        return serveHashes(core, r, frame);
      case "hashes":
        return gotHashes(core, r, frame, now);
      case "hash_reject":
        if (r.span?.index === frame.index) giveUpSpan(core, r, r.span, now);
        return;
      case "goodbye":
        core.forget(r);
        return core.do({ type: "drop", peer: r.id, reason: frame.reason, banned: false });
    }
  }

  #handshake(r: Remote, frame: Handshake): void {
    const { info } = this.#core;
    if (r.greeted) return this.#core.breach(r, `a second handshake for ${shortHash(info.fullHash)}`);
    if (frame.totalLength !== info.totalLength) return this.#core.leave(r, Reason.WrongTotalLength, false);
    if (frame.pieceLength !== info.pieceLength) return this.#core.leave(r, Reason.WrongPieceLength, false);
    r.greeted = true;
    r.maxFrame = Math.min(frame.maxFrame, MaxFrame);
  }

  #learn(r: Remote, bits: Bits): void {
    const core = this.#core;
    const { presumed } = r;
    if (presumed) unpresume(r);
    if (!r.greeted || r.has !== null) return core.breach(r, "a bitfield that does not follow its handshake");
    r.has = bits;
    r.all = bits.all;
    if (!r.all) core.count(bits);
    r.offered = core.picker.among(bits);
    if (presumed) reconsider(core, r);
    core.partIfDone(r);
  }

  #haveOne(r: Remote, { piece }: Have): void {
    const core = this.#core;
    const { pieces } = core.geometry;
    if (r.has === null || r.presumed || piece >= pieces) return core.breach(r, `it has piece ${piece} of ${pieces}`);
    core.gains(r, piece);
    handOver(core, r, piece);
    core.partIfDone(r);
  }

  #serve(r: Remote, block: Block): void {
    const core = this.#core;
    const { piece, begin, length } = block;
    if (!this.#fits(block)) {
      return core.breach(r, `a request outside the content: ${length} bytes at ${begin} of piece ${piece}`);
    }
    if (!core.have.has(piece) || length > blockLength(r.maxSend)) {
      return core.send(r, { type: "reject", number: core.number, ...block });
    }
    core.do({ type: "load", peer: r.id, number: core.number, block });
  }

  /** Whether a block lies within the content, on the borders of leaves. */
  #fits({ piece, begin, length }: Block): boolean {
    const { geometry } = this.#core;
    if (piece >= geometry.pieces) return false;
    const size = geometry.pieceSize(piece);
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
}

function blockOf({ piece, begin, length }: Block): Block {
  return { piece, begin, length };
}
