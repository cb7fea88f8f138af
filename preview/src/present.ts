/**
 * Shows what was fetched, safely: it may come from anybody. Nothing of it ever
 * runs as a document of this page's origin: pictures stand in <img>, films and
 * sound in <video> and <audio>, text is set as text, all else is only saved.
 */

import { make } from "./dom.ts";
import * as format from "./format.ts";

/** Bytes of a text that are shown; the whole of it is saved. */
const shownText = 256 * 1024;

/** Bytes of an SVG picture that is shown: it goes into the page's address of it, as base64. */
const shownSVG = 2 * 1024 * 1024;

/** How a content of this media type is shown. Text is told by its bytes, not by its type. */
export function kindOf(type: string): "image" | "svg" | "video" | "audio" | "other" {
  const essence = essenceOf(type);
  if (essence === "image/svg+xml") return "svg";
  for (const kind of ["image", "video", "audio"] as const) {
    if (essence.startsWith(`${kind}/`)) return kind;
  }
  return "other";
}

function essenceOf(type: string): string {
  return (type.split(";", 1)[0] ?? "").trim().toLowerCase();
}

/** The text, where the bytes are one: UTF-8 (cut off anywhere) without control characters but white space. */
export function textOf(bytes: Uint8Array): string | null {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: true });
    return /[\x00-\x08\x0e-\x1a\x1c-\x1f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

/** A shown content; `clear` takes it away and frees what it held. */
export interface Shown {
  readonly node: HTMLElement | null;
  clear(): void;
}

/** Makes what shows the content: null where it can only be saved. */
export async function present(content: Blob, type: string, name: string): Promise<Shown> {
  const kind = kindOf(type);
  if (kind === "other") return { node: await textNode(content), clear() {} };
  if (kind === "svg") return { node: content.size > shownSVG ? null : image(await dataURL(content), name), clear() {} };

  // The type is the bare media type that was checked just now: the address of this blob, opened on its own, is a picture, a film or a sound.
  const url = URL.createObjectURL(content.slice(0, content.size, essenceOf(type)));
  const node = kind === "image" ? image(url, name) : player(kind, url, name);
  return { node, clear: () => URL.revokeObjectURL(url) };
}

function image(url: string, name: string): HTMLElement {
  const node = make("img");
  node.alt = name === "" ? "The picture that was fetched" : name;
  return guarded(node, url);
}

function player(kind: "video" | "audio", url: string, name: string): HTMLElement {
  const node = make(kind);
  node.controls = true;
  node.setAttribute("aria-label", name === "" ? "What was fetched" : name);
  return guarded(node, url);
}

/** Says so where the browser cannot show it. */
function guarded(node: HTMLImageElement | HTMLMediaElement, url: string): HTMLElement {
  node.addEventListener("error", () => node.replaceWith(note("This browser cannot show this file. Save it, and open it with a program that can.")));
  node.src = url;
  return node;
}

/**
 * An SVG picture goes into a data: address, which has no origin: a blob: address
 * of it, opened in a tab of its own, would be a document of this page's origin.
 */
async function dataURL(content: Blob): Promise<string> {
  const bytes = new Uint8Array(await content.arrayBuffer());
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return `data:image/svg+xml;base64,${btoa(binary)}`;
}

async function textNode(content: Blob): Promise<HTMLElement | null> {
  const text = textOf(new Uint8Array(await content.slice(0, shownText).arrayBuffer()));
  if (text === null || text === "") return null;
  const box = make("div");
  const pre = make("pre", text);
  pre.tabIndex = 0; // it scrolls, so the keyboard must reach it
  box.append(pre);
  if (content.size > shownText) box.append(note(`This is the beginning, ${format.bytes(shownText)}. Save the file to see all of it.`));
  return box;
}

function note(text: string): HTMLElement {
  const node = make("p", text);
  node.className = "hint";
  return node;
}
