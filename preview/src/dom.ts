/** What the pages share: finding elements, saying where a mediator is, copying. */

import type { ClientOptions } from "../../peer/browser/src/index.ts";

/** The element with this id; the pages' HTML promises that it is there. */
export function element<T extends Element>(id: string, kind: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`this page has no ${kind.name} with the id ${id}`);
  return found;
}

/** Sets the text where it changed: a screen reader reads out every change. */
export function setText(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** A new element with a text of its own. */
export function make<K extends keyof HTMLElementTagNameMap>(tag: K, text = ""): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

/**
 * The mediators that the page's address names, `?mediator=<WebSocket URL>`,
 * repeatable; undefined where it names none, which leaves the choice to the client.
 */
export function namedMediators(): readonly string[] | undefined {
  const named = new URLSearchParams(location.search).getAll("mediator");
  return named.length > 0 ? named : undefined;
}

/** Where the page's address says that downloads are kept, `?storage=memory` or `?storage=disk`: by default the client decides. */
export function namedStorage(): Pick<ClientOptions, "storage"> {
  const named = new URLSearchParams(location.search).get("storage");
  return named === "memory" || named === "disk" ? { storage: named } : {};
}

/**
 * What every page does first: links between the pages keep the mediator that the
 * address names, a page in a frame of the index shows less around itself, and a
 * page that comes back from the browser's memory begins anew: its connections
 * were closed when it was left.
 */
export function settle(): void {
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
  for (const link of document.querySelectorAll<HTMLAnchorElement>("a[data-keep]")) link.search = location.search;
  if (window.parent !== window) document.documentElement.classList.add("framed");
}

/**
 * A button that copies a text and says so. The clipboard is there in secure
 * contexts only; elsewhere the text is shown selected, to be copied by hand.
 */
export function copyButton(button: HTMLButtonElement, text: () => string): void {
  const label = button.textContent ?? "";
  let reset: ReturnType<typeof setTimeout> | undefined;
  button.addEventListener("click", () => {
    void copy(text()).then((copied) => {
      button.textContent = copied ? "Copied" : "Press Ctrl+C";
      clearTimeout(reset);
      reset = setTimeout(() => (button.textContent = label), 2500);
    });
  });
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Not a secure context, or not allowed: the old way.
  }
  const field = make("textarea");
  field.value = text;
  field.className = "visually-hidden";
  field.readOnly = true;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  return copied;
}
