/** The list of peers of a content: the same on both pages. */

import type { PeerStatus } from "../../peer/browser/src/index.ts";
import { make, setText } from "./dom.ts";
import * as format from "./format.ts";

/** Peers that are listed one by one; the count says how many there are. */
const listed = 12;

/** How long a speed is measured, in ms: long enough not to flicker. */
const measured = 2_000;

/** A counter at its latest measurement, and its units per second up to there. */
interface Measured {
  readonly at: number;
  readonly count: number;
  readonly speed: number;
}

/** The speeds of what counters count, each measured over the latest two seconds or more. */
export class Speeds {
  #counters = new Map<string, Measured>(); // of the latest names alone

  /** Units per second, by name; now in ms. */
  of(counts: ReadonlyMap<string, number>, now: number): ReadonlyMap<string, number> {
    const next = new Map<string, Measured>();
    for (const [name, count] of counts) {
      const last = this.#counters.get(name) ?? { at: now, count, speed: 0 };
      const due = now - last.at >= measured;
      next.set(name, due ? { at: now, count, speed: (1000 * (count - last.count)) / (now - last.at) } : last);
    }
    this.#counters = next;
    return new Map([...next].map(([name, { speed }]) => [name, speed]));
  }
}

/** Shows whom the content is exchanged with: what came from each, or went to each, and how fast. */
export class PeerList {
  readonly #list: HTMLUListElement;
  readonly #direction: "received" | "sent";
  readonly #speeds = new Speeds();

  constructor(list: HTMLUListElement, direction: "received" | "sent") {
    this.#list = list;
    this.#direction = direction;
  }

  /** now is performance.now(). */
  show(peers: readonly PeerStatus[], now: number): void {
    const speeds = this.#speeds.of(new Map(peers.map((peer) => [peer.id, peer[this.#direction]])), now);
    const shown = peers.slice(0, listed);
    const list = this.#list;
    list.hidden = shown.length === 0;
    while (list.children.length > shown.length) list.lastElementChild?.remove();
    while (list.children.length < shown.length) {
      const item = make("li");
      item.append(make("code"), make("span"));
      list.append(item);
    }
    shown.forEach((peer, index) => {
      const [name, state] = list.children[index]?.children ?? [];
      if (name === undefined || state === undefined) return;
      setText(name, `peer ${peer.id.slice(0, 8)}`);
      setText(state, this.#about(peer, speeds.get(peer.id) ?? 0));
    });
  }

  #about(peer: PeerStatus, speed: number): string {
    if (peer.state === "connecting") return "connecting";
    const parts = [`${format.bytes(peer[this.#direction])} ${this.#direction}`];
    if (speed >= 1) parts.push(format.speed(speed));
    if (peer.rtt !== undefined) parts.push(`${format.duration(peer.rtt)} away`);
    return parts.join(" · ");
  }
}

/** How many are really connected. */
export function connected(peers: readonly PeerStatus[]): number {
  return peers.filter((peer) => peer.state === "open").length;
}
