/** The page that fetches a file: paste or follow a link → it is found, downloaded, checked, shown and saved. */

import { Client, type Content, endpointOf, registerStreaming, streamURL } from "../../peer/browser/src/index.ts";
import { element, make, namedMediators, namedStorage, setText, settle } from "./dom.ts";
import { explain } from "./explain.ts";
import * as format from "./format.ts";
import { MediatorLine } from "./mediatorline.ts";
import { connected, PeerList } from "./peers.ts";
import { PieceMap } from "./piecemap.ts";
import { kindOf, present, type Shown } from "./present.ts";
import { Status } from "./status.ts";
import { drawTimeline } from "./timeline.ts";
import { playsLater, Watch } from "./watch.ts";

/** How often the running bar of the timeline grows, in ms: often enough to look alive. */
const tick = 200;

/** When the address of a file that is being saved is given up, in ms. */
const revokeAfter = 60_000;

settle();

const field = element("info-dictionary", HTMLTextAreaElement);
const transfer = element("transfer", HTMLElement);
const progressBar = element("progress", HTMLProgressElement);
const result = element("result", HTMLDivElement);
const note = element("result-note", HTMLParagraphElement);
const remove = element("remove", HTMLButtonElement);
const save = element("save", HTMLAnchorElement);
const timeline = element("timeline", HTMLTableElement);
const timings = element("timings", HTMLButtonElement);
const pieces = new PieceMap(element("pieces", HTMLCanvasElement));
const peerList = new PeerList(element("peer-list", HTMLUListElement), "received");
const status = new Status();

const mediators = namedMediators();
const client = new Client({ ...(mediators !== undefined && { mediators }), ...namedStorage() });
const mediator = new MediatorLine(client, () => render());

/** The content that the page shows. */
let content: Content | null = null;
/** What could not even begin, or null. */
let refused: unknown = null;
/** What shows the complete content, or null. */
let shown: Shown | null = null;
/** The complete content, or null. */
let whole: Blob | null = null;
/** What plays the content while it comes, and afterwards, or null. */
let watch: Watch | null = null;
/** Pieces that were here already when the content began. */
let resumed = 0;
/** The content was taken away on the visitor's wish, and nothing else is fetched yet. */
let removed = false;
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
    const kind = kindOf(wanted.info?.content_type ?? "");
    if (kind === "video" || kind === "audio") void play(wanted, kind);
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
  unwatch();
  content?.stop();
  content = null;
  refused = null;
  resumed = 0;
  removed = false;
  whole = null;
  shown?.clear();
  shown = null;
  result.replaceChildren();
  result.hidden = true;
  note.hidden = true;
  save.hidden = true;
  URL.revokeObjectURL(save.href);
  save.removeAttribute("href");
}

/** Leaves what was fetched for good: nothing of it stays in this browser. */
function discard(): void {
  unwatch(); // it reads until then
  content?.discard();
  clear();
  removed = true;
  // Or a reload would fetch it again.
  history.replaceState(null, "", location.pathname + location.search);
  field.value = "";
  field.focus();
  render();
}

/** Plays a film or a sound as it comes, where the browser can. */
async function play(wanted: Content, kind: "video" | "audio"): Promise<void> {
  try {
    await registerStreaming("sw.js");
    if (content !== wanted || wanted.state === "failed") return;
    watch = new Watch(kind, streamURL(wanted), wanted.name, () => {
      // What stands in the way may be gone when all of it is here; present says so where it is not.
      unwatch();
      if (whole !== null) void show(wanted, whole);
      else if (wanted.state !== "failed") say("This does not play while it downloads. It is shown when all of it is here.");
    });
    result.replaceChildren(watch.node);
    result.hidden = false;
    watch.update(wanted.state);
  } catch (error) {
    if (content === wanted && wanted.state !== "complete") say(playsLater(kind, isSecureContext, (error as Error).message));
  }
}

function unwatch(): void {
  if (watch === null) return;
  watch.clear();
  watch = null;
  result.hidden = true;
}

/** Says something about what is shown, or is not. */
function say(text: string): void {
  setText(note, text);
  note.hidden = false;
}

