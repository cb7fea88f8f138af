/**
 * How the moments on the way to a content are written down: for programs that compare, as Go's common/timeline,
 * whose comment is the specification; and for the browser's own tools, as entries of User Timing.
 */

import { type Phase, Phases, type Timeline } from "./api.ts";
import type { FullHash } from "./content.ts";
import { clip } from "./strict.ts";

/** The version of the table that is written. */
export const Schema = 1;

/** Bounds the scenario and the error of a row, in bytes. */
const maxText = 1024;

/** Bounds a stamp, in ms: seven digits, some hours. */
const maxStamp = 1e7 - 0.001;

/** What the peer of a row runs in. Others than those that this writes are not in the table. */
export type Endpoint = "chromium" | "firefox";

/** One row of the table: a content that a leecher asked for, or a seeder served. */
export interface Row {
  /** What was measured, in the words of whoever measures. */
  readonly scenario: string;
  /** Of the random numbers that chose the contents. */
  readonly seed: number;
  /** The introduction within its run, from 1. */
  readonly index: number;
  /** By which protocol flow: this program knows "fast" alone. */
  readonly flow: string;
  readonly endpoint: string;
  readonly role: "leecher" | "seeder";
  /** Distinct mediators in between, from 1. */
  readonly mediators: number;
  /** Bytes. */
  readonly contentBytes: number;
  /** 1: the first content of two peers; 2: the next one over the same connection; and so on. */
  readonly content: number;
  /** The first hex digits of the peer's id; "": it had none yet. */
  readonly peer: string;
  readonly outcome: "complete" | "failed" | "skipped";
  /** Why it is not complete: a class; "" where it is. */
  readonly errorCode: string;
  /** The same for people. */
  readonly error: string;
  /** Milliseconds since started. */
  readonly phases: Timeline;
}

/** The names of the columns, in the order in which they are written. */
export const Columns: readonly string[] = [
  "schema", "scenario", "seed", "index", "flow", "endpoint", "role", "mediators", "content_bytes", "content", "peer",
  "outcome", "error_code", "error", ...Phases,
];

/** The table as CSV (RFC 4180), with its line of column names. */
export function formatTable(rows: readonly Row[]): string {
  return [Columns, ...rows.map(fieldsOf)].map((fields) => `${fields.map(quoted).join()}\n`).join("");
}

/** The fields of a row, in the order of the columns. */
function fieldsOf(row: Row): string[] {
  return [
    String(Schema), clip(row.scenario, maxText), String(row.seed), String(row.index), row.flow, row.endpoint, row.role,
    String(row.mediators), String(row.contentBytes), String(row.content), row.peer, row.outcome, row.errorCode, clip(row.error, maxText),
    ...Phases.map((phase) => row.phases[phase]?.toFixed(3) ?? ""),
  ];
}

function quoted(field: string): string {
  return /[,"\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}

/** The stamps as milliseconds since the start, without those that are too late for the table. */
export function sinceStart(timeline: Timeline): Timeline {
  const { started } = timeline;
  if (started === undefined) return {};
  const since = Phases.flatMap((phase) => (timeline[phase] === undefined ? [] : [[phase, timeline[phase] - started] as const]));
  return Object.fromEntries(since.filter(([, ms]) => ms < maxStamp));
}

/** What a browser is, by what it says of itself; null: neither of the two. */
export function endpointOf(userAgent: string): Endpoint | null {
  if (/\bFirefox\/\d/.test(userAgent)) return "firefox";
  return /Chrom(e|ium)\/\d/.test(userAgent) ? "chromium" : null;
}

/** Notes that a phase of a content was reached, both in milliseconds of performance.now(). */
export type Measure = (phase: Phase, fullHash: FullHash, started: number, at: number) => void;

/** Bounds the entries in the page's buffer: those of a few hundred contents. */
export const maxMeasures = 4096;

/**
 * Makes an entry `p2pcdn:<phase>` for each phase (User Timing Level 3), from the start of the content on; its detail has the
 * full hash. A PerformanceObserver hears of each. When there are too many in the buffer, which the browser keeps for
 * ever, all of ours are cleared.
 */
export function pageMeasures({ performance }: { performance: Pick<Performance, "measure" | "clearMeasures"> }): Measure {
  let made = 0;
  return (phase, fullHash, started, at) => {
    if (made >= maxMeasures) {
      for (const one of Phases) performance.clearMeasures(nameOf(one));
      made = 0;
    }
    made++;
    try {
      performance.measure(nameOf(phase), { start: started, end: at, detail: { fullHash } });
    } catch {
      // a browser that knows level 2 alone takes the options for the name of a mark
    }
  };
}

function nameOf(phase: Phase): string {
  return `p2pcdn:${phase}`;
}
