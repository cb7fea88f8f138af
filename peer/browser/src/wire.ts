/**
 * The peer wire protocol: what two peers say to each other on their data channel,
 * as Go's common/wire, whose comment is the specification. Integers are unsigned,
 * big-endian; one binary message is one frame.
 */

import { type Bytes, fromHex, fromUTF8, toHex, utf8 } from "./bytes.ts";
import { type FullHash, Geometry, type Hash, HashSize, LeafLength, MaxPieces, MaxProofHashes } from "./content.ts";
import { clip } from "./strict.ts";

/** The version of the protocol in the handshake. */
export const Version = 1;

/** The label of the data channel. */
export const ChannelLabel = "p2pcdn/1";

/**
 * The max_frame that every peer must handle: a block of one leaf, the piece hashes
 * of a span with their proof, or the longest bitfield, with room. Bytes.
 */
export const MinFrame = 20 << 10;

/** Bounds every frame, and so max_frame. Chromium takes messages of at most 256 KiB. Bytes. */
export const MaxFrame = 256 << 10;

/** Bounds a block: each costs a page a request, a message to the disk and a write. Bytes. */
export const MaxBlock = 128 << 10;

/** How many requests of a peer may wait at the other side. */
export const MaxRequests = 512;

/** Bounds the text of a goodbye, in bytes. */
export const MaxMessage = 256;

const headLength = 3; // type, content number
const blockHead = headLength + 8; // and piece, begin
const blockBody = 12; // piece, begin, length
const maxProof = 8; // hashes: MaxPieces are 2^8 spans of MaxProofHashes
const handshakeBody = 1 + HashSize + 8 + 4 + 4;

const numbers = {
  have: 4,
  bitfield: 5,
  request: 6,
  piece: 7,
  cancel: 8,
  have_all: 14,
  have_none: 15,
  reject: 16,
  hash_request: 21,
  hashes: 22,
  hash_reject: 23,
  handshake: 64,
  goodbye: 65,
} as const;

/** Why a goodbye was said. An unknown one is treated as Finished. */
export const Reason = {
  Finished: 1, // has what it wants, or stops seeding
  NotHere: 2, // neither has nor wants the content
  WrongTotalLength: 3, // total_length is not what the receiver of the handshake knows
  WrongPieceLength: 4, // piece_length is not what the receiver of the handshake uses
  Poisoned: 5, // sent data that does not hash to what it should
  Overloaded: 6, // serves as many peers as it can
  ProtocolError: 7, // sent what the specification does not allow; the connection ends
} as const;

/** The reason in words. */
export function reasonText(reason: number): string {
  const words = [
    "finished",
    "not here",
    "wrong total length",
    "wrong piece length",
    "poisoned",
    "overloaded",
    "protocol error",
  ];
  return words[reason - 1] ?? "unknown reason";
}

/**
 * The longest block whose piece frame fits in frames of maxFrame bytes: a multiple of
 * the leaf, at most MaxBlock. Bytes.
 */
export function blockLength(maxFrame: number): number {
  return Math.min(MaxBlock, Math.max(1, Math.floor((maxFrame - blockHead) / LeafLength)) * LeafLength);
}

/** A run of bytes within a piece. Begin and length in bytes. */
export interface Block {
  readonly piece: number;
  readonly begin: number;
  readonly length: number;
}

/** Whether both are the same run of bytes. */
export function sameBlock(a: Block, b: Block): boolean {
  return a.piece === b.piece && a.begin === b.begin && a.length === b.length;
}

/** Opens a content. number stands for fullHash in the frames of its sender. Lengths in bytes. */
export interface Handshake {
  readonly type: "handshake";
  readonly number: number;
  readonly fullHash: FullHash;
  readonly totalLength: number;
  readonly pieceLength: number;
  readonly maxFrame: number;
}

/** Says what its sender has, one bit a piece; see Bits. */
export interface Bitfield {
  readonly type: "bitfield";
  readonly number: number;
  /** Aliases the decoded frame. */
  readonly bits: Uint8Array;
}

/** Says that its sender has every piece, or none. */
export interface HaveAllOrNone {
  readonly type: "have_all" | "have_none";
  readonly number: number;
}

/** Says that its sender now has one more piece. */
export interface Have {
  readonly type: "have";
  readonly number: number;
  readonly piece: number;
}

/** Asks for one block or several, each of which is answered by itself; at most MaxRequests. */
export interface Request {
  readonly type: "request";
  readonly number: number;
  readonly blocks: readonly Block[];
}

/** Takes the request of a block back, or says that it will not be answered with data. */
export interface BlockFrame extends Block {
  readonly type: "cancel" | "reject";
  readonly number: number;
}

/** Carries the data of a block. */
export interface Piece {
  readonly type: "piece";
  readonly number: number;
  readonly piece: number;
  readonly begin: number;
  /** Aliases the decoded frame. */
  readonly data: Bytes;
}

