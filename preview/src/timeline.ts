/** How long each step of the way took, drawn as bars on one axis of time. */

import type { Phase, Timeline } from "../../peer/browser/src/index.ts";
import { make, setText } from "./dom.ts";
import * as format from "./format.ts";

/** A step: from one stamp to the next, in milliseconds since the start; to is null while it goes on. */
export interface Step {
  readonly label: string;
  readonly from: number;
  readonly to: number | null;
}

// Each step ends at the first of these phases; it begins where the one before ended.
const steps: readonly { readonly label: string; readonly ends: readonly Phase[] }[] = [
  { label: "Reach a mediator", ends: ["established"] },
  { label: "Find somebody", ends: ["peers_named", "offer_received"] },
  { label: "Be introduced", ends: ["answer_received", "answer_sent"] },
  { label: "Connect directly", ends: ["channel_open"] },
  { label: "First piece", ends: ["first_piece"] },
  { label: "The rest", ends: ["complete"] },
];

/**
 * The steps that have begun; the last one goes on, unless all is complete. What a connection that was there
 * already made needless is left out.
 */
export function stepsOf(timeline: Timeline): Step[] {
  const started = timeline.started;
  if (started === undefined) return [];
  const result: Step[] = [];
  let from = 0;
  for (const [index, { label, ends }] of steps.entries()) {
    const stamps = ends.map((phase) => timeline[phase]).filter((stamp) => stamp !== undefined);
    if (stamps.length === 0) {
      if (steps.slice(index + 1).some((later) => later.ends.some((phase) => timeline[phase] !== undefined))) continue;
      result.push({ label, from, to: null });
      break;
    }
    // A mediator that was reached before the start took no time of this content.
    const to = Math.max(from, Math.min(...stamps) - started);
    result.push({ label, from, to });
    from = to;
  }
  return result;
}

/** Fills the table's body with the steps; now is performance.now(). */
export function drawTimeline(body: HTMLTableSectionElement, timeline: Timeline, now: number): void {
  const present = stepsOf(timeline);
  const last = present.at(-1);
  if (last === undefined) {
    body.replaceChildren();
    return;
  }
  const end = Math.max(1, last.to ?? now - (timeline.started ?? now));
  while (body.rows.length > present.length) body.deleteRow(-1);
  while (body.rows.length < present.length) body.append(makeRow());
  present.forEach((step, index) => {
    const row = body.rows[index];
    const [label, track, took] = row?.cells ?? [];
    const bar = track?.querySelector<HTMLElement>(".track span");
    if (label === undefined || took === undefined || bar === null || bar === undefined) return;
    const to = step.to ?? end;
    setText(label, step.label);
    setText(took, step.to === null ? "…" : format.duration(to - step.from));
    bar.className = step.to === null ? "running" : "";
    // From the right where the bar ends there: its least width must stay inside.
    bar.style.left = `min(${(100 * step.from) / end}%, 100% - 3px)`;
    bar.style.width = `${(100 * (to - step.from)) / end}%`;
  });
}

function makeRow(): HTMLTableRowElement {
  const row = make("tr");
  const label = make("th");
  label.scope = "row";
  const track = make("span");
  track.className = "track";
  track.append(make("span"));
  const cell = make("td");
  cell.append(track);
  row.append(label, cell, make("td"));
  return row;
}
