import { fromUTF8, utf8, utf8Length } from "../bytes.ts";
import { ContentError } from "./error.ts";
import { type FullHash, isHash, parseFullHash } from "./hash.ts";
import { type Info, validateInfo } from "./info.ts";
import { asInteger } from "../strict.ts";
import { DefaultPieceLength } from "./tree.ts";

/** The URI scheme of a link. */
export const Scheme = "p2pcdn";

const maxMediators = 16; // m= parameters; more is a list, not a hint
const maxMediatorURL = 255; // bytes; a long host name, a port and a path
const maxLink = 16 << 10; // bytes; the longest link fits, with every byte of it escaped

/**
 * Names a content in one line of text:
 *
 *     p2pcdn:<full_hash>?xl=<total length>&dn=<file name>&ct=<content type>&pl=<piece length>&m=<mediator URL>…
 *
 * On a page the same text stands after #, without the scheme. xl is required, all
 * else is optional.
 *
 * The parameters are read by the rules of RFC 3986 and of decodeURIComponent, not by
 * those of HTML forms: they are separated by &, name and value by the first =, both with
 * percent escapes that give UTF-8; + is a plus sign and ; a semicolon. Unknown parameters
 * and empty ones (&&) are ignored. Each but m stands at most once. Lengths are decimal
 * digits alone. pl is left out where it is DefaultPieceLength.
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

/** The link to the content, by way of the mediators: of the first 16, since a link holds no more. */
export function linkTo(info: Info, mediators: readonly string[] = []): Link {
  const { fullHash, totalLength, fileName, contentType, pieceLength } = info;
  return { fullHash, totalLength, fileName, contentType, pieceLength, mediators: mediators.slice(0, maxMediators) };
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

const spaceAround = /^[ \t\r\n]+|[ \t\r\n]+$/g;

/**
 * Parses a link: with its scheme (in lower case), without it, or as a whole URL that has
 * it as its fragment, behind the first #. Spaces, tabs and line ends around it are dropped.
 * Every failure is a ContentError; where several things are wrong, it is the first of:
 * the size and the encoding of the text, its form, the full hash, the form of the
 * parameters, xl, pl, each m, and then what validateInfo checks.
 */
export function parseLink(source: string): Link {
  let text = source.replace(spaceAround, "");
  if (utf8Length(text) > maxLink || /\p{Surrogate}/u.test(text)) {
    throw new ContentError("bad_link", `a link is text of at most ${maxLink} bytes`);
  }
  text = text.slice(text.indexOf("#") + 1);
  if (text.startsWith(`${Scheme}:`)) text = text.slice(Scheme.length + 1);
  const [hash, query] = cut(text, "?");
  if (query === undefined && !isHash(hash)) {
    throw new ContentError("bad_link", `a link has the form ${Scheme}:<full hash>?xl=<total length>&dn=<file name>`);
  }
  const fullHash = parseFullHash(hash);
  const link = readLink(fullHash, parseParameters(query ?? ""));
  validateInfo(infoOfLink(link));
  return link;
}

/** The text before the first separator, and what is behind it; undefined where there is none. */
function cut(text: string, separator: string): [before: string, behind?: string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}

/** The parameters of a link, by name. */
type Parameters = ReadonlyMap<string, readonly string[]>;

function parseParameters(query: string): Parameters {
  const found = new Map<string, string[]>();
  for (const part of query.split("&")) {
    if (part === "") continue;
    const [before, behind] = cut(part, "=");
    const name = unescape(before);
    found.set(name, [...(found.get(name) ?? []), unescape(behind ?? "")]);
  }
  for (const name of ["xl", "dn", "ct", "pl"]) {
    if ((found.get(name)?.length ?? 0) > 1) throw new ContentError("bad_link", `the link says ${name} more than once`);
  }
  if ((found.get("m")?.length ?? 0) > maxMediators) {
    throw new ContentError("bad_link", `a link names at most ${maxMediators} mediators`);
  }
  return found;
}

function unescape(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new ContentError("bad_link", "the link's parameters hold a malformed percent escape");
  }
}

/** Reads the known parameters; it leaves what validateInfo checks. */
function readLink(fullHash: FullHash, parameters: Parameters): Link {
  const get = (name: string): string | undefined => parameters.get(name)?.[0];
  const xl = get("xl");
  if (xl === undefined) {
    const why = "the link has no xl=<total length>, and content of unknown length is never accepted";
    throw new ContentError("link_without_length", why);
  }
  const totalLength = parseLength(xl);
  if (totalLength === null) throw new ContentError("bad_total_length", "xl must be a number of bytes");
  const pl = get("pl");
  const pieceLength = pl === undefined ? DefaultPieceLength(totalLength) : parseLength(pl);
  if (pieceLength === null) throw new ContentError("bad_piece_length", "pl must be a number of bytes");
  const mediators = parameters.get("m") ?? [];
  mediators.forEach(checkMediatorURL);
  return { fullHash, totalLength, fileName: get("dn") ?? "", contentType: get("ct") ?? "", pieceLength, mediators };
}

// The form of a mediator's URL, in the characters of RFC 3986: scheme, host (a name, or
// an IPv6 address in brackets), port, path and query. A pattern, and not a URL parser,
// because no two of those agree on what they let pass.
const mediatorURL =
  /^wss?:\/\/([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:([0-9]{1,5}))?([/?]([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$/;

/**
 * Checks that the text has the form of a mediator's WebSocket URL: ws:// or wss:// in
 * lower case, a host in ASCII, perhaps a port (1 to 65535), path and query; no user, no
 * fragment; at most 255 bytes. Whether anything is there shows when it is dialled. Throws
 * a ContentError "bad_mediator_url".
 */
export function checkMediatorURL(text: string): void {
  const parts = mediatorURL.exec(text);
  const port = Number(parts?.[3] ?? 1);
  if (parts === null || text.length > maxMediatorURL || port < 1 || port > 65535) {
    throw new ContentError(
      "bad_mediator_url",
      `a mediator's URL has the form ws://host:port/mediation or wss://…, not ${JSON.stringify(text.slice(0, 100))}`,
    );
  }
}

/** Decimal digits alone: no sign, no spaces, at most what a JavaScript number holds exactly. */
function parseLength(text: string): number | null {
  return /^[0-9]+$/.test(text) ? asInteger(Number(text)) : null;
}
