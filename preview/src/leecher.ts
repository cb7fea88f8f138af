/** The page that fetches a file: paste or follow a link → it is found, downloaded, checked, shown and saved. */

import { Client, type Content } from "../../peer/browser/src/index.ts";
import { element, namedMediators, setText, settle } from "./dom.ts";
import { explain } from "./explain.ts";
import * as format from "./format.ts";
import { MediatorLine } from "./mediatorline.ts";
import { connected, showPeers } from "./peers.ts";
import { PieceMap } from "./piecemap.ts";
import { present, type Shown } from "./present.ts";
import { Status } from "./status.ts";
import { drawTimeline } from "./timeline.ts";

/** How often the running bar of the timeline grows, in ms: often enough to look alive. */
const tick = 200;

settle();

const field = element("info-dictionary", HTMLTextAreaElement);
const transfer = element("transfer", HTMLElement);
const progressBar = element("progress", HTMLProgressElement);
const result = element("result", HTMLDivElement);
const saveRow = element("save-row", HTMLParagraphElement);
const save = element("save", HTMLAnchorElement);
const timeline = element("timeline", HTMLTableElement);
const pieces = new PieceMap(element("pieces", HTMLCanvasElement));
const status = new Status();

const mediators = namedMediators();
const client = new Client(mediators === undefined ? {} : { mediators });
const mediator = new MediatorLine(client, () => render());

/** The content that the page shows. */
let content: Content | null = null;
/** What could not even begin, or null. */
let refused: unknown = null;
/** What shows the complete content, or null. */
let shown: Shown | null = null;
let ticking: ReturnType<typeof setInterval> | undefined;

/** Fetches what the text names, a link or an info dictionary, in place of what was fetched before. */
function fetchFile(text: string): void {
  clear();
  try {
    const wanted = client.get(text);
    content = wanted;
    const update = (): void => {
      if (content === wanted) render();
    };
    for (const event of ["state", "progress", "peers", "phase", "error"] as const) wanted.on(event, update);
    wanted.done.then((blob) => {
      if (content === wanted) void finish(wanted, blob);
    }, update);
    // So that the address can be passed on, and a reload goes on with it.
    history.replaceState(null, "", `#${wanted.fragment() ?? ""}`);
    ticking = setInterval(update, tick);
  } catch (error) {
    refused = error;
  }
  render();
}

/** Leaves what was fetched, and frees what it held. */
function clear(): void {
  clearInterval(ticking);
  content?.stop();
  content = null;
  refused = null;
  shown?.clear();
  shown = null;
  result.replaceChildren();
  result.hidden = true;
  saveRow.hidden = true;
  URL.revokeObjectURL(save.href);
  save.removeAttribute("href");
}

/** Offers the complete content for saving, and shows it where that can be done safely. */
async function finish(wanted: Content, blob: Blob): Promise<void> {
  clearInterval(ticking);
  // Saved, never opened: whatever the content is, this type is no document.
  save.href = URL.createObjectURL(blob.slice(0, blob.size, "application/octet-stream"));
  save.download = wanted.name || "download";
  setText(save, `Save ${wanted.name || "the file"}`);
  saveRow.hidden = false;
  render();
  const made = await present(blob, wanted.info?.content_type ?? "", wanted.name);
  if (content !== wanted) return made.clear();
  shown = made;
  result.replaceChildren(...(made.node === null ? [] : [made.node]));
  result.hidden = made.node === null;
}

/** Brings the page in line with the content. */
function render(): void {
  renderStatus();
  transfer.hidden = content === null;
  if (content === null) return;
  const { progress, peers, info } = content;
  setText(element("file-title", HTMLHeadingElement), content.name || "A file without a name");
  setText(
    element("file-meta", HTMLParagraphElement),
    [format.bytes(progress.total), info?.content_type ?? "", progress.pieces === 0 ? "" : format.counted(progress.pieces, "piece", "pieces")].filter(Boolean).join(" · "),
  );
  const complete = content.state === "complete";
  progressBar.value = complete ? 1 : progress.total === 0 ? 0 : progress.bytes / progress.total;
  pieces.show(progress);
  setText(element("received", HTMLElement), format.bytes(progress.bytes));
  setText(element("speed", HTMLElement), format.speed(complete ? averageSpeed(content) : progress.receiveSpeed));
  setText(element("speed-label", HTMLElement), complete ? "Average speed" : "Speed");
  setText(element("left-label", HTMLElement), complete ? "Took" : "Time left");
  setText(element("left", HTMLElement), complete ? took(content) : timeLeft(content));
  element("legend", HTMLUListElement).hidden = complete;
  setText(element("peers", HTMLElement), String(connected(peers)));
  showPeers(element("peer-list", HTMLUListElement), peers, "received");
  drawTimeline(timeline.tBodies[0] ?? timeline.createTBody(), content.timeline, performance.now());
}

/** Bytes per second, from the first connection to the last piece. */
function averageSpeed({ progress, timeline }: Content): number {
  const { channel_open: from, complete: to } = timeline;
  return from === undefined || to === undefined ? 0 : (1000 * progress.total) / Math.max(1, to - from);
}

function took({ timeline: { started, complete } }: Content): string {
  return started === undefined || complete === undefined ? "–" : format.duration(complete - started);
}

function timeLeft({ progress }: Content): string {
  if (progress.receiveSpeed < 1) return "–";
  return format.duration((1000 * (progress.total - progress.bytes)) / progress.receiveSpeed);
}

function renderStatus(): void {
  if (refused !== null || content?.state === "failed") {
    const { title, advice } = explain(refused ?? content?.error);
    return status.show("failed", title, advice);
  }
  const trouble = mediator.trouble;
  const people = format.counted(connected(content?.peers ?? []), "person", "people");
  switch (content?.state) {
    case "searching":
      if (trouble !== null) return status.show("searching", trouble, mediator.advice, true);
      return status.show("searching", "Looking for somebody who has it", "If nobody has it right now, this goes on as soon as somebody does.");
    case "connecting":
      return status.show("connecting", "Found somebody", "Connecting to them directly…");
    case "downloading":
      return status.show("downloading", "Downloading", `From ${people}, every piece checked as it comes.`);
    case "complete":
      return status.show("complete", "Complete", "Every piece was checked. While this page is open, you pass the file on to others.");
    default:
      if (trouble !== null) return status.show("idle", trouble, mediator.advice, true);
      return status.show("idle", "Ready", "Paste a link above, then press Fetch.");
  }
}

element("form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  fetchFile(field.value);
});
// Enter fetches, as in a line of text; a dictionary is pasted, not typed.
field.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  fetchFile(field.value);
});

/** Follows the link in the page's own address, if there is one. */
function follow(): void {
  if (location.hash.length <= 1) return;
  field.value = `p2pcdn:${location.hash.slice(1)}`;
  fetchFile(field.value);
}

window.addEventListener("hashchange", follow);
window.addEventListener("pagehide", () => client.close());
render();
follow();
