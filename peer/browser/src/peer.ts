/**
 * One remote peer and the connection to it, which all contents share. Hands each
 * frame to the content that its number stands for, and the peer's requests to its uploader.
 */

import type { Bytes } from "./bytes.ts";
import type { Cancel, Clock } from "./clock.ts";
import type { FullHash } from "./content.ts";
import type { PeerID } from "./ident.ts";
import type { Conn, ConnPhase, EndCode, Stats } from "./rtc.ts";
import { type Source, Uploader, type Uplink } from "./uplink.ts";
import {
  type Block,
  decode,
  Encoder,
  type Frame,
  FrameError,
  type Handshake,
  MaxRequests,
  type NumberedFrame,
  Reason,
} from "./wire.ts";
import { MaxAsked } from "./swarm.ts";

/** What a peer needs of a content. */
export interface Exchange extends Source {
  readonly hash: FullHash;
  /** Whether pieces are still missing, so that the peer is asked for them. */
  readonly wanting: boolean;
  /**
   * The channel is open: we want the peer for this content, which it should have (likely), or its handshake came and
   * is handed to received next.
   */
  attach(peer: Peer, likely: boolean): void;
  /** The peer's handshake came; false where the content takes no more peers. */
  greeted(peer: Peer): boolean;
  /** A frame of the content came. */
  received(peer: Peer, frame: Frame): void;
  /** The connection is gone. */
  detach(peer: Peer, code: EndCode, message: string): void;
  /** A block went to the peer. */
  served(peer: Peer, bytes: number): void;
  phase(phase: ConnPhase | "channel_open"): void;
  /** What is known of the peer changed. */
  peerChanged(): void;
}

/** What a peer needs of the client. */
export interface PeerHost {
  readonly clock: Clock;
  readonly uplink: Uplink;
  /** The content of that hash, if there is one. */
  exchange(hash: FullHash): Exchange | undefined;
  /** The connection ended, last of all. */
  ended(peer: Peer): void;
}

/** How long a connection that no content uses is kept, in ms: long enough for the next file of a page. */
const idleTimeout = 30_000;

/** How often the connection is measured, in ms. */
const statsInterval = 5_000;

/**
 * Contents that are downloaded from a peer at a time; others wait for their turn. Together
 * they stay within MaxRequests, above which the other side refuses.
 */
const maxDownloads = MaxRequests / MaxAsked;

/** Bounds the contents that a peer may have with us. */
const maxNumbers = 4096;

export class Peer {
  readonly id: PeerID;
  /** The content that its signals are about. */
  readonly hash: FullHash;
  /** Whether we called it. */
  readonly outgoing: boolean;
  readonly #host: PeerHost;
  #conn: Conn | null = null; // set once, by begin
  #state: "connecting" | "open" | "closed" = "connecting";
  #maxFrame = 0; // bytes; once open
  #stats: Stats | null = null; // as measured last; null before
  readonly #waiting = new Set<Exchange>(); // contents that want it once it is open, and it is their turn; oldest first
  readonly #attached = new Set<Exchange>(); // contents whose swarm has it
  /** The peer's content numbers. left: goodbye was said, so what still comes is void. Bounded by maxNumbers. */
  readonly #numbers = new Map<number, { readonly hash: FullHash; left: boolean }>();
  readonly #uploads: Uploader<Exchange>;
  readonly #encoder = new Encoder(); // a channel copies what it is given
  #idle: Cancel = () => {};
  #measure: Cancel = () => {};

  constructor(host: PeerHost, id: PeerID, hash: FullHash, outgoing: boolean) {
    this.#host = host;
    this.id = id;
    this.hash = hash;
    this.outgoing = outgoing;
    this.#uploads = new Uploader(host.uplink, this);
  }

  /** Takes the connection, whose handler must call the methods below. */
  begin(conn: Conn): void {
    this.#conn = conn;
  }

  get state(): "connecting" | "open" | "closed" {
    return this.#state;
  }

  /** The largest frame, in bytes, that can be sent. */
  get maxFrame(): number {
    return this.#maxFrame;
  }

  /** What was measured of the connection last; null before. */
  get stats(): Stats | null {
    return this.#stats;
  }

  get conn(): Conn | null {
    return this.#conn;
  }

