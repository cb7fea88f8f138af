/**
 * The mediation protocol between a peer and its mediator, as Go's
 * common/mediation, whose comment is the specification. Messages are values: a
 * message is never changed once it is made.
 */

import { utf8Length } from "./bytes.ts";
import { type FullHash, parseFullHash } from "./content.ts";
import { type PeerID, parsePeerID } from "./ident.ts";

/** Where a mediator serves the WebSocket. */
export const Path = "/mediation";

/** Bounds signal_data, in bytes of UTF-8. */
export const MaxSignalData = 64 << 10;

/** Bounds a message in bytes: a full signal_data of which every byte needs an escape, and an envelope. */
export const MaxMessageSize = 2 * MaxSignalData + (4 << 10);

/** Bounds the list in a peers message. */
export const MaxPeers = 64;

/** Bound what established and error carry. */
export const MaxICEServers = 16;
export const MaxURLs = 16;
/** Bytes of one URL, name, credential or error message. */
export const MaxText = 1024;

/** The codes that a decoder gives. A mediator may send others, see Go's limits.go. */
export type DecodeCode =
  | "bad_message"
  | "unknown_type"
  | "bad_full_hash"
  | "bad_peer_id"
  | "bad_connection_type"
  | "message_too_big"
  | "signal_too_big";

/** Opens a peer's connection: connection_type "mediation". */
export interface Handshake {
  readonly type: "handshake";
  readonly peerID: PeerID;
}

/** Opens a stream between mediators; only here so that it is told apart. */
export interface Replication {
  readonly type: "replication";
  /** A libp2p id in base58. */
  readonly mediatorID: string;
}

/** Answers a handshake. */
export interface Established {
  readonly type: "established";
  readonly iceServers: readonly ICEServer[];
  /** WebSocket URLs of other mediators. */
  readonly mediators: readonly string[];
}

/** An RTCIceServer dictionary (W3C WebRTC, section 4.2.2). */
export interface ICEServer {
  /** At least one. */
  readonly urls: string[];
  readonly username?: string;
  readonly credential?: string;
}

/** Asks for the peers that seed a content. */
export interface GetPeers {
  readonly type: "get_peers";
  readonly fullHash: FullHash;
}

/** Names peers that seed a content; none: the search ended with nobody. */
export interface Peers {
  readonly type: "peers";
  readonly fullHash: FullHash;
  readonly peers: readonly PeerID[];
}

/** Carries signalData from one peer to another. */
export interface Signal {
  readonly type: "signal";
  readonly fullHash: FullHash;
  /** The receiver; towards a peer: the sender. */
  readonly peerID: PeerID;
  /** Between mediators: the sender. */
  readonly senderID?: PeerID;
  readonly signalData: string;
}

/** Says that the peer seeds a content. */
export interface Announce {
  readonly type: "announce";
  readonly fullHash: FullHash;
}

/** Says that the announce can be found by every mediator. */
export interface Announced {
  readonly type: "announced";
  readonly fullHash: FullHash;
}

/** Ends a peer's announce of a content and its interest in it. */
export interface Finish {
  readonly type: "finish";
  readonly fullHash: FullHash;
}

/** Says what was wrong. */
export interface ErrorMessage {
  readonly type: "error";
  readonly code: string;
  /** For people; may change. */
  readonly message: string;
  readonly fullHash?: FullHash;
  readonly peerID?: PeerID;
  readonly senderID?: PeerID;
}

export type Message =
  | Handshake
  | Replication
  | Established
  | GetPeers
  | Peers
  | Signal
  | Announce
  | Announced
  | Finish
  | ErrorMessage;