/** Offers the complete content for saving, and shows it where that can be done safely. */
async function finish(wanted: Content, blob: Blob): Promise<void> {
  clearInterval(ticking);
  whole = blob;
  // Saved, never opened: whatever the content is, this type is no document.
  save.href = URL.createObjectURL(blob.slice(0, blob.size, "application/octet-stream"));
  save.download = wanted.name || "download";
  setText(save, `Save ${wanted.name || "the file"}`);
  save.hidden = false;
  render();
  if (watch === null) await show(wanted, blob);
}

/** Shows the complete content. */
async function show(wanted: Content, blob: Blob): Promise<void> {
  const made = await present(blob, wanted.info?.content_type ?? "", wanted.name);
  if (content !== wanted) return made.clear();
  shown = made;
  note.hidden = true;
  result.replaceChildren(...(made.node === null ? [] : [made.node]));
  result.hidden = made.node === null;
}

/** Brings the page in line with the content. */
function render(): void {
  renderStatus();
  transfer.hidden = content === null;
  if (content === null) return;
  const { progress, peers, info } = content;
  // What is verified and did not come from anybody was here before.
  if (resumed === 0 && progress.bytes > progress.received) resumed = progress.verified;
  watch?.update(content.state);
  setText(element("file-title", HTMLHeadingElement), content.name || "A file without a name");
  setText(
    element("file-meta", HTMLParagraphElement),
    [format.bytes(progress.total), info?.content_type ?? "", progress.pieces === 0 ? "" : format.counted(progress.pieces, "piece", "pieces")].filter(Boolean).join(" · "),
  );
  const complete = content.state === "complete";
  progressBar.value = complete ? 1 : progress.total === 0 ? 0 : progress.bytes / progress.total;
  pieces.show(progress);
  setText(remove, complete ? "Remove from this browser" : "Stop and remove");
  setText(element("received", HTMLElement), format.bytes(progress.bytes));
  setText(element("speed", HTMLElement), format.speed(complete ? averageSpeed(content) : progress.receiveSpeed));
  setText(element("speed-label", HTMLElement), complete ? "Average speed" : "Speed");
  setText(element("left-label", HTMLElement), complete ? "Took" : "Time left");
  setText(element("left", HTMLElement), complete ? took(content) : timeLeft(content));
  element("legend", HTMLUListElement).hidden = complete;
  setText(element("peers", HTMLElement), String(connected(peers)));
  peerList.show(peers, performance.now());
  drawTimeline(timeline.tBodies[0] ?? timeline.createTBody(), content.timeline, performance.now());
}

/** Bytes per second, from the first connection to the last piece. */
function averageSpeed({ progress, timeline }: Content): number {
  const { channel_open: from, complete: to } = timeline;
  return from === undefined || to === undefined ? 0 : (1000 * progress.received) / Math.max(1, to - from);
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
      if (resumed > 0) return status.show("searching", "Looking for somebody who has the rest", goingOn(content));
      return status.show("searching", "Looking for somebody who has it", "If nobody has it right now, this goes on as soon as somebody does.");
    case "connecting":
      return status.show("connecting", "Found somebody", resumed > 0 ? goingOn(content) : "Connecting to them directly…");
    case "downloading":
      return status.show("downloading", "Downloading", `${resumed > 0 ? `${goingOn(content)} ` : ""}From ${people}, every piece checked as it comes.`);
    case "complete":
      return status.show("complete", "Complete", "Every piece was checked. While this page is open, you pass the file on to others.");
    default:
      if (trouble !== null) return status.show("idle", trouble, mediator.advice, true);
      if (removed) return status.show("idle", "Removed", "Nothing of the file is left in this browser. Whatever you saved stays where you saved it.");
      return status.show("idle", "Ready", "Paste a link above, then press Fetch.");
  }
}

/** What an earlier visit left, in a sentence. */
function goingOn({ progress }: Content): string {
  return `Going on with ${format.count(resumed)} of ${format.count(progress.pieces)} pieces that were here already.`;
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

remove.addEventListener("click", discard);

// The table knows these browsers alone.
timings.hidden = endpointOf(navigator.userAgent) === null;
timings.addEventListener("click", () => download(client.timelineCSV(), `${content?.name || "content"}.timings.csv`));

/** Saves a text as a file, never opened. */
function download(text: string, name: string): void {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  link.download = name;
  link.click();
  // Not at once: the browser may begin to read it only after this task.
  setTimeout(() => URL.revokeObjectURL(link.href), revokeAfter);
}

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
