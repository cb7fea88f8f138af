/** Small helpers for bytes and text, used by every room. */

/** Bytes that WebCrypto, data channels and Blobs all take: never over shared memory. */
export type Bytes = Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();

/** The text as UTF-8; lone surrogates become U+FFFD. */
export function utf8(text: string): Bytes {
  return encoder.encode(text) as Bytes;
}

/** The length of the text as UTF-8, in bytes. */
export function utf8Length(text: string): number {
  return encoder.encode(text).length;
}

/** The bytes as text, or null where they are no UTF-8. A byte order mark is kept. */
export function fromUTF8(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

const hexDigits = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, "0"));

/** The bytes as lower-case hex digits. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (const value of bytes) text += hexDigits[value];
  return text;
}

/** Exactly `size` bytes from lower-case hex digits; null for any other text. */
export function fromHex(text: string, size: number): Bytes | null {
  if (text.length !== 2 * size || !/^[0-9a-f]*$/.test(text)) return null;
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** Whether both hold the same bytes. */
export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
