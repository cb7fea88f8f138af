import { fromUTF8, utf8, utf8Length } from "../bytes.ts";
import { ContentError } from "./error.ts";
import { type FullHash, parseFullHash } from "./hash.ts";
import { type Info, validateInfo } from "./info.ts";
import { DefaultPieceLength } from "./tree.ts";

/** The URI scheme of a link. */
export const Scheme = "p2pcdn";

const maxLink = 8 << 10; // bytes; what browsers and chat programs still carry
const maxMediators = 16; // m= parameters; more is a list, not a hint

/**
 * Names a content in one line of text:
 *
 *     p2pcdn:<full_hash>?xl=<total length>&dn=<file name>&ct=<content type>&pl=<piece length>&m=<mediator URL>…
 *
 * On a page the same text stands after #, without the scheme. xl is required, all
 * else is optional; unknown parameters are ignored. pl is left out where it is
 * DefaultPieceLength.
 */
export interface Link {
  readonly fullHash: FullHash;
  /** Bytes. */
  readonly totalLength: number;
  /** May be "". */
  readonly fileName: string;
  /** May be "". */
  readonly contentType: string;
  /** Bytes; parseLink fills in the default. */
  readonly pieceLength: number;
  /** WebSocket URLs. */
  readonly mediators: readonly string[];
}

/** The link to the content, by way of the mediators. */
export function linkTo(info: Info, mediators: readonly string[] = []): Link {
  const { fullHash, totalLength, fileName, contentType, pieceLength } = info;
  return { fullHash, totalLength, fileName, contentType, pieceLength, mediators };
}

/** What the link says, as a dictionary without piece hashes. */
export function infoOfLink(link: Link): Info {
  const { fullHash, totalLength, fileName, contentType, pieceLength } = link;
  return { fullHash, totalLength, fileName, contentType, pieceLength, pieceHashes: null };
}

/** Prints the link with its scheme. Printing what was parsed from a printed link gives the same text. */
export function formatLink(link: Link): string {
  return `${Scheme}:${linkFragment(link)}`;
}

/** Prints the link without its scheme: what stands after # on a page. */
export function linkFragment(link: Link): string {
  let text = `${link.fullHash}?xl=${link.totalLength}`;
  const parameter = (name: string, value: string): void => {
    if (value !== "") text += `&${name}=${escape(value)}`;
  };
  parameter("dn", link.fileName);
  parameter("ct", link.contentType);
  if (link.pieceLength !== DefaultPieceLength(link.totalLength)) parameter("pl", String(link.pieceLength));
  for (const mediator of link.mediators) parameter("m", mediator);
  return text;
}

/** Escapes everything but the unreserved characters of RFC 3986, as the Go side does. */
function escape(value: string): string {
  return encodeURIComponent(fromUTF8(utf8(value)) ?? "").replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

const formOfLink = `a link has the form ${Scheme}:<full hash>?xl=<total length>&dn=<file name>`;
const withoutLength = "the link has no xl=<total length>, and content of unknown length is never accepted";

// What Unicode calls white space (the trim of JavaScript differs in two characters).
const spaceAround = /^[\s\u0085]+|[\s\u0085]+$/g;

/**
 * Parses a link: with its scheme, without it, or as a whole URL that has it as its
 * fragment. Every failure is a ContentError.
 */
export function parseLink(source: string): Link {
  let text = source.replace(spaceAround, "");
  const size = utf8Length(text);
  if (size > maxLink) throw new ContentError("bad_link", `a link has at most ${maxLink} bytes, not ${size}`);
  const fragment = text.indexOf("#");
  if (fragment >= 0) text = text.slice(fragment + 1);
  if (text.startsWith(`${Scheme}:`)) text = text.slice(Scheme.length + 1);
  const query = text.indexOf("?");
  if (query < 0) {
    if (!/^[0-9a-f]{64}$/.test(text)) throw new ContentError("bad_link", formOfLink);
    throw new ContentError("link_without_length", withoutLength);
  }
  const fullHash = parseFullHash(text.slice(0, query));
  const values = parseQuery(text.slice(query + 1));
  const first = (name: string): string | null | undefined => values.find(([key]) => key === name)?.[1];

  const xl = first("xl");
  if (xl === undefined) throw new ContentError("link_without_length", withoutLength);
  const totalLength = parseLength(xl);
  if (totalLength === null) throw new ContentError("bad_total_length", "xl must be a number of bytes");
  const fileName = first("dn") ?? (first("dn") === null ? "/" : ""); // "/": no file name either
  const contentType = first("ct") ?? (first("ct") === null ? "/" : "");
  const pl = first("pl");
  const pieceLength = pl === undefined ? DefaultPieceLength(totalLength) : parseLength(pl);
  if (pieceLength === null) throw new ContentError("bad_piece_length", "pl must be a number of bytes");
  const mediators = values.filter(([key]) => key === "m").map(([, value]) => value ?? "");
  if (mediators.length > maxMediators) {
    throw new ContentError("bad_link", `a link names at most ${maxMediators} mediators`);
  }
  mediators.forEach(checkMediatorURL);
  const link: Link = { fullHash, totalLength, fileName, contentType, pieceLength, mediators };
  validateInfo(infoOfLink(link));
  return link;
}

/**
 * Takes an application/x-www-form-urlencoded text apart, strictly: a broken escape
 * or a semicolon makes the link malformed. A value that is no UTF-8 is null.
 */
function parseQuery(query: string): [key: string | null, value: string | null][] {
  const values: [string | null, string | null][] = [];
  for (const part of query.split("&")) {
    if (part === "") continue;
    if (part.includes(";")) throw new ContentError("bad_link", "the link's parameters are malformed");
    const is = part.indexOf("=");
    values.push(is < 0 ? [unescape(part), ""] : [unescape(part.slice(0, is)), unescape(part.slice(is + 1))]);
  }
  return values;
}

function unescape(text: string): string | null {
  const bytes: number[] = [];
  const source = utf8(text);
  for (let i = 0; i < source.length; i++) {
    const c = source[i] as number;
    if (c === 0x25) {
      const hex = String.fromCharCode(source[i + 1] ?? 0, source[i + 2] ?? 0);
      if (!/^[0-9A-Fa-f]{2}$/.test(hex)) throw new ContentError("bad_link", "the link's parameters are malformed");
      bytes.push(Number.parseInt(hex, 16));
      i += 2;
    } else {
      bytes.push(c === 0x2b ? 0x20 : c);
    }
  }
  return fromUTF8(Uint8Array.from(bytes));
}

/**
 * Checks that the text is the WebSocket URL of a mediator: ws:// or wss:// with a
 * host, no user, no fragment. Throws a ContentError "bad_mediator_url".
 */
export function checkMediatorURL(text: string): void {
  const parts = /^wss?:\/\/([^/?#]+)([/?][^#]*)?#?$/i.exec(text);
  if (parts === null || parts[1]?.includes("@") || /[\u0000-\u001f\u007f]/.test(text) || !URL.canParse(text)) {
    throw new ContentError(
      "bad_mediator_url",
      `a mediator's URL has the form ws://host:port/mediation or wss://…, not ${JSON.stringify(text.slice(0, 200))}`,
    );
  }
}

/** Decimal digits alone: no sign, no spaces, at most what a JavaScript number holds exactly. */
function parseLength(text: string | null): number | null {
  if (text === null || !/^[0-9]+$/.test(text)) return null;
  const n = Number(text);
  return Number.isSafeInteger(n) ? n : null;
}
