/**
 * HTTP for one content that never changes: which part of it a request is about, and what
 * the response's head says (RFC 9110, sections 13 and 14). Pure.
 */

/** What a response is made of. */
export interface Resource {
  /** Bytes of the whole content. */
  readonly length: number;
  /** Its media type; "" where it has none. */
  readonly type: string;
  /** Its strong validator without quotes: the full hash. */
  readonly tag: string;
}

/** The bytes from begin to just before end. */
export interface Span {
  readonly begin: number;
  readonly end: number;
}

/** The head of a response, and which bytes follow it. */
export interface Head {
  readonly status: 200 | 206 | 405 | 416;
  readonly headers: Readonly<Record<string, string>>;
  /** null: no body. */
  readonly body: Span | null;
}

/** What is needed of a request. */
export interface Asked {
  readonly method: string;
  readonly headers: { get(name: string): string | null };
}

/**
 * The part that a Range header asks for, cut to the content's length. "whole" for none,
 * and for what a server may ignore: other units, several ranges, malformed ones.
 * "unsatisfiable" where the content has no byte of it.
 */
export function parseRange(header: string | null, length: number): Span | "whole" | "unsatisfiable" {
  const match = /^\s*bytes\s*=\s*(\d*)-(\d*)\s*$/i.exec(header ?? "");
  const [, first = "", last = ""] = match ?? [];
  if (first === "" && last === "") return "whole";
  if (first === "") {
    const suffix = Math.min(Number(last), length);
    return suffix === 0 ? "unsatisfiable" : { begin: length - suffix, end: length };
  }
  const begin = Number(first);
  if (last !== "" && Number(last) < begin) return "whole";
  if (begin >= length) return "unsatisfiable";
  return { begin, end: last === "" ? length : Math.min(Number(last) + 1, length) };
}

/** How a request for the content is answered. */
export function answer({ method, headers }: Asked, { length, type, tag }: Resource): Head {
  if (method !== "GET" && method !== "HEAD") {
    return { status: 405, headers: { Allow: "GET, HEAD", "Content-Length": "0" }, body: null };
  }
  const about = {
    "Accept-Ranges": "bytes",
    ETag: `"${tag}"`,
    // The page has the content already: a second copy in the browser's cache would be waste.
    "Cache-Control": "no-store",
    // It may come from anybody. Whatever it claims to be, it is never a document or a script of this origin.
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
  };
  const condition = headers.get("If-Range");
  const span = parseRange(condition === null || condition === `"${tag}"` ? headers.get("Range") : null, length);
  if (span === "unsatisfiable") {
    return { status: 416, headers: { ...about, "Content-Range": `bytes */${length}`, "Content-Length": "0" }, body: null };
  }
  const { begin, end } = span === "whole" ? { begin: 0, end: length } : span;
  return {
    status: span === "whole" ? 200 : 206,
    headers: {
      ...about,
      "Content-Type": type === "" ? "application/octet-stream" : type,
      "Content-Length": String(end - begin),
      ...(span !== "whole" && { "Content-Range": `bytes ${begin}-${end - 1}/${length}` }),
    },
    body: method === "HEAD" ? null : { begin, end },
  };
}