/** Why a text is no message; it names the content and the peer it is about where they could be read. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
  readonly code: DecodeCode;
  readonly fullHash: FullHash | undefined;
  readonly peerID: PeerID | undefined;

  constructor(code: DecodeCode, message: string, fullHash?: FullHash, peerID?: PeerID) {
    super(message);
    this.code = code;
    this.fullHash = fullHash;
    this.peerID = peerID;
  }
}

/** Parses one message: what came in a WebSocket frame, whatever it is. */
export function decode(text: unknown): Message | DecodeError {
  if (typeof text !== "string") return new DecodeError("bad_message", "a message is a text frame");
  const size = utf8Length(text);
  if (size > MaxMessageSize) {
    return new DecodeError("message_too_big", `a message has at most ${MaxMessageSize} bytes, not ${size}`);
  }
  const fields = parseObject(text);
  if (fields === null) return new DecodeError("bad_message", "a message is one JSON object");
  try {
    return readMessage(new Fields(fields));
  } catch (error) {
    if (error instanceof DecodeError) return error;
    throw error;
  }
}

function parseObject(text: string): object | null {
  try {
    return asObject(JSON.parse(text));
  } catch {
    return null;
  }
}

function asObject(value: unknown): object | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
}

function readMessage(fields: Fields): Message {
  const type = fields.text("type");
  switch (type) {
    case "handshake": {
      const connection = fields.text("connection_type");
      if (connection === "mediation") return { type, peerID: fields.peerID("peer_id") };
      if (connection === "replication") return { type: "replication", mediatorID: fields.mediatorID("peer_id") };
      throw new DecodeError("bad_connection_type", 'connection_type is "mediation" or "replication"');
    }
    case "established":
      return { type, iceServers: fields.iceServers("ice_servers"), mediators: fields.optionalTexts("mediators") };
    case "peers":
      return { type, fullHash: fields.fullHash(), peers: fields.peerIDs("peers") };
    case "signal": {
      const fullHash = fields.fullHash();
      const peerID = fields.peerID("peer_id");
      const sender = fields.has("sender_id") && { senderID: fields.peerID("sender_id") };
      return { type, fullHash, peerID, ...sender, signalData: fields.signalData(fullHash, peerID) };
    }
    case "get_peers":
    case "announce":
    case "announced":
    case "finish":
      return { type, fullHash: fields.fullHash() };
    case "error":
      return {
        type,
        code: fields.text("code"),
        message: fields.text("message"),
        ...(fields.has("peer_id") && { peerID: fields.peerID("peer_id") }),
        ...(fields.has("sender_id") && { senderID: fields.peerID("sender_id") }),
        ...(fields.has("full_hash") && { fullHash: fields.fullHash() }),
      };
    default:
      throw new DecodeError("unknown_type", `no message has the type ${JSON.stringify(type.slice(0, 40))}`);
  }
}

function bad(message: string): DecodeError {
  return new DecodeError("bad_message", message);
}

/** Reads fields out of a JSON object; throws a DecodeError at the first that is wrong. null is a wrong type. */
class Fields {
  readonly #fields: object;

  constructor(fields: object) {
    this.#fields = fields;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.#fields, name);
  }

  #get(name: string): unknown {
    if (!this.has(name)) throw bad(`the message has no ${name}`);
    return (this.#fields as Record<string, unknown>)[name];
  }

