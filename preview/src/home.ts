/** The home page of a mediator: how it is right now, as a picture, and what it did in the last minutes. */

import { pageClock } from "../../peer/browser/src/clock.ts";
import { element, make, setText } from "./dom.ts";
import * as format from "./format.ts";
import { History, type Series } from "./history.ts";
import { inWords, type Network } from "./network.ts";
import { Picture } from "./picture.ts";
import { Poll } from "./poll.ts";
import { fetchReport, nameOf, type Neighbour, type Reach, type Report } from "./report.ts";
import { curve, Sparkline } from "./sparkline.ts";

/** With so many other mediators or fewer, the list of them is open from the beginning. */
const fewMediators = 8;

const live = element("live", HTMLElement);
const whole = element("live-body", HTMLDivElement);
const title = element("live-title", HTMLHeadingElement);
const state = element("live-state", HTMLParagraphElement);
const words = element("live-words", HTMLParagraphElement);
const each = element("live-each", HTMLSpanElement);
const relayed = [element("live-relayed", HTMLElement), element("relay-note", HTMLElement)];
const list = element("live-mediators", HTMLDetailsElement);
const body = element("mediator-rows", HTMLTableSectionElement);
const others = element("live-others", HTMLElement);
const more = element("live-more", HTMLElement);

const history = new History();
const picture = new Picture(element("network-picture", SVGSVGElement), showMediators);
const charts = (["peers", "messages", "refusals"] as const).map((series: Series) => ({
  series,
  value: element(`live-${series}`, HTMLElement),
  top: element(`top-${series}`, HTMLElement),
  line: new Sparkline(element(`line-${series}`, SVGSVGElement)),
}));

/** The list was opened, or left closed, once: from then on that is the visitor's choice. */
let settled = false;

/** How many, or how many per second. */
function inNumbers(series: Series, value: number): string {
  return series === "peers" ? format.short(value) : format.rate(value);
}

function show(report: Report): void {
  const now = pageClock.now();
  const sample = history.add(report, now);
  for (const { series, value, top, line } of charts) {
    const latest = sample[series];
    const drawn = curve(history.samples, series, now);
    setText(value, latest === null ? "–" : inNumbers(series, latest));
    setText(top, `peak ${inNumbers(series, drawn.top)}`);
    line.show(drawn);
  }
  setText(words, inWords(report));
  setText(element("live-contents", HTMLElement), format.short(report.contents));
  setText(element("live-searches", HTMLElement), format.short(report.searches));
  setText(element("live-records", HTMLElement), format.short(report.records));
  setText(element("live-about", HTMLElement), about(report));
  // What the page promises must be true of a mediator that relays, too.
  for (const part of relayed) part.hidden = report.relayed === null;
  element("never-through", HTMLElement).hidden = report.relayed !== null;
  if (report.relayed !== null) setText(element("live-bytes", HTMLElement), format.bytes(report.relayed));
  whole.hidden = false; // before the picture, which asks how much room there is
  picture.show(report);
  say("live", "Right now", "Live");
}

function about({ id, version, uptime, reach, astray }: Report): string {
  const sentences = [`Mediator ${id}${version === "" ? "" : `, version ${version}`}, running for ${format.uptime(uptime)}.`];
  if (reach !== null) sentences.push(reached[reach]);
  if (astray) sentences.push("Seen from its own machine, the address that it gives does not lead to it. Others that see the same send nobody there; its log says why.");
  return sentences.join(" ");
}

/** What it means to a volunteer how other mediators reach theirs. */
const reached: Readonly<Record<Reach, string>> = {
  public: "Other mediators reach it directly.",
  hidden: "It has no public address: mediators elsewhere reach it only while it is connected to them.",
  relayed: "Other mediators reach it only through a relay: its port is closed to the internet.",
};

/** Lists the mediators of the picture by the numbers that they have there. */
function showMediators({ places, each: eachPoint, more: left }: Network): void {
  setText(each, eachPoint === 1 ? "a person here" : `${format.count(eachPoint)} people here`);
  list.hidden = others.hidden = places.length === 0;
  if (!settled && places.length > 0) {
    settled = true;
    list.open = places.length <= fewMediators;
  }
  while (body.rows.length > places.length) body.deleteRow(-1);
  while (body.rows.length < places.length) body.append(makeRow());
  places.forEach(({ neighbour }, index) => {
    const row = body.rows[index];
    if (row !== undefined) showRow(row, index + 1, neighbour);
  });
  more.hidden = left === 0 || places.length === 0;
  setText(more, `and ${format.counted(left, "other mediator that is", "other mediators that are")} not in the picture`);
}

function makeRow(): HTMLTableRowElement {
  const row = make("tr");
  const name = make("th");
  name.scope = "row";
  const link = make("a");
  link.rel = "noopener noreferrer";
  name.append(link, make("span"));
  row.append(make("td"), name, make("td"), make("td"));
  return row;
}

function showRow(row: HTMLTableRowElement, number: number, neighbour: Neighbour): void {
  const [key, name, peers, away] = row.cells;
  const [link, version] = name?.children ?? [];
  if (key === undefined || peers === undefined || away === undefined || !(link instanceof HTMLAnchorElement) || version === undefined) return;
  setText(key, String(number));
  setText(link, nameOf(neighbour));
  // Without an address it is a name, and no link.
  if (neighbour.page === null) link.removeAttribute("href");
  else link.href = neighbour.page;
  setText(version, neighbour.version);
  setText(peers, format.short(neighbour.peers));
  setText(away, neighbour.roundTrip === null ? "–" : format.duration(neighbour.roundTrip));
}

/** Says it once: the text stays as it is until the state changes, for a screen reader reads out every change. */
function say(what: "live" | "unreachable", heading: string, text: string): void {
  live.dataset["state"] = state.dataset["state"] = what;
  setText(title, heading);
  setText(state, text);
}

const poll = new Poll({
  clock: pageClock,
  ask: fetchReport,
  answered: show,
  // What is shown must not pass for what is true now.
  unanswered: () => say("unreachable", whole.hidden ? "Right now" : "How it was", "This mediator does not answer. This page keeps asking."),
});

/** Nobody looks at a hidden page. */
function follow(): void {
  if (document.visibilityState === "visible") poll.resume();
  else poll.pause();
}

live.hidden = false;
document.addEventListener("visibilitychange", follow);
follow();
