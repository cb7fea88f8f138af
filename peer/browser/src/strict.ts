/**
 * Reads JSON from strangers so that every implementation takes the same texts and
 * understands the same by them, as Go's common/strict, whose comment has the rules. What
 * JSON.parse lets pass and the rules do not: lone surrogates, and deep nesting.
 */

import { utf8Length } from "./bytes.ts";

/** How deep objects and lists may be nested, the outermost one counted. */
export const MaxDepth = 32;

/** Parses a whole text to its object; null where the text does not follow the rules. */
export function parseObject(text: string): object | null {
  if (/\p{Surrogate}/u.test(text) || !wellFormed(text)) return null;
  try {
    return asObject(JSON.parse(text));
  } catch {
    return null;
  }
}

/** The value where it is an object, and no list. */
export function asObject(value: unknown): object | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
}

/** The value where it is an integer that a double tells apart from its neighbours; -0 is 0. */
export function asInteger(value: unknown): number | null {
  return Number.isSafeInteger(value) ? (value as number) + 0 : null;
}

/** Cuts a text for people to at most limit bytes of UTF-8, so that a reader with that limit takes it. */
export function clip(text: string, limit: number): string {
  const characters = [...text].slice(0, limit);
  while (utf8Length(characters.join("")) > limit) characters.pop();
  return characters.join("");
}

/** Checks the depth and the escaped surrogates of a text that is otherwise left to JSON.parse. */
function wellFormed(text: string): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      inString = !inString;
    } else if (inString && c === "\\") {
      const length = escapeLength(text, i);
      if (length === 0) return false;
      i += length - 1;
    } else if (!inString && (c === "{" || c === "[")) {
      if (++depth > MaxDepth) return false;
    } else if (!inString && (c === "}" || c === "]")) {
      depth--;
    }
  }
  return true;
}

/**
 * How many characters of the escape at that place are passed over: the pair of
 * surrogates, or else the backslash and what it escapes; 0 for a lone surrogate.
 */
function escapeLength(text: string, at: number): number {
  const first = unit(text, at);
  if (first < 0xd800 || first > 0xdfff) return 2;
  const second = unit(text, at + 6);
  return first < 0xdc00 && second >= 0xdc00 && second <= 0xdfff ? 12 : 0;
}

/** The UTF-16 code unit of the escape \uXXXX at that place, or -1. */
function unit(text: string, at: number): number {
  const escape = /^\\u([0-9a-fA-F]{4})$/.exec(text.slice(at, at + 6));
  return escape === null ? -1 : Number.parseInt(escape[1] as string, 16);
}