  /** Wants the peer for a content: attach comes when it is open, and it is the content's turn. */
  want(exchange: Exchange): void {
    if (this.#state === "closed") return;
    this.#waiting.add(exchange);
    this.#idle();
    this.admit();
  }

  /** Attaches the contents whose turn it is; to be called when one is complete. */
  admit(): void {
    if (this.#state !== "open") return;
    for (const exchange of this.#waiting) {
      const downloads = [...this.#attached].filter((other) => other.wanting).length;
      if (downloads >= maxDownloads) return;
      exchange.attach(this, true);
    }
  }

  /** Says that the content's swarm has the peer. */
  join(exchange: Exchange): void {
    this.#waiting.delete(exchange);
    this.#attached.add(exchange);
    this.#idle();
  }

  /** Says that the content's swarm has the peer no more; its requests are void. */
  part(exchange: Exchange): void {
    this.#waiting.delete(exchange);
    this.#attached.delete(exchange);
    this.#uploads.drop(exchange);
    this.admit();
    if (this.#waiting.size + this.#attached.size === 0) this.#rest();
  }

  /** Whether any other content uses the peer. */
  usedBeside(exchange: Exchange): boolean {
    return [...this.#waiting, ...this.#attached].some((other) => other !== exchange);
  }

  send(frame: Frame): void {
    if (this.#state !== "open") return;
    if (frame.type === "goodbye") this.#leave(frame.fullHash);
    this.#conn?.send(this.#encoder.encode(frame));
  }

  /** Bytes that were sent and have not left. */
  get buffered(): number {
    return this.#conn?.buffered ?? 0;
  }

  /** A block of the content went to the peer. */
  served(exchange: Exchange, bytes: number): void {
    exchange.served(this, bytes);
  }

  /** Serves a request when its turn comes, or rejects it where too many wait. */
  upload(exchange: Exchange, number: number, block: Block): void {
    if (!this.#uploads.add(exchange, number, block)) this.send({ type: "reject", number, ...block });
  }

  /** Takes a request back, unless its answer is on its way. */
  cancel(exchange: Exchange, number: number, block: Block): void {
    if (this.#uploads.remove(exchange, block)) this.send({ type: "reject", number, ...block });
  }

  /** Ends the connection. Contents hear of it at once, the host when it is done. */
  close(code: EndCode = "closed", message = ""): void {
    this.#end(code, message);
    this.#conn?.close(code, message);
  }

  /** Ends the connection of a peer that broke the protocol. */
  breach(why: string, hash: FullHash = this.hash): void {
    this.send({ type: "goodbye", fullHash: hash, reason: Reason.ProtocolError, message: "" });
    this.close("bad_frame", why);
  }

  // What the connection's handler tells.

  opened(maxFrame: number): void {
    if (this.#state !== "connecting") return;
    this.#state = "open";
    this.#maxFrame = maxFrame;
    this.phase("channel_open");
    this.admit();
    if (this.#waiting.size + this.#attached.size === 0) this.#rest();
    this.#measureStats();
  }

  phase(phase: ConnPhase | "channel_open"): void {
    const concerned = new Set([...this.#waiting, ...this.#attached]);
    const caller = this.outgoing ? undefined : this.#host.exchange(this.hash);
    if (caller !== undefined) concerned.add(caller);
    for (const exchange of concerned) exchange.phase(phase);
  }

  frame(bytes: Bytes): void {
    if (this.#state !== "open") return;
    const frame = decode(bytes);
    if (frame instanceof FrameError) {
      // A type that is not known yet is no fault: the protocol may grow.
      if (frame.code !== "unknown_type") this.breach(frame.message);
    } else if (frame.type === "handshake") {
      this.#greeted(frame);
    } else if (frame.type === "goodbye") {
      this.#forget(frame.fullHash);
      this.#host.exchange(frame.fullHash)?.received(this, frame);
    } else {
      this.#numbered(frame);
    }
  }

  drained(): void {
    this.#uploads.go();
  }

  closed(code: EndCode, message: string): void {
    this.#end(code, message);
    this.#host.ended(this);
  }

  #end(code: EndCode, message: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#idle();
    this.#measure();
    this.#uploads.close();
    const concerned = [...this.#waiting, ...this.#attached];
    this.#waiting.clear();
    this.#attached.clear();
    for (const exchange of concerned) exchange.detach(this, code, message);
  }

  #greeted(frame: Handshake): void {
    const known = this.#numbers.get(frame.number);
    if (known !== undefined && !known.left && known.hash !== frame.fullHash) {
      return this.breach("a content number for two contents", frame.fullHash);
    }
    if (known === undefined && this.#numbers.size >= maxNumbers) return this.breach("too many contents");
    this.#forget(frame.fullHash);
    this.#numbers.set(frame.number, { hash: frame.fullHash, left: false });
    const exchange = this.#host.exchange(frame.fullHash);
    if (exchange === undefined) return this.#refuse(frame.fullHash, Reason.NotHere);
    if (!this.#attached.has(exchange)) {
      if (!exchange.greeted(this)) return this.#refuse(frame.fullHash, Reason.Overloaded);
      exchange.attach(this, false);
    }
    exchange.received(this, frame);
  }

  #refuse(fullHash: FullHash, reason: number): void {
    this.send({ type: "goodbye", fullHash, reason, message: "" });
  }

  #numbered(frame: Exclude<NumberedFrame, Handshake>): void {
    const known = this.#numbers.get(frame.number);
    if (known === undefined) return this.breach(`content number ${frame.number} without a handshake`);
    if (!known.left) this.#host.exchange(known.hash)?.received(this, frame);
  }

  /** We said goodbye: what the peer still sends about the content is void, until it greets anew. */
  #leave(hash: FullHash): void {
    for (const known of this.#numbers.values()) {
      if (known.hash === hash) known.left = true;
    }
  }

  /** The peer's number for the content stands for it no more. */
  #forget(hash: FullHash): void {
    for (const [number, known] of this.#numbers) {
      if (known.hash === hash) this.#numbers.delete(number);
    }
  }

  /** Nobody uses the connection: it is closed after a while. */
  #rest(): void {
    this.#idle();
    if (this.#state === "open") this.#idle = this.#host.clock.after(idleTimeout, () => this.close());
  }

  #measureStats(): void {
    this.#conn?.stats().then(
      (stats) => {
        if (this.#state !== "open") return;
        this.#stats = { ...stats, rtt: stats.rtt ?? this.#stats?.rtt ?? null };
        for (const exchange of this.#attached) exchange.peerChanged();
      },
      () => {}, // a browser that does not say is none the worse
    );
    this.#measure = this.#host.clock.after(statsInterval, () => this.#measureStats());
  }
}
