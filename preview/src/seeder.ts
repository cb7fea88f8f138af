/** The page that shares a file: choose it → it is hashed → its link can be passed on. */

import { Client, type Content, type InfoDictionary } from "../../peer/browser/src/index.ts";
import { copyButton, element, namedMediators, setText, settle } from "./dom.ts";
import { explain } from "./explain.ts";
import * as format from "./format.ts";
import { MediatorLine } from "./mediatorline.ts";
import { connected, PeerList } from "./peers.ts";
import { Status } from "./status.ts";

/** How often the figures are brought up to date where no event does it, in ms. */
const tick = 1000;

settle();

const drop = element("drop", HTMLDivElement);
const input = element("file-input", HTMLInputElement);
const chooseLabel = element("choose", HTMLLabelElement);
const hashing = element("progress", HTMLProgressElement);
const shared = element("shared", HTMLElement);
const link = element("share-link", HTMLAnchorElement);
const dictionary = element("info-dictionary", HTMLTextAreaElement);
const saveDictionary = element("save-dictionary", HTMLAnchorElement);
const peerList = new PeerList(element("peer-list", HTMLUListElement), "sent");
const status = new Status();

const mediators = namedMediators();
const client = new Client(mediators === undefined ? {} : { mediators });
const mediator = new MediatorLine(client, () => render());

/** The content that the page shows: the one that was chosen last. */
let content: Content | null = null;
/** What could not even begin, or null. */
let refused: unknown = null;

/** Shares the file in place of the one before. */
function share(file: File): void {
  content?.stop();
  content = null;
  refused = null;
  shared.hidden = true;
  link.removeAttribute("href");
  dictionary.value = "";
  try {
    const chosen = client.seed(file);
    content = chosen;
    const update = (): void => {
      if (content === chosen) render();
    };
    for (const event of ["state", "progress", "peers", "error"] as const) chosen.on(event, update);
    chosen.ready.then((info) => {
      if (content === chosen) offer(chosen, info);
    }, update);
    chosen.done.catch(update); // told by the state, too
  } catch (error) {
    refused = error;
  }
  render();
}

/** Shows the link and the dictionary: they are known as soon as the file is hashed. */
function offer(chosen: Content, info: InfoDictionary): void {
  setText(element("shared-title", HTMLHeadingElement), chosen.name || "A file without a name");
  setText(
    element("shared-meta", HTMLParagraphElement),
    [format.bytes(info.total_length), info.content_type, format.counted(chosen.progress.pieces, "piece", "pieces")].filter(Boolean).join(" · "),
  );

  const address = new URL("leecher_preview.html", location.href);
  address.search = location.search;
  address.hash = chosen.fragment() ?? "";
  link.href = address.href;
  setText(link, address.href);
  element("local-hint", HTMLParagraphElement).hidden = !/^(localhost|127\.|\[::1\])/.test(location.hostname);

  dictionary.value = JSON.stringify(info, null, 2);
  URL.revokeObjectURL(saveDictionary.href);
  saveDictionary.href = URL.createObjectURL(new Blob([dictionary.value, "\n"], { type: "application/octet-stream" }));
  saveDictionary.download = `${chosen.name || "file"}.p2pcdn.json`;
  shared.hidden = false;
  render();
}

/** Brings the page in line with the content. */
function render(): void {
  renderStatus();
  drop.classList.toggle("small", content !== null);
  setText(chooseLabel, content === null ? "Choose a file" : "Choose another file");
  hashing.hidden = content?.state !== "hashing";
  if (content === null) return;
  const { progress, peers } = content;
  hashing.value = progress.total === 0 ? 0 : progress.bytes / progress.total;
  setText(element("peers", HTMLElement), String(connected(peers)));
  setText(element("sent", HTMLElement), format.bytes(progress.sent));
  setText(element("speed", HTMLElement), format.speed(progress.sendSpeed));
  peerList.show(peers, performance.now());
}

function renderStatus(): void {
  if (refused !== null || content?.state === "failed") {
    const { title, advice } = explain(refused ?? content?.error);
    return status.show("failed", title, advice);
  }
  const trouble = mediator.trouble;
  switch (content?.state) {
    case undefined:
    case "idle":
      if (trouble !== null) return status.show("idle", trouble, mediator.advice, true);
      return status.show("idle", "Ready", "Nothing is uploaded to a server: the file goes straight to whoever opens the link.");
    case "hashing":
      return status.show("hashing", "Reading the file", "Its link is made from its content.");
    case "seeding":
      if (trouble !== null) return status.show("seeding", trouble, `Until then nobody new can find this file. ${mediator.advice}`, true);
      return status.show("seeding", "Sharing", "Send the link to somebody, and keep this page open until they have the file.");
    default:
      if (trouble !== null) return status.show("connecting", trouble, mediator.advice, true);
      return status.show("connecting", "Telling the mediator", "In a moment others can find this file.");
  }
}

input.addEventListener("change", () => {
  const file = input.files?.[0];
  if (file !== undefined) share(file);
  input.value = ""; // so that the same file can be chosen again
});

// A file that misses the box must not replace the page, so the whole page takes it.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const file = event.dataTransfer?.files[0];
  if (file !== undefined) share(file);
});
document.addEventListener("paste", (event) => {
  const file = event.clipboardData?.files[0];
  if (file !== undefined) share(file);
});

copyButton(element("copy-link", HTMLButtonElement), () => link.href);
copyButton(element("copy-dictionary", HTMLButtonElement), () => dictionary.value);
// Nothing tells that a transfer has come to rest: the speed falls by itself.
setInterval(render, tick);
window.addEventListener("pagehide", () => client.close());
render();
