import { toHex, utf8Length } from "../bytes.ts";
import { asInteger, parseObject } from "../strict.ts";
import { type ContentCode, ContentError } from "./error.ts";
import { type FullHash, type Hash, isHash, parseHash } from "./hash.ts";
import { DefaultPieceLength, Geometry, MaxPieces } from "./tree.ts";

/**
 * Bounds an info dictionary as text: the piece hashes of MaxPieces pieces, quoted
 * and on lines of their own, and room for the rest. In bytes.
 */
export const MaxDictionarySize = MaxPieces * 80 + (64 << 10);

const maxFileName = 255; // bytes: what common file systems allow
const maxContentType = 255; // bytes: more than any registered media type

/** The info dictionary: all that must be known of a content to fetch it from strangers. */
export interface Info {
  readonly fullHash: FullHash;
  /** A plain name without a folder; may be "". */
  readonly fileName: string;
  /** A media type; may be "". */
  readonly contentType: string;
  /** Bytes. */
  readonly totalLength: number;
  /** Bytes. */
  readonly pieceLength: number;
  /**
   * The tree's layer at pieceLength. It is null where there is one piece, and where
   * the dictionary came without it: then other peers are asked for it, and their
   * answer is checked against fullHash.
   */
  readonly pieceHashes: readonly Hash[] | null;
}

/** The info dictionary as JSON writes it. Hashes are 64 lower-case hex digits, lengths are bytes. */
export interface InfoDictionary {
  full_hash: string;
  file_name: string;
  content_type: string;
  total_length: number;
  piece_length: number;
  piece_hashes?: string[];
}

/** How the content is cut into pieces. */
export function geometryOf(info: Info): Geometry {
  return new Geometry(info.totalLength, info.pieceLength);
}

/** Whether every piece can be checked as it comes. */
export function hasPieceHashes(info: Info): boolean {
  return info.pieceHashes !== null || geometryOf(info).pieces === 1;
}

/** The hash that the piece must have; hasPieceHashes must hold. */
export function pieceHash(info: Info, piece: number): Hash {
  return info.pieceHashes === null ? parseHash(info.fullHash) : (info.pieceHashes[piece] as Hash);
}

/**
 * Parses and validates an info dictionary: JSON by the rules of strict.ts. Every failure is
 * a ContentError; where several things are wrong, it is the first of: the size, the form
 * of the text, each field in the order of Info (missing or of the wrong type), and then
 * what validateInfo checks.
 */
export function parseInfo(text: string): Info {
  const size = utf8Length(text);
  if (size > MaxDictionarySize) {
    throw new ContentError("dictionary_too_big", `an info dictionary has at most ${MaxDictionarySize} bytes, not ${size}`);
  }
  const fields = parseObject(text);
  if (fields === null) throw new ContentError("bad_dictionary", "an info dictionary is a JSON object");
  const info = readInfo(fields);
  validateInfo(info);
  // The hash of a single piece says nothing that full_hash does not say.
  return geometryOf(info).pieces === 1 ? { ...info, pieceHashes: null } : info;
}

/** Reads each field for itself. */
function readInfo(fields: object): Info {
  /** Reads a field; `to` gives null for a value that it cannot be. A field without a default is required. */
  function read<T>(name: string, code: ContentCode, to: (value: unknown) => T | null, missing?: T): T {
    if (!Object.hasOwn(fields, name)) {
      if (missing === undefined) throw new ContentError(code, `the info dictionary has no ${name}`);
      return missing;
    }
    const value = to((fields as Record<string, unknown>)[name]);
    if (value === null) throw new ContentError(code, `the info dictionary's ${name} is malformed`);
    return value;
  }
  const fullHash = read("full_hash", "bad_full_hash", toFullHash);
  const fileName = read("file_name", "bad_file_name", toText, "");
  const contentType = read("content_type", "bad_content_type", toText, "");
  const totalLength = read("total_length", "bad_total_length", asInteger);
  const pieceLength = read("piece_length", "bad_piece_length", asInteger, DefaultPieceLength(totalLength));
  const pieceHashes = read("piece_hashes", "bad_piece_hash", toHashes, []);
  // An empty list says no more than none.
  return { fullHash, fileName, contentType, totalLength, pieceLength, pieceHashes: pieceHashes.length > 0 ? pieceHashes : null };
}

function toText(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function toFullHash(value: unknown): FullHash | null {
  return typeof value === "string" && isHash(value) ? (value as FullHash) : null;
}

function toHashes(value: unknown): Hash[] | null {
  const right = Array.isArray(value) && value.every((text) => typeof text === "string" && isHash(text));
  return right ? value.map(parseHash) : null;
}

/**
 * Checks every field, and that the piece hashes, where they are present, hash up
 * to the full hash. Every failure is a ContentError.
 */
export function validateInfo(info: Info): void {
  if (info.fileName !== "" && !plainFileName(info.fileName)) {
    throw new ContentError("bad_file_name", `file_name must be a plain file name of at most ${maxFileName} bytes`);
  }
  if (info.contentType !== "" && !isMediaType(info.contentType)) {
    throw new ContentError("bad_content_type", "content_type must be a media type such as image/png");
  }
  const geometry = geometryOf(info);
  geometry.check();
  if (info.pieceHashes === null) return;
  if (info.pieceHashes.length !== geometry.pieces) {
    throw new ContentError(
      "wrong_piece_count",
      `${info.pieceHashes.length} piece_hashes, but ${info.totalLength} bytes in pieces of ${info.pieceLength} are ${geometry.pieces} pieces`,
    );
  }
  if (geometry.root(info.pieceHashes) !== info.fullHash) {
    throw new ContentError("contradiction", "the piece_hashes do not hash up to full_hash");
  }
}

// type "/" subtype with optional parameters, all printable ASCII (RFC 9110, 8.3.1).
const mediaType = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+\/[A-Za-z0-9!#$%&'*+.^_`|~-]+( *;[ -~]*)?$/;

/** Whether the text is a media type that an info dictionary may have. */
export function isMediaType(text: string): boolean {
  return text.length <= maxContentType && mediaType.test(text);
}

/**
 * Whether the name can be created in a folder without leaving it, on any common
 * system: no separators, no control characters, no "." or "..".
 */
function plainFileName(name: string): boolean {
  return utf8Length(name) <= maxFileName && name !== "." && name !== ".." && !/[/\\\p{Cc}]/u.test(name);
}

/** The dictionary as an object that JSON.stringify writes in the order of the specification. */
export function toDictionary(info: Info): InfoDictionary {
  return {
    full_hash: info.fullHash,
    file_name: info.fileName,
    content_type: info.contentType,
    total_length: info.totalLength,
    piece_length: info.pieceLength,
    ...(info.pieceHashes !== null && { piece_hashes: info.pieceHashes.map(toHex) }),
  };
}

/** The dictionary as indented JSON, ending in a newline: what a person copies and a program reads. */
export function encodeInfo(info: Info): string {
  return `${JSON.stringify(toDictionary(info), null, 2)}\n`;
}
