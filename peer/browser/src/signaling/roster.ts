/** Whom a peer may turn to, as Go's peer/signaling/roster.go. Pure state, without a clock. */

import { MaxURLs, mayName, Reach, reachOf } from "../mediation.ts";

/**
 * Bounds the mediators that are remembered, two full lists of established or going_away:
 * what one mediator names does not push out all that others named.
 */
const maxMediators = 2 * MaxURLs;

/**
 * In how many searches in a row a learnt mediator may fail before it is forgotten: one that
 * is updated, or restarted, misses one of them or two.
 */
const maxFailed = 3;

/** A mediator that is known. */
interface Entry {
  readonly url: string;
  learnt: number; // the number of the list that named it last; 0: the page did
  tried: boolean; // in this round
  missed: boolean; // in this search
  failed: number; // searches in a row in which it was tried in vain, and another one was found
}

/**
 * The mediators that the page named, in that order and never forgotten, and those that
 * mediators named.
 *
 * A search is what lies between two lines that last. It goes in rounds: within one, every
 * mediator is tried once, those of the page in order and then the learnt ones, the newest
 * first. Among those that were named together chance decides, so that the peers of a mediator
 * that is lost spread over all that it named.
 */
export class Roster {
  readonly #random: () => number;
  readonly #securePage: boolean;
  #entries: Entry[] = []; // bounded by maxMediators
  #present: Entry | null = null; // the one that is used or tried; null before the first
  #naming = 0; // how many lists were learnt
  #tries = 0; // in this round; it ends after as many as there are mediators, also where some were learnt meanwhile
  #rounds = 0; // how many of this search ended with nobody

  /** `random` is in [0, 1), for choices among equals; a page that came over https reaches no ws mediators. */
  constructor(random: () => number, securePage: boolean) {
    this.#random = random;
    this.#securePage = securePage;
  }

  /** The mediator that is used, or tried next; null where none is known. */
  get present(): string | null {
    return (this.#present ?? this.#entries[0])?.url ?? null;
  }

  /** Adds a mediator of the page, behind those that it named before; what is known is not added again. */
  add(url: string): void {
    const known = this.#find(url);
    if (known !== undefined) known.learnt = 0;
    else if (this.#makeRoom(Infinity)) this.#entries.push({ url, learnt: 0, tried: false, missed: false, failed: 0 });
  }

  /**
   * Remembers the mediators that the present one names, as far as it may. Where there is no
   * room, those go that were named longest ago.
   */
  learn(urls: readonly string[]): void {
    if (urls.length === 0 || this.#present === null) return;
    this.#naming++;
    for (const url of urls) {
      if (!mayName(this.#present.url, url) || !this.#reaches(url)) continue;
      const known = this.#find(url);
      if (known === undefined) {
        if (this.#makeRoom(this.#naming)) this.#entries.push({ url, learnt: this.#naming, tried: false, missed: false, failed: 0 });
      } else if (known.learnt > 0) {
        known.learnt = this.#naming;
      }
    }
  }

  /**
   * Chooses whom to try, who is the present one from now on; there must be one. Returns how
   * many rounds ended with nobody, if this begins another one, and 0 within a round.
   */
  next(): number {
    let rounds = 0;
    if (this.#tries >= this.#entries.length) {
      for (const entry of this.#entries) entry.tried = false;
      this.#tries = 0;
      rounds = ++this.#rounds;
    }
    this.#present = this.#choose();
    this.#present.tried = true;
    this.#present.missed = true;
    this.#tries++;
    return rounds;
  }

  /**
   * The line to the present one, which is lost now, was a good one. That ended a search, and
   * another one begins. Who failed in it counts as failing only now: while nobody is found, it
   * is rather we who have no network.
   */
  lasted(): void {
    for (const entry of this.#entries) {
      if (entry === this.#present) entry.failed = 0;
      else if (entry.missed) entry.failed++;
      entry.missed = entry.tried = entry === this.#present;
    }
    this.#entries = this.#entries.filter(({ learnt, failed }) => learnt === 0 || failed < maxFailed);
    this.#tries = 1;
    this.#rounds = 0;
  }

  #find(url: string): Entry | undefined {
    return this.#entries.find((entry) => entry.url === url);
  }

  /** Browsers let a page that came over https open wss:// alone, but for this machine (Mixed Content, section 3). */
  #reaches(url: string): boolean {
    return !this.#securePage || url.startsWith("wss:") || reachOf(url) === Reach.here;
  }

  /** Whether there is room for one more; one that was learnt before that list makes some. */
  #makeRoom(list: number): boolean {
    if (this.#entries.length < maxMediators) return true;
    const older = this.#entries.filter((entry) => entry.learnt > 0 && entry.learnt < list && entry !== this.#present);
    const oldest = Math.min(...older.map(({ learnt }) => learnt));
    const at = this.#entries.findIndex((entry) => entry.learnt === oldest && entry !== this.#present);
    if (at >= 0) this.#entries.splice(at, 1);
    return at >= 0;
  }

  /** One that was not tried in this round. There is one: who makes room for another leaves it untried. */
  #choose(): Entry {
    const untried = this.#entries.filter(({ tried }) => !tried);
    const own = untried.find(({ learnt }) => learnt === 0);
    if (own !== undefined) return own;
    const newest = Math.max(...untried.map(({ learnt }) => learnt));
    const equals = untried.filter(({ learnt }) => learnt === newest);
    return equals[Math.floor(this.#random() * equals.length)] as Entry;
  }
}