  #string(name: string): string {
    const value = this.#get(name);
    if (typeof value !== "string") throw bad(`${name} is of the wrong type`);
    return value;
  }

  #list(name: string): unknown[] {
    const value = this.#get(name);
    if (!Array.isArray(value)) throw bad(`${name} is of the wrong type`);
    return value;
  }

  text(name: string): string {
    const value = this.#string(name);
    if (utf8Length(value) > MaxText) throw bad(`${name} has at most ${MaxText} bytes`);
    return value;
  }

  fullHash(): FullHash {
    const value = this.#string("full_hash");
    try {
      return parseFullHash(value);
    } catch {
      throw new DecodeError("bad_full_hash", "full_hash is 64 lower-case hex digits");
    }
  }

  peerID(name: string): PeerID {
    const id = parsePeerID(this.#string(name));
    if (id === null) throw new DecodeError("bad_peer_id", `${name} is 40 lower-case hex digits`);
    return id;
  }

  mediatorID(name: string): string {
    const id = this.#string(name);
    if (!/^[1-9A-HJ-NP-Za-km-z]{40,64}$/.test(id)) {
      throw new DecodeError("bad_peer_id", `${name} of a mediator is a libp2p peer id`);
    }
    return id;
  }

  peerIDs(name: string): PeerID[] {
    const list = this.#list(name);
    if (list.some((entry) => typeof entry !== "string" && entry !== null)) throw bad(`${name} is of the wrong type`);
    if (list.length > MaxPeers) throw bad(`${name} has at most ${MaxPeers} entries`);
    return list.map((entry) => {
      if (entry === null) throw bad(`${name} is of the wrong type`);
      const id = parsePeerID(entry as string);
      if (id === null) throw new DecodeError("bad_peer_id", `every entry of ${name} is 40 lower-case hex digits`);
      return id;
    });
  }

  texts(name: string): string[] {
    const list = this.#list(name);
    if (list.length > MaxURLs) throw bad(`${name} has at most ${MaxURLs} entries`);
    if (!list.every((text): text is string => typeof text === "string" && utf8Length(text) <= MaxText)) {
      throw bad(`${name} is a list of texts of at most ${MaxText} bytes`);
    }
    return list;
  }

  optionalTexts(name: string): string[] {
    return this.has(name) ? this.texts(name) : [];
  }

  iceServers(name: string): ICEServer[] {
    if (!this.has(name)) return [];
    const list = this.#list(name);
    if (list.length > MaxICEServers) throw bad(`${name} has at most ${MaxICEServers} entries`);
    return list.map((entry) => {
      const fields = asObject(entry);
      if (fields === null) throw bad(`${name} is of the wrong type`);
      try {
        return new Fields(fields).iceServer();
      } catch {
        throw bad(`${name} holds an entry that is no ICE server`);
      }
    });
  }

  iceServer(): ICEServer {
    const urls = this.texts("urls");
    if (urls.length === 0) throw bad("an ICE server has a URL");
    return {
      urls,
      ...(this.has("username") && { username: this.text("username") }),
      ...(this.has("credential") && { credential: this.text("credential") }),
    };
  }

  signalData(fullHash: FullHash, peerID: PeerID): string {
    const data = this.#string("signal_data");
    const size = utf8Length(data);
    if (size > MaxSignalData) {
      throw new DecodeError("signal_too_big", `signal_data has at most ${MaxSignalData} bytes, not ${size}`, fullHash, peerID);
    }
    return data;
  }
}

/** The message as JSON. Decoding that gives the message again. */
export function encode(message: Message): string {
  return JSON.stringify(envelope(message));
}

function envelope(message: Message): object {
  const { type } = message;
  switch (type) {
    case "handshake":
      return { type, peer_id: message.peerID, connection_type: "mediation" };
    case "replication":
      return { type: "handshake", peer_id: message.mediatorID, connection_type: "replication" };
    case "established":
      return {
        type,
        ...(message.iceServers.length > 0 && { ice_servers: message.iceServers }),
        ...(message.mediators.length > 0 && { mediators: message.mediators }),
      };
    case "peers":
      return { type, full_hash: message.fullHash, peers: message.peers };
    case "signal":
      return {
        type,
        peer_id: message.peerID,
        full_hash: message.fullHash,
        sender_id: message.senderID, // JSON leaves out what is undefined
        signal_data: message.signalData,
      };
    case "get_peers":
    case "announce":
    case "announced":
    case "finish":
      return { type, full_hash: message.fullHash };
    case "error":
      return {
        type,
        peer_id: message.peerID,
        full_hash: message.fullHash,
        sender_id: message.senderID,
        code: message.code,
        message: message.message,
      };
  }
}