/** Asks for a span of piece hashes, or says that its sender does not have them. */
export interface HashRequest {
  readonly type: "hash_request" | "hash_reject";
  readonly number: number;
  /** Of the first piece. */
  readonly index: number;
}

/** Carries a span of piece hashes and its proof. */
export interface Hashes {
  readonly type: "hashes";
  readonly number: number;
  readonly index: number;
  readonly hashes: readonly Hash[];
  readonly proof: readonly Hash[];
}

/** Ends a content between two peers. */
export interface Goodbye {
  readonly type: "goodbye";
  readonly fullHash: FullHash;
  readonly reason: number;
  /** For people; encode cuts it to MaxMessage bytes. */
  readonly message: string;
}

/** A frame that belongs to a content by its sender's content number. */
export type NumberedFrame = Handshake | Bitfield | HaveAllOrNone | Have | Request | BlockFrame | Piece | HashRequest | Hashes;

export type Frame = NumberedFrame | Goodbye;

/** The class of a decoding failure; the vectors name it. */
export type WireCode =
  | "unknown_type" // to be ignored
  | "bad_length" // too short or too long for its type
  | "frame_too_big" // over MaxFrame
  | "bad_version" // a handshake of another version
  | "bad_max_frame" // a handshake with a max_frame below MinFrame
  | "bad_geometry" // total_length or piece_length that cannot be
  | "bad_text" // a goodbye whose message is not UTF-8 or too long
  | "bad_hash_count"; // hashes with none, or more than a span

/** Why bytes are no frame. */
export class FrameError extends Error {
  override readonly name = "FrameError";
  readonly code: WireCode;

