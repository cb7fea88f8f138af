import type { Cancel, Clock } from "../clock.ts";
import { fitsSignal } from "../mediation.ts";
import type { Session } from "./session.ts";
import { formatSignal } from "./signal.ts";

/**
 * How long the description waits for candidates, in ms: those of the own machine are there in a few, and
 * whoever has one of them can answer with a working connection at once.
 */
const settle = 10;

/**
 * How long the offer is waited for, in ms, where everything else is there: a busy browser must not hold up a search. The
 * first connection of a page takes longer than others, a tenth of a second on a slow machine.
 */
const longest = 100;

/** How long it is kept for a peer, in ms: as long as a connection may take to open. */
const kept = 20_000;

/** What a prepared connection tells; never during the construction or a method. */
export interface PreparedEvents {
  /** It is not to be waited for any longer: there is an offer with what was found quickly, or there is none. */
  ready(): void;
  /** Nobody took it in time, or it failed: it is closed. */
  ended(): void;
}

/**
 * A connection for a peer that is not known yet: its channel is there, and its candidates are being
 * gathered. So an offer can be sent as soon as there is a mediator, and to whoever has the content. It ends when it is
 * taken or closed.
 */
export class Prepared {
  #session: Session | null; // null once it ended
  readonly #clock: Clock;
  readonly #events: PreparedEvents;
  #ready = false;
  #awaited = false;
  readonly #timers: Cancel[] = [];

  constructor(clock: Clock, session: Session, events: PreparedEvents) {
    this.#session = session;
    this.#clock = clock;
    this.#events = events;
    this.#timers.push(clock.after(kept, () => this.#fail()));
    void this.#describe(session);
  }

  /** Whether ready was told. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Says that somebody waits for ready, which comes soon now in any case. */
  wait(): void {
    if (this.#awaited || this.#session === null) return;
    this.#awaited = true;
    this.#timers.push(this.#clock.after(longest, () => this.#tellReady()));
  }

  /**
   * The offer as signal_data, with the candidates that were found so far; later ones are told to whom the
   * connection is bound. null where there is none.
   */
  offer(): string | null {
    if (this.#session === null || !this.#session.described) return null;
    const offer = formatSignal({ type: "offer", sdp: this.#session.write() });
    return fitsSignal(offer) ? offer : null;
  }

  /** Hands the session over, whose description may still be on its way; null where it ended. */
  take(): Session | null {
    const session = this.#session;
    this.#session = null;
    for (const cancel of this.#timers) cancel();
    if (session !== null) session.pc.onicegatheringstatechange = null;
    return session;
  }

  close(): void {
    this.take()?.close();
  }

  async #describe(session: Session): Promise<void> {
    try {
      await session.describe();
    } catch {
      return this.#fail(); // whoever wanted it begins an ordinary connection, and is told there
    }
    if (this.#session === null) return;
    session.pc.onicegatheringstatechange = () => this.#gathering(session);
    this.#timers.push(this.#clock.after(settle, () => this.#tellReady()));
    this.#gathering(session);
  }

  #gathering({ pc }: Session): void {
    if (pc.iceGatheringState === "complete") this.#tellReady();
  }

  #tellReady(): void {
    if (this.#ready || this.#session === null) return;
    this.#ready = true;
    this.#events.ready();
  }

  #fail(): void {
    if (this.#session === null) return;
    this.#tellReady();
    this.close();
    this.#events.ended();
  }
}
