/**
 * What a page sees of the peer: states, events, options and errors. Types and
 * plain values only; client.ts does what they promise.
 *
 * Units: bytes, bytes per second, milliseconds. Stamps are performance.now().
 */

import type { InfoDictionary } from "./content.ts";
import type { MediatorState } from "./signaling.ts";
import type { Storage } from "./store/open.ts";

/**
 * Where a content stands.
 *
 *     seeding:     hashing → connecting → seeding (the mediator has stored the announce)
 *     downloading: searching → connecting → downloading → complete
 *
 * A seeder falls back from "seeding" to "connecting" while another mediator has not stored
 * its announce yet. "idle" is a page's own start, before there is a content, and what stop() leaves. A
 * download falls back from "downloading" to "searching" when its last peer leaves. A
 * complete content goes on being served while the page lives. "failed" is final.
 */
export type State =
  | "idle"
  | "hashing"
  | "seeding"
  | "searching"
  | "connecting"
  | "downloading"
  | "complete"
  | "failed";

/** How far a content is. */
export interface Progress {
  /** Bytes hashed (state "hashing") or verified (any other state). */
  readonly bytes: number;
  /** Bytes of the whole content. */
  readonly total: number;
  /** Pieces of the whole content; 0 while it is not known how it is cut. */
  readonly pieces: number;
  /** Verified pieces. */
  readonly verified: number;
  /** One bit a piece, the first piece is the highest bit of the first byte: a copy, of ⌈pieces/8⌉ bytes. */
  readonly bitmap: Uint8Array;
  /** Bytes of blocks that came from peers, the wrong and the doubled ones included. */
  readonly received: number;
  /** Bytes of blocks that went to peers. */
  readonly sent: number;
  /** Bytes per second over the last few seconds. */
  readonly receiveSpeed: number;
  /** Bytes per second over the last few seconds. */
  readonly sendSpeed: number;
}

/** A peer with which a content is being exchanged, or is to be. */
export interface PeerStatus {
  /** 40 lower-case hex digits. */
  readonly id: string;
  readonly state: "connecting" | "open";
  /** How many pieces of the content it says that it has. */
  readonly pieces: number;
  /** Bytes of this content's blocks from it. */
  readonly received: number;
  /** Bytes of this content's blocks to it. */
  readonly sent: number;
  /** Bytes per second of this content's blocks: the best that it delivered lately; 0: nothing yet. */
  readonly rate: number;
  /** Round trip in milliseconds as ICE measures it, where it is known. */
  readonly rtt?: number;
  /** The version of DTLS that was agreed on, such as "1.2", where the browser says so. */
  readonly dtls?: string;
  /** Whether the parameters of SCTP were exchanged with the descriptions (SNAP), which saves round trips; once it is open. */
  readonly snap?: boolean;
}

/**
 * The steps on the way to a content, in their usual order; as Go's common/timeline, whose comment says
 * what each is. Only the first time of each is told. A seeder has "started", "mediator_open", "established",
 * "announced", and, as peers come, "offer_received", "answer_sent", "ice_connected", "dtls_connected",
 * "channel_open". What a connection that was there already leaves out has no stamp.
 */
export const Phases = [
  "started", // get() or seed() was called
  "mediator_open", // the WebSocket is open
  "lookup_sent", // the question for peers was handed to it
  "offer_sent", // the first offer was handed to it: with the lookup, or to a peer that was named
  "established", // the mediator answered the handshake
  "announced", // the mediator answered the announce: others can find us
  "peers_named", // the mediator named the first peer
  "offer_received",
  "answer_sent",
  "answer_received",
  "ice_connected",
  "dtls_connected", // where the browser says so
  "channel_open",
  "first_piece", // the first piece is verified
  "complete", // the last piece is verified
] as const;

export type Phase = (typeof Phases)[number];

/** When each phase was first reached; performance.now() in milliseconds. */
export type Timeline = Readonly<Partial<Record<Phase, number>>>;

/**
 * Why something went wrong; stable, for programs. Besides these, the codes of
 * content.ts (a malformed dictionary or link) and of mediation.ts (what a
 * mediator answered) are used as they are.
 */
export type ClientErrorCode =
  | "no_mediator" // none was given and none can be derived
  | "mediator_unreachable" // a mediator could not be reached, or was lost; another one is tried
  | "connection_failed" // a peer could not be reached or was lost; others go on
  | "bad_peer" // a peer sent what the protocol does not allow, or wrong data; it is left
  | "content_unreadable" // the file that is seeded changed, or cannot be read any more
  | "store_failed" // the content could not be kept, or is kept in memory although it does not fit there; see store/error.ts
  | "unknown_file" // no info dictionary has this file name
  | "duplicate_name" // two info dictionaries have the same file name
  | "overloaded" // the page has as many contents as it may
  | "stopped" // stop() or close() was called before the content was complete
  | "streaming_unavailable" // contents can have no addresses: the message says why
  | "callback_failed" // a function of the page threw
  | "unsupported"; // the browser has no WebRTC or no WebSocket

