/** The last minutes of a mediator: its peers, and how fast its counters grew. */

import type { Report } from "./report.ts";

/** How far back it goes, in ms. */
export const span = 5 * 60_000;

/**
 * Reports that lie further apart, in ms, do not belong together: nobody looked, or
 * nobody answered. What a counter did meanwhile says little of now.
 */
export const together = 10_000;

/** A moment; a rate is null where it is not known. */
export interface Sample {
  readonly at: number;
  readonly peers: number;
  /** Messages per second. */
  readonly messages: number | null;
  /** Refusals per second. */
  readonly refusals: number | null;
}

/** What a chart shows of a sample. */
export type Series = Exclude<keyof Sample, "at">;

/** Remembers the last minutes; times are in ms and never go back. */
export class History {
  #samples: readonly Sample[] = []; // oldest first, of the last span alone
  #last: { readonly at: number; readonly report: Report } | null = null;

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** Adds a report that came now, and returns its sample. */
  add(report: Report, now: number): Sample {
    const sample = { at: now, peers: report.peers, ...this.#rates(report, now) };
    this.#last = { at: now, report };
    this.#samples = [...this.#samples.filter(({ at }) => now - at <= span), sample];
    return sample;
  }

  /** Since the report before, where the same mediator has run ever since: its counters begin anew with it. */
  #rates(report: Report, now: number): Pick<Sample, "messages" | "refusals"> {
    const unknown = { messages: null, refusals: null };
    if (this.#last === null) return unknown;
    const { at, report: before } = this.#last;
    const messages = report.messages - before.messages;
    const refusals = report.refusals - before.refusals;
    const restarted = report.id !== before.id || report.uptime < before.uptime || messages < 0 || refusals < 0;
    if (restarted || now <= at || now - at > together) return unknown;
    return { messages: (1000 * messages) / (now - at), refusals: (1000 * refusals) / (now - at) };
  }
}