  constructor(code: WireCode, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Encodes frames that are handed on at once: the next one may be written over the last. Blocks
 * are most of what a peer sends, and a new buffer for each costs more than filling it.
 */
export class Encoder {
  readonly #block = new Uint8Array(blockHead + MaxBlock);

  /** The frame as bytes, valid until the next call. */
  encode(frame: Frame): Bytes {
    if (frame.type !== "piece" || frame.data.length > MaxBlock) return encode(frame);
    const bytes = this.#block.subarray(0, blockHead + frame.data.length);
    const buffer = head({ bytes, view: new DataView(bytes.buffer) }, frame);
    u32s(buffer, frame.piece, frame.begin);
    bytes.set(frame.data, blockHead);
    return bytes;
  }
}

/** The frame as bytes, which are its own. */
export function encode(frame: Frame): Bytes {
  switch (frame.type) {
    case "have_all":
    case "have_none":
      return start(frame, 0).bytes;
    case "have":
      return u32s(start(frame, 4), frame.piece).bytes;
    case "request":
      return u32s(
        start(frame, blockBody * frame.blocks.length),
        ...frame.blocks.flatMap(({ piece, begin, length }) => [piece, begin, length]),
      ).bytes;
    case "cancel":
    case "reject":
      return u32s(start(frame, blockBody), frame.piece, frame.begin, frame.length).bytes;
    case "hash_request":
    case "hash_reject":
      return u32s(start(frame, 4), frame.index).bytes;
    case "bitfield": {
      const { bytes } = start(frame, frame.bits.length);
      bytes.set(frame.bits, headLength);
      return bytes;
    }
    case "piece": {
      const { bytes } = u32s(start(frame, 8 + frame.data.length), frame.piece, frame.begin);
      bytes.set(frame.data, blockHead);
      return bytes;
    }
    case "hashes": {
      const all = [...frame.hashes, ...frame.proof];
      const { bytes, view } = u32s(start(frame, 6 + all.length * HashSize), frame.index);
      view.setUint16(headLength + 4, frame.hashes.length);
      all.forEach((hash, i) => bytes.set(hash, headLength + 6 + i * HashSize));
      return bytes;
    }
    case "handshake": {
      const { bytes, view } = start(frame, handshakeBody);
      bytes[headLength] = Version;
      bytes.set(hashBytes(frame.fullHash), headLength + 1);
      const lengths = headLength + 1 + HashSize;
      view.setBigUint64(lengths, BigInt(frame.totalLength));
      view.setUint32(lengths + 8, frame.pieceLength);
      view.setUint32(lengths + 12, frame.maxFrame);
      return bytes;
    }
    case "goodbye": {
      const text = utf8(clip(frame.message, MaxMessage));
      const { bytes } = start({ type: "goodbye", number: 0 }, HashSize + 1 + text.length);
      bytes.set(hashBytes(frame.fullHash), headLength);
      bytes[headLength + HashSize] = frame.reason;
      bytes.set(text, headLength + HashSize + 1);
      return bytes;
    }
  }
}

interface Buffer {
  readonly bytes: Bytes;
  readonly view: DataView;
}

function start(frame: { type: keyof typeof numbers; number: number }, bodyLength: number): Buffer {
  const bytes = new Uint8Array(headLength + bodyLength);
  return head({ bytes, view: new DataView(bytes.buffer) }, frame);
}

function head(buffer: Buffer, frame: { type: keyof typeof numbers; number: number }): Buffer {
  buffer.bytes[0] = numbers[frame.type];
  buffer.view.setUint16(1, frame.number);
  return buffer;
}

function u32s(buffer: Buffer, ...values: number[]): Buffer {
  values.forEach((value, i) => buffer.view.setUint32(headLength + 4 * i, value));
  return buffer;
}

function hashBytes(hash: FullHash): Bytes {
  return fromHex(hash, HashSize) as Bytes; // a FullHash is that many digits
}

/**
 * Parses one frame. data and bits alias it. A FrameError "unknown_type" is to be
 * ignored. Where several things are wrong, the first is told: the frame's size, its type,
 * its length for that type, and then each field in its order. What a frame says about a content (is the piece within it?) is not checked
 * here: only whoever knows the content can.
 */
export function decode(frame: Bytes): Frame | FrameError {
  if (frame.length > MaxFrame) {
    return new FrameError("frame_too_big", `a frame has at most ${MaxFrame} bytes, not ${frame.length}`);
  }
  if (frame.length < headLength) {
    return new FrameError("bad_length", `a frame has at least ${headLength} bytes, not ${frame.length}`);
  }
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const kind = view.getUint8(0);
  const number = view.getUint16(1);
  const body = frame.subarray(headLength);
  const u32 = (i: number): number => view.getUint32(headLength + 4 * i);

  const bounds = bodyBounds(kind);
  if (bounds === null) return new FrameError("unknown_type", `no frame has type ${kind}`);
  if (body.length < bounds[0] || body.length > bounds[1]) {
    return new FrameError("bad_length", `a frame of type ${kind} and ${frame.length} bytes`);
  }
  switch (kind) {
    case numbers.have:
      return { type: "have", number, piece: u32(0) };
    case numbers.bitfield:
      return { type: "bitfield", number, bits: body };
    case numbers.request:
      return decodeRequest(number, u32, body.length);
    case numbers.piece:
      return { type: "piece", number, piece: u32(0), begin: u32(1), data: body.subarray(8) };
    case numbers.cancel:
      return { type: "cancel", number, piece: u32(0), begin: u32(1), length: u32(2) };
    case numbers.have_all:
      return { type: "have_all", number };
    case numbers.have_none:
      return { type: "have_none", number };
    case numbers.reject:
      return { type: "reject", number, piece: u32(0), begin: u32(1), length: u32(2) };
    case numbers.hash_request:
      return { type: "hash_request", number, index: u32(0) };
    case numbers.hashes:
      return decodeHashes(number, u32(0), view.getUint16(headLength + 4), body.subarray(6));
    case numbers.hash_reject:
      return { type: "hash_reject", number, index: u32(0) };
    case numbers.handshake:
      return decodeHandshake(number, view, body);
    default:
      return decodeGoodbye(body);
  }
}

/** The bounds of what follows the head of a frame, in bytes; null for an unknown type. */
function bodyBounds(kind: number): [least: number, most: number] | null {
  switch (kind) {
    case numbers.have_all:
    case numbers.have_none:
      return [0, 0];
    case numbers.have:
    case numbers.hash_request:
    case numbers.hash_reject:
      return [4, 4];
    case numbers.request:
      return [blockBody, MaxRequests * blockBody];
    case numbers.cancel:
    case numbers.reject:
      return [blockBody, blockBody];
    case numbers.bitfield:
      return [1, MaxPieces / 8];
    case numbers.piece:
      return [8, 8 + MaxBlock];
    case numbers.hashes:
      return [6 + HashSize, 6 + (MaxProofHashes + maxProof) * HashSize];
    case numbers.handshake:
      return [handshakeBody, MinFrame - headLength];
    case numbers.goodbye:
      return [HashSize + 1, MaxFrame - headLength];
    default:
      return null;
  }
}

function decodeRequest(number: number, u32: (i: number) => number, length: number): Request | FrameError {
  if (length % blockBody !== 0) return new FrameError("bad_length", `a request of ${length} bytes`);
  const blocks = Array.from({ length: length / blockBody }, (_, i) => ({
    piece: u32(3 * i),
    begin: u32(3 * i + 1),
    length: u32(3 * i + 2),
  }));
  return { type: "request", number, blocks };
}

function decodeHashes(number: number, index: number, count: number, list: Uint8Array): Hashes | FrameError {
  if (list.length % HashSize !== 0 || count * HashSize > list.length) {
    return new FrameError("bad_length", `${count} hashes in ${list.length} bytes`);
  }
  const all = Array.from({ length: list.length / HashSize }, (_, i) =>
    Uint8Array.from(list.subarray(i * HashSize, (i + 1) * HashSize)),
  );
  const proof = all.splice(count);
  if (count === 0 || count > MaxProofHashes || proof.length > maxProof) {
    return new FrameError("bad_hash_count", `${count} hashes with a proof of ${proof.length}`);
  }
  return { type: "hashes", number, index, hashes: all, proof };
}

function decodeHandshake(number: number, view: DataView, body: Uint8Array): Handshake | FrameError {
  if (body[0] !== Version) return new FrameError("bad_version", `version ${body[0]} instead of ${Version}`);
  const fullHash = toHex(body.subarray(1, 1 + HashSize)) as FullHash;
  const lengths = headLength + 1 + HashSize;
  const totalLength = Number(view.getBigUint64(lengths)); // what is rounded here is far too large anyway
  const pieceLength = view.getUint32(lengths + 8);
  const maxFrame = view.getUint32(lengths + 12);
  try {
    new Geometry(totalLength, pieceLength).check();
  } catch (error) {
    return new FrameError("bad_geometry", (error as Error).message);
  }
  if (maxFrame < MinFrame) return new FrameError("bad_max_frame", `max_frame is at least ${MinFrame}, not ${maxFrame}`);
  return { type: "handshake", number, fullHash, totalLength, pieceLength, maxFrame };
}

function decodeGoodbye(body: Uint8Array): Goodbye | FrameError {
  const text = body.subarray(HashSize + 1);
  const message = text.length <= MaxMessage ? fromUTF8(text) : null;
  if (message === null) {
    return new FrameError("bad_text", `a goodbye's message is at most ${MaxMessage} bytes of UTF-8`);
  }
  return {
    type: "goodbye",
    fullHash: toHex(body.subarray(0, HashSize)) as FullHash,
    reason: body[HashSize] as number,
    message,
  };
}

/** A set of pieces in the form of a bitfield: the first piece is the highest bit of the first byte. */
export class Bits {
  /** The number of pieces of the content. */
  readonly pieces: number;
  readonly #bytes: Bytes;
  #count = 0;

  /** An empty set for a content of so many pieces. */
  constructor(pieces: number) {
    this.pieces = pieces;
    this.#bytes = new Uint8Array(Math.ceil(pieces / 8));
  }

  /** The set of every piece. */
  static full(pieces: number): Bits {
    const bits = new Bits(pieces);
    for (let piece = 0; piece < pieces; piece++) bits.add(piece);
    return bits;
  }

  /**
   * The set that a bitfield says. A bitfield of another length than the pieces need,
   * or with a spare bit set, gives a FrameError "bad_length".
   */
  static parse(field: Uint8Array, pieces: number): Bits | FrameError {
    const bits = new Bits(pieces);
    if (field.length !== bits.#bytes.length) {
      return new FrameError("bad_length", `a bitfield of ${field.length} bytes for ${pieces} pieces`);
    }
    for (let piece = 0; piece < 8 * field.length; piece++) {
      if (((field[piece >> 3] as number) & (0x80 >> (piece & 7))) !== 0 && !bits.add(piece)) {
        return new FrameError("bad_length", `a bitfield with a bit set beyond its ${pieces} pieces`);
      }
    }
    return bits;
  }

  /** How many pieces are in the set. */
  get count(): number {
    return this.#count;
  }

  /** Whether every piece is in the set. */
  get all(): boolean {
    return this.#count === this.pieces;
  }

  /** Whether the piece is in the set; a piece that is none is not. */
  has(piece: number): boolean {
    return piece >= 0 && piece < this.pieces && ((this.#bytes[piece >> 3] as number) & (0x80 >> (piece & 7))) !== 0;
  }

  /** Adds a piece; whether it was new. */
  add(piece: number): boolean {
    if (piece < 0 || piece >= this.pieces || this.has(piece)) return false;
    this.#bytes[piece >> 3] = (this.#bytes[piece >> 3] as number) | (0x80 >> (piece & 7));
    this.#count++;
    return true;
  }

  /** Takes a piece out. */
  remove(piece: number): void {
    if (!this.has(piece)) return;
    this.#bytes[piece >> 3] = (this.#bytes[piece >> 3] as number) & ~(0x80 >> (piece & 7));
    this.#count--;
  }

  /** A copy of the set as a bitfield. */
  bytes(): Bytes {
    return this.#bytes.slice();
  }

  /** The set as the frame that follows a handshake. */
  frame(number: number): Bitfield | HaveAllOrNone {
    if (this.#count === 0) return { type: "have_none", number };
    if (this.all) return { type: "have_all", number };
    return { type: "bitfield", number, bits: this.bytes() };
  }
}