/** An error with its code. */
export class CdnError extends Error {
  override readonly name = "CdnError";
  /** A {@link ClientErrorCode}, or a code of content.ts or mediation.ts. */
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

/** The events of a content, with what each carries. */
export interface ContentEvents {
  state: State;
  /** At most ten times a second, and at the end. */
  progress: Progress;
  /** A peer came, went, or opened its channel. Bytes and pieces of it: ask `peers` again. */
  peers: readonly PeerStatus[];
  phase: { readonly phase: Phase; readonly at: number };
  /** What went wrong. The state is "failed" only where the content cannot go on. */
  error: CdnError;
}

/** The events of a client, with what each carries. */
export interface ClientEvents {
  /** The connection to the mediator changed. */
  mediator: { readonly url: string; readonly state: MediatorState };
  /** What went wrong with no content in particular. */
  error: CdnError;
}

/** Takes part in an event source: `off()` ends what `on()` began. */
export type Off = () => void;

/** One content that is seeded or downloaded. Its fields are the present; its events tell of changes. */
export interface Content {
  readonly state: State;
  /** The file's name; "" where it has none. */
  readonly name: string;
  /** The info dictionary, as JSON writes it; null until hashing ended. Without piece_hashes while those are still asked for. */
  readonly info: InfoDictionary | null;
  readonly progress: Progress;
  readonly peers: readonly PeerStatus[];
  readonly timeline: Timeline;
  /** The last error that was told, or null. */
  readonly error: CdnError | null;
  /**
   * Resolves once there is an info dictionary (at once, but for seed()).
   * Rejects with a CdnError where the file cannot be hashed.
   */
  readonly ready: Promise<InfoDictionary>;
  /** Resolves to the whole, verified content, with its media type. Rejects with a CdnError. */
  readonly done: Promise<Blob>;
  /** The link to the content, `p2pcdn:<full hash>?xl=…`; null while hashing. */
  link(mediators?: readonly string[]): string | null;
  /** The same text without its scheme: what stands after # in a page's address. */
  fragment(mediators?: readonly string[]): string | null;
  on<E extends keyof ContentEvents>(event: E, fn: (value: ContentEvents[E]) => void): Off;
  /**
   * The bytes from `begin` up to `end`, by default all; throws a RangeError for others. It may begin before the download
   * ends: what is not there yet is waited for, and fetched before everything else. What it hands out is
   * verified. Nothing is read before somebody asks. It errors with the CdnError that ended the content.
   */
  stream(begin?: number, end?: number): ReadableStream<Uint8Array>;
  /**
   * Leaves the content: tells its peers and the mediator. Where it is not complete, `done`
   * rejects with "stopped"; what is on the disk stays, and another get() goes on with it.
   */
  stop(): void;
  /** Leaves the content as stop() does, and throws away what is kept of it on the disk. The Blob of `done` may become unreadable. */
  discard(): void;
}

/** How a content is seeded. */
export interface SeedOptions {
  /** The file's name; default: the File's own, "" for a Blob. */
  readonly name?: string;
  /** The media type; default: the File's own. */
  readonly type?: string;
  /** Bytes, a power of two from 16384; default: by the length, see DefaultPieceLength. */
  readonly pieceLength?: number;
}

/** Options of a client. All have defaults. */
export interface ClientOptions {
  /** WebSocket URLs, tried in this order; default: {@link defaultMediators} of the page. */
  readonly mediators?: readonly string[];
  /** Used in place of the ICE servers that the mediator names. An empty list: none at all. */
  readonly iceServers?: readonly RTCIceServer[];
  /** Peers that a download connects to at a time; default 8. */
  readonly maxPeersDownloading?: number;
  /** Peers that one content serves at a time; default 32. */
  readonly maxPeersServing?: number;
  /** Peer connections of the whole page; default 48. */
  readonly maxConnections?: number;
  /** Bytes per second of blocks to all peers together; default 0: no limit. */
  readonly uploadLimit?: number;
  /** Bytes per second of blocks that are asked for; default 0: no limit. */
  readonly downloadLimit?: number;
  /** Bytes per second of blocks to any one peer; default 0: no limit. */
  readonly peerUploadLimit?: number;
  /** Peers that are sent blocks at a time, in turn; default 8. */
  readonly uploadSlots?: number;
  /**
   * Where downloads are kept: "memory", "disk" (the origin private file system, where an interrupted
   * download goes on after a reload), or "auto", the default: the disk for what an earlier visit left some of
   * there, else memory while all downloads there fit a 64th of the device's memory, 128 MiB at most (64 MiB where the
   * browser does not say what the device has), else the disk where there is one. Complete ones do not count: the browser keeps them where it likes.
   */
  readonly storage?: Storage;
}
