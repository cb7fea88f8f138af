/** Whom to fetch a content from, as Go's peer/client/seek.go. Times are in ms. */

import type { PeerID } from "./ident.ts";
import type { SwarmPeer } from "./swarm.ts";

/**
 * Bounds the peers that are remembered for a content: a hundred times those that are
 * connected. What was left out is named again when asked for.
 */
const maxKnown = 1024;

/** Bounds the time before a peer is tried again with which it did not work out; it doubles each time. */
const firstWait = 5_000;
const lastWait = 120_000;

/** How soon peers are asked for anew when the last one is lost. */
const lostAgain = 1_000;

/**
 * How soon peers are asked for anew where nobody has what is missing: long enough for a
 * connection to be made in the meantime. It doubles up to the longest.
 */
const firstAgain = 15_000;
const lastAgain = 60_000;

/** How often the worst peer of a download is looked for. */
const reviewEach = 30_000;

/**
 * How many percent faster than the slowest a peer may be and still count as equally slow: as much as one and
 * the same peer differs from one review to the next. Where six leechers share its uplink and one
 * goes, each of the others gets 6/5 of what it got.
 */
const alike = 20;

/** A peer that was named as having a content. */
interface Named {
  banned: boolean;
  failed: number; // how often it did not work out
  notYet: number; // it is not tried before
}

/** The peers that were named as having a content. */
export class Known {
  readonly #peers = new Map<PeerID, Named>(); // in the order in which they were named; bounded by maxKnown

  /** Notes a peer that was named. */
  add(id: PeerID): void {
    if (this.#peers.has(id) || this.#peers.size >= maxKnown) return;
    this.#peers.set(id, { banned: false, failed: 0, notYet: 0 });
  }

  delete(id: PeerID): void {
    this.#peers.delete(id);
  }

  clear(): void {
    this.#peers.clear();
  }

  /** Another mediator names everybody anew: all are forgotten but those who lied. */
  renew(): void {
    for (const [id, { banned }] of this.#peers) if (!banned) this.#peers.delete(id);
  }

  /** It did not work out, or is over: the next attempt is put off. */
  missed(id: PeerID, now: number): void {
    const peer = this.#peers.get(id);
    if (peer === undefined) return;
    peer.notYet = now + Math.min(lastWait, firstWait * 2 ** peer.failed);
    peer.failed++;
  }

  /** Never again. */
  ban(id: PeerID): void {
    this.add(id); // who came by itself may be named later
    const peer = this.#peers.get(id);
    if (peer !== undefined) peer.banned = true;
  }

  /** Whether it is never to be tried again. */
  banned(id: PeerID): boolean {
    return this.#peers.get(id)?.banned === true;
  }

  /** Those that may be tried, and that were tried least first, so that everybody gets a turn. */
  due(now: number): PeerID[] {
    return [...this.#peers]
      .filter(([, { banned, notYet }]) => !banned && now >= notYet)
      .sort(([, a], [, b]) => a.failed - b.failed)
      .map(([id]) => id);
  }
}

/** When to ask the mediator for peers. */
export class Asking {
  readonly #random: () => number;
  #again = firstAgain;
  #due = 0;

  /** random is in [0, 1), so that leechers who lost the same peer do not ask all at once. */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** It was asked. */
  asked(now: number): void {
    this.#put(now, this.#again);
    this.#again = Math.min(2 * this.#again, lastAgain);
  }

  due(now: number): boolean {
    return now >= this.#due;
  }

  /** Something came: the waits begin anew. */
  went(): void {
    this.#again = firstAgain;
  }

  /** There is nobody left. */
  lost(now: number): void {
    const due = this.#due;
    this.#again = lostAgain;
    this.#put(now, this.#again);
    this.#due = Math.min(due, this.#due);
  }

  #put(now: number, wait: number): void {
    this.#due = now + wait * (0.75 + this.#random() / 2);
  }
}

/** A peer that may be left. */
interface Candidate {
  readonly id: PeerID;
  readonly got: number; // bytes, since the last review
  readonly distance: number; // the round trip in ms; a peer that never answered is farther than any other
}

/** Compares now and then what peers delivered. */
export class Review {
  #at: number;
  #delivered = new Map<PeerID, number>(); // then; bounded by the peers of the swarm

  constructor(now: number) {
    this.#at = now;
  }

  due(now: number): boolean {
    return now - this.#at >= reviewEach;
  }

  /** The worst of those that may leave and delivered less than half of what all do on average; null if none is that bad. */
  worst(peers: readonly SwarmPeer[], mayLeave: (id: PeerID) => boolean, now: number): PeerID | null {
    const before = this.#delivered;
    this.#at = now;
    this.#delivered = new Map(peers.map(({ id, delivered }) => [id, delivered]));
    const candidates: Candidate[] = [];
    let compared = 0;
    let sum = 0;
    for (const { id, delivered, rtt } of peers) {
      const then = before.get(id);
      if (then === undefined) continue; // too new to be judged
      const got = delivered - then;
      compared++;
      sum += got;
      if (mayLeave(id)) candidates.push({ id, got, distance: rtt === 0 ? Infinity : rtt });
    }
    return worstOf(candidates.filter(({ got }) => got * compared * 2 < sum));
  }
}

/**
 * The farthest of those that delivered least, or hardly more; of some that are equally far, the slowest, and
 * then the first. null if there is none.
 */
function worstOf(candidates: readonly Candidate[]): PeerID | null {
  const least = Math.min(...candidates.map(({ got }) => got));
  let worst: Candidate | null = null;
  for (const one of candidates) {
    if (one.got * 100 > least * (100 + alike)) continue;
    const farther = worst === null || one.distance > worst.distance;
    if (farther || (one.distance === worst?.distance && one.got < worst.got)) worst = one;
  }
  return worst?.id ?? null;
}
