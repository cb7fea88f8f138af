/**
 * What a mediator says of itself at /status.json, as far as its page shows it. The
 * mediator passes on what others say of themselves, so all of it is checked here as
 * a stranger's: texts are short and plain, numbers bounded, addresses of one form.
 */

import { checkMediatorURL } from "../../peer/browser/src/content/link.ts";
import { asObject, parseObject } from "../../peer/browser/src/strict.ts";

/** Another mediator. */
export interface Neighbour {
  readonly id: string;
  /** Where its page is, or null where it names no address. */
  readonly page: string | null;
  /** "" where it names none. */
  readonly version: string;
  readonly peers: number;
  /** In ms; null where it is not known. */
  readonly roundTrip: number | null;
}

/** Directly; not from the internet, for it has no address there; or over a relay only, the address that it has being closed. */
export type Reach = "public" | "hidden" | "relayed";

/** A moment of a mediator. */
export interface Report {
  readonly id: string;
  readonly version: string;
  /** In seconds. */
  readonly uptime: number;
  readonly peers: number;
  /** Contents that anyone here has or waits for. */
  readonly contents: number;
  /** Contents that peers here wait for. */
  readonly searches: number;
  /** Records that it keeps for other mediators. */
  readonly records: number;
  /** Of peers, since it started. */
  readonly messages: number;
  /** Of all codes, since it started. */
  readonly refusals: number;
  /** Each once, and not this one. */
  readonly neighbours: readonly Neighbour[];
  /** Other mediators that it knows, those that are not in neighbours too. */
  readonly known: number;
  /** How other mediators reach it; null where that is not known. */
  readonly reach: Reach | null;
  /** What it calls its own address does not lead to it, as seen from its machine. */
  readonly astray: boolean;
  /** Bytes that it passed on between peers that cannot connect directly, since it started; null where it does not do that. */
  readonly relayed: number | null;
}

/** Bytes of an answer: a mediator names 256 others at most, each in less than 1 KiB. */
const maxAnswer = 512 * 1024;

/** Mediators that are read; the rest is only counted. Twice what a mediator names. */
const maxNeighbours = 512;

/** Error codes that are read; there are two dozen. */
const maxCodes = 256;

/** Characters of an id: that of libp2p has 52. */
const maxID = 128;

/** Characters of a version: mediators tell each other that many. */
const maxVersion = 64;

/** Asks for the mediator's report; null where the answer is none. Rejects where there is no answer, or signal ends it. */
export async function fetchReport(signal: AbortSignal): Promise<Report | null> {
  const response = await fetch("/status.json", { signal, cache: "no-store", credentials: "omit", redirect: "error" });
  if (!response.ok || response.body === null) {
    await response.body?.cancel();
    return null;
  }
  const text = await readText(response.body, maxAnswer);
  return text === null ? null : parseReport(parseObject(text));
}

/** Reads a text of at most limit bytes; null where it is longer, and then no more of it is read. */
export async function readText(body: ReadableStream<Uint8Array>, limit: number): Promise<string | null> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (let length = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    length += value.length;
    if (length > limit) {
      await reader.cancel();
      return null;
    }
    text += decoder.decode(value, { stream: true });
  }
}

/**
 * Reads a report; null for anything else. What the mediator says of itself must be
 * whole; of the others that it names, those that are wrong are passed over.
 */
export function parseReport(value: unknown): Report | null {
  const report = fields(value);
  const id = plain(report["id"], maxID);
  const uptime = amount(report["uptime_seconds"]);
  const peers = amount(report["peers"]);
  const contents = amount(report["contents"]);
  const searches = amount(report["searches"]);
  const messages = amount(report["messages"]);
  const dht = fields(report["dht"]);
  const records = amount(dht["records"]);
  const inDHT = amount(dht["mediators"]);
  if (
    id === null || uptime === null || peers === null || contents === null || searches === null ||
    messages === null || records === null || inDHT === null || asObject(report["refusals"]) === null
  ) {
    return null;
  }
  const list: readonly unknown[] = Array.isArray(report["mediators"]) ? report["mediators"] : [];
  const neighbours = new Map<string, Neighbour>();
  for (const entry of list.slice(0, maxNeighbours)) {
    const neighbour = parseNeighbour(entry);
    if (neighbour !== null && neighbour.id !== id && !neighbours.has(neighbour.id)) neighbours.set(neighbour.id, neighbour);
  }
  const left = Math.max(0, list.length - maxNeighbours);
  return {
    id, uptime, peers, contents, searches, messages, records,
    version: plain(report["version"], maxVersion) ?? "",
    refusals: total(fields(report["refusals"])),
    neighbours: [...neighbours.values()],
    known: Math.max(neighbours.size + left, inDHT),
    reach: reachOf(dht["reach"]),
    astray: typeof report["public_url_error"] === "string" && report["public_url_error"] !== "",
    relayed: amount(fields(report["turn"])["bytes"]),
  };
}

function reachOf(value: unknown): Reach | null {
  return value === "public" || value === "hidden" || value === "relayed" ? value : null;
}

function parseNeighbour(value: unknown): Neighbour | null {
  const entry = fields(value);
  const id = plain(entry["id"], maxID);
  const peers = amount(entry["peers"]);
  if (id === null || peers === null) return null;
  return { id, peers, page: pageOf(entry["public_url"]), version: plain(entry["version"], maxVersion) ?? "", roundTrip: amount(entry["rtt_ms"]) };
}

/** The page of the mediator at a WebSocket URL, on the same host; null where the URL is none. */
export function pageOf(url: unknown): string | null {
  if (typeof url !== "string") return null;
  try {
    checkMediatorURL(url);
    const { origin, protocol } = new URL(url.replace(/^ws/, "http"));
    return protocol === "http:" || protocol === "https:" ? `${origin}/` : null;
  } catch {
    return null;
  }
}

/** What a neighbour is called: its host, or else the end of its id: all ids begin alike. */
export function nameOf({ id, page }: Neighbour): string {
  return page === null ? `…${id.slice(-8)}` : new URL(page).host;
}

/** The fields of an object; of anything else, none. */
function fields(value: unknown): Readonly<Record<string, unknown>> {
  return { ...asObject(value) };
}

/** A number that counts or measures something, at most what a double tells apart from its neighbours; null for anything else. */
function amount(value: unknown): number | null {
  return typeof value === "number" && value >= 0 ? Math.min(value, Number.MAX_SAFE_INTEGER) : null;
}

/** A short text that shows as what it is: printable ASCII; null for anything else. */
function plain(value: unknown, limit: number): string | null {
  return typeof value === "string" && value.length <= limit && /^[ -~]+$/.test(value) ? value : null;
}

function total(counts: Readonly<Record<string, unknown>>): number {
  const sum = Object.values(counts).slice(0, maxCodes).reduce<number>((before, count) => before + (amount(count) ?? 0), 0);
  return Math.min(sum, Number.MAX_SAFE_INTEGER);
}
