/**
 * The mediation protocol between a peer and its mediator, as Go's
 * common/mediation, whose comment is the specification. Messages are values: a
 * message is never changed once it is made.
 */

import { utf8Length } from "./bytes.ts";
import { checkMediatorURL, type FullHash, parseFullHash } from "./content.ts";
import { type PeerID, parsePeerID } from "./ident.ts";
import { asObject, clip, parseObject } from "./strict.ts";

/** Where a mediator serves the WebSocket. */
export const Path = "/mediation";

/** Bounds signal_data, in bytes of UTF-8. */
export const MaxSignalData = 64 << 10;

/** Bounds a message in bytes: a full signal_data of which every byte needs an escape, and an envelope. */
export const MaxMessageSize = 2 * MaxSignalData + (4 << 10);

/** Bounds signal_data as JSON in its shortest form, in bytes with its quotes: control characters take six bytes each. */
const maxQuotedSignalData = 2 * MaxSignalData + 2;

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
  /** What we would signal to the first peer that is named; the mediator hands it to one. At most as long as a signal. */
  readonly offer?: string;
  /** Between mediators: whose offer it is. */
  readonly senderID?: PeerID;
}

/** Names peers that seed a content; none: the search ended with nobody. */
export interface Peers {
  readonly type: "peers";
  readonly fullHash: FullHash;
  readonly peers: readonly PeerID[];
  /** Which of them was handed the offer that came with get_peers. */
  readonly offered?: PeerID;
  /** Between mediators: peers that were named and seed it no more. */
  readonly gone?: readonly PeerID[];
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

/** Asks whether the mediator is there. */
export interface Ping {
  readonly type: "ping";
}

/** Answers a ping. */
export interface Pong {
  readonly type: "pong";
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
  /** WebSocket URLs of other mediators, with going_away; left out where there are none. */
  readonly mediators?: readonly string[];
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
  | Ping
  | Pong
  | ErrorMessage;

/** Why a text is no message. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
  readonly code: DecodeCode;

  constructor(code: DecodeCode, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Parses one message: what came in a WebSocket frame, whatever it is. Where several
 * things are wrong, the first is told: the size, the form of the text, the type, and then
 * each field in the order of the specification.
 */
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
      return { type, fullHash: fields.fullHash(), peers: fields.peerIDs("peers"), ...fields.optionalID("offered", "offered"), ...fields.gone() };
    case "signal":
      return {
        type,
        fullHash: fields.fullHash(),
        peerID: fields.peerID("peer_id"),
        signalData: fields.signalData("signal_data"),
        ...fields.optionalID("sender_id", "senderID"),
      };
    case "get_peers":
      return { type, fullHash: fields.fullHash(), ...fields.offer(), ...fields.optionalID("sender_id", "senderID") };
    case "announce":
    case "announced":
    case "finish":
      return { type, fullHash: fields.fullHash() };
    case "ping":
    case "pong":
      return { type };
    case "error":
      return {
        type,
        code: fields.text("code"),
        message: fields.text("message"),
        ...(fields.has("full_hash") && { fullHash: fields.fullHash() }),
        ...fields.optionalID("peer_id", "peerID"),
        ...fields.optionalID("sender_id", "senderID"),
        ...fields.mediators(),
      };
    default:
      throw new DecodeError("unknown_type", `no message has the type ${JSON.stringify(type.slice(0, 40))}`);
  }
}

const noPeer = "0".repeat(40);

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

  #list(name: string, limit: number): unknown[] {
    const value = this.#get(name);
    if (!Array.isArray(value)) throw bad(`${name} is of the wrong type`);
    if (value.length > limit) throw bad(`${name} has at most ${limit} entries`);
    return value;
  }

  text(name: string): string {
    const value = this.#string(name);
    if (utf8Length(value) > MaxText) throw bad(`${name} has at most ${MaxText} bytes`);
    return value;
  }

  /** An object with the field, empty where it is missing or says nothing. */
  #optionalText<K extends string>(name: K): { [key in K]?: string } {
    const value = this.has(name) ? this.text(name) : "";
    return value === "" ? {} : ({ [name]: value } as { [key in K]: string });
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

  /** An object with the id under that key, empty where there is none; the id of zeros stands for none. */
  optionalID<K extends string>(name: string, key: K): { [key in K]?: PeerID } {
    const id = this.has(name) ? this.peerID(name) : noPeer;
    return id === noPeer ? {} : ({ [key]: id } as { [key in K]: PeerID });
  }

  mediatorID(name: string): string {
    const id = this.#string(name);
    if (!/^[1-9A-HJ-NP-Za-km-z]{40,64}$/.test(id)) {
      throw new DecodeError("bad_peer_id", `${name} of a mediator is a libp2p peer id`);
    }
    return id;
  }

  peerIDs(name: string): PeerID[] {
    return this.#list(name, MaxPeers).map((entry) => {
      if (typeof entry !== "string") throw bad(`${name} is a list of texts`);
      const id = parsePeerID(entry);
      if (id === null) throw new DecodeError("bad_peer_id", `every entry of ${name} is 40 lower-case hex digits`);
      return id;
    });
  }

  /** An object with the peers that are gone, empty where there are none. */
  gone(): { gone?: PeerID[] } {
    const gone = this.has("gone") ? this.peerIDs("gone") : [];
    return gone.length === 0 ? {} : { gone };
  }

  texts(name: string): string[] {
    const list = this.#list(name, MaxURLs);
    if (!list.every((text): text is string => typeof text === "string" && utf8Length(text) <= MaxText)) {
      throw bad(`${name} is a list of texts of at most ${MaxText} bytes`);
    }
    return list;
  }

  optionalTexts(name: string): string[] {
    return this.has(name) ? this.texts(name) : [];
  }

  /** An object with the mediators that an error names, empty where it names none. */
  mediators(): { mediators?: string[] } {
    const mediators = this.optionalTexts("mediators");
    return mediators.length === 0 ? {} : { mediators };
  }

  iceServers(name: string): ICEServer[] {
    if (!this.has(name)) return [];
    return this.#list(name, MaxICEServers).map((entry) => {
      try {
        return new Fields(asObject(entry) ?? {}).iceServer();
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
      ...this.#optionalText("username"),
      ...this.#optionalText("credential"),
    };
  }

  signalData(name: string): string {
    const data = this.#string(name);
    if (!fitsSignal(data)) {
      const why = `${name} has at most ${MaxSignalData} bytes, and ${maxQuotedSignalData} in quotes`;
      throw new DecodeError("signal_too_big", why);
    }
    return data;
  }

  /** An object with the offer, empty where there is none; an empty one says no more than none. */
  offer(): { offer?: string } {
    const offer = this.has("offer") ? this.signalData("offer") : "";
    return offer === "" ? {} : { offer };
  }
}

