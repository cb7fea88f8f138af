/** Both pages side by side: each in a frame of its own, so each is a peer of its own. */

import { element, settle } from "./dom.ts";

/** Shows a page in its frame, as high as its content is, and tells when it is there. */
function show(frame: HTMLIFrameElement, page: string, loaded: (document: Document) => void): void {
  frame.addEventListener("load", () => {
    const inside = frame.contentDocument;
    if (inside === null) return;
    new ResizeObserver(() => {
      frame.style.height = `${inside.body.offsetHeight}px`;
    }).observe(inside.body);
    loaded(inside);
  });
  frame.src = page + location.search; // a mediator that the address names is for both
}

settle();

let seeder: Document | undefined;
let leecher: Document | undefined;

/** Lays the link that the left page offers ready on the right, unless something is there already. */
function handOver(): void {
  const link = seeder?.querySelector<HTMLAnchorElement>("#share-link");
  const field = leecher?.querySelector<HTMLTextAreaElement>("textarea#info-dictionary");
  const state = leecher?.querySelector<HTMLElement>("#status")?.dataset["state"];
  if (link?.href && field && state === "idle") field.value = link.href;
}

show(element("seeder", HTMLIFrameElement), "seeder_preview.html", (inside) => {
  seeder = inside;
  const link = inside.querySelector("#share-link");
  if (link !== null) new MutationObserver(handOver).observe(link, { attributes: true, attributeFilter: ["href"] });
});
show(element("leecher", HTMLIFrameElement), "leecher_preview.html", (inside) => {
  leecher = inside;
  handOver();
});