/** Whether the text is short enough for a signal_data. */
export function fitsSignal(text: string): boolean {
  return utf8Length(text) <= MaxSignalData && utf8Length(JSON.stringify(text)) <= maxQuotedSignalData;
}

/** The message as JSON. Decoding that gives the message again; the text of an error is cut to MaxText. */
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
      return { type, full_hash: message.fullHash, peers: message.peers, offered: message.offered, gone: message.gone };
    case "signal":
      return {
        type,
        peer_id: message.peerID,
        full_hash: message.fullHash,
        sender_id: message.senderID, // JSON leaves out what is undefined
        signal_data: message.signalData,
      };
    case "get_peers":
      return { type, full_hash: message.fullHash, offer: message.offer, sender_id: message.senderID };
    case "announce":
    case "announced":
    case "finish":
      return { type, full_hash: message.fullHash };
    case "ping":
    case "pong":
      return { type };
    case "error":
      return {
        type,
        peer_id: message.peerID,
        full_hash: message.fullHash,
        sender_id: message.senderID,
        code: message.code,
        message: clip(message.message, MaxText),
        mediators: message.mediators,
      };
  }
}

/**
 * Whether a peer follows the mediator at the URL from to the one at the URL to, which it
 * named; why not, says Go's MayName: a wss mediator names wss mediators only, and nobody
 * names what lies nearer than itself.
 */
export function mayName(from: string, to: string): boolean {
  try {
    checkMediatorURL(to);
  } catch {
    return false;
  }
  if (from.startsWith("wss:") && !to.startsWith("wss:")) return false;
  const far = reachOf(to);
  return far !== null && far >= (reachOf(from) ?? Reach.anywhere);
}

/** From where a host can be reached, under the same name as here. */
export const Reach = {
  /** On this machine. */
  here: 0,
  /** In this network. */
  nearby: 1,
  /** On the internet. */
  anywhere: 2,
} as const;

type Reach = (typeof Reach)[keyof typeof Reach];

/** Judges the host of a URL by its letters alone; null where there is none that can be judged. */
export function reachOf(url: string): Reach | null {
  const text = /^wss?:\/\/(\[[^\]]*\]|[^:/?]*)/.exec(url)?.[1] ?? "";
  if (text.startsWith("[")) return reachOfIPv6(text);
  const host = text.toLowerCase().replace(/\.$/, "");
  const address = host.split(".");
  if (address.length === 4 && address.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255)) {
    return reachOfIPv4(Number(address[0]), Number(address[1]));
  }
  const last = address.at(-1) ?? "";
  // Systems read 127.1, 0x7f000001 and the like as addresses, each its own way; no domain begins with a digit.
  if (last === "" || /^[0-9]/.test(last)) return null;
  if (last === "localhost") return Reach.here;
  const nearby = address.length === 1 || last === "local" || last === "internal" || host.endsWith(".home.arpa");
  return nearby ? Reach.nearby : Reach.anywhere;
}

/** Of an address by its first two bytes: private, of a provider's own network, link-local, of groups and reserved ones are nearby. */
function reachOfIPv4(a: number, b: number): Reach {
  if (a === 127 || a === 0) return Reach.here; // 0.0.0.0 leads to this machine, too
  const isPrivate = a === 10 || (a === 172 && b >> 4 === 1) || (a === 192 && b === 168);
  const ofAProvider = a === 100 && b >> 6 === 1;
  return isPrivate || ofAProvider || (a === 169 && b === 254) || a >= 224 ? Reach.nearby : Reach.anywhere;
}

/** Of an address in brackets: 2000::/3 is given out for the internet; all else is local, or stands for an IPv4 address. */
function reachOfIPv6(host: string): Reach | null {
  try {
    const shortest = new URL(`ws://${host}`).hostname;
    if (shortest === "[::1]" || shortest === "[::]") return Reach.here;
    return /^\[[23][0-9a-f]{3}:/.test(shortest) ? Reach.anywhere : Reach.nearby;
  } catch {
    return null;
  }
}
