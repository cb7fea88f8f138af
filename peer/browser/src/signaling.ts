/**
 * The connection to a mediator: handshake, announces, lookups and signals, over one
 * WebSocket. It remembers what is announced and looked for, so a lost mediator is
 * replaced by another one, which is told everything anew. That goes right behind the
 * handshake, without a wait for its answer; only signals wait. There is no list of mediators in
 * one place: they name each other, see mediation.ts and signaling/roster.ts. While the
 * present one works it stays there: every move costs announces and lookups, and gains nothing.
 */

import type { Cancel, Clock } from "./clock.ts";
import { checkMediatorURL, type FullHash } from "./content.ts";
import { newPeerID, type PeerID, type RandomBytes } from "./ident.ts";
import { decode, DecodeError, encode, type ErrorMessage, type ICEServer, MaxMessageSize, type Message } from "./mediation.ts";
import { Roster } from "./signaling/roster.ts";

/**
 * Where the connection stands: "connecting" until the handshake is answered,
 * "established" then, "waiting" before the next attempt, "closed" for good.
 */
export type MediatorState = "connecting" | "established" | "waiting" | "closed";

/** What is needed of a WebSocket. */
export interface Socket {
  /** Sends a text; only between open and close. */
  send(text: string): void;
  close(): void;
  /** Bytes that were sent and have not left. */
  readonly bufferedAmount: number;
}

/** What a socket tells. After closed, which comes once, nothing more is told. */
export interface SocketEvents {
  opened(): void;
  received(data: unknown): void;
  closed(why: string): void;
}

/** Opens a socket; events come later, never during the call. */
export type OpenSocket = (url: string, events: SocketEvents) => Socket;

/** What the connection tells. */
export interface SignalingEvents {
  state(url: string, state: MediatorState): void;
  /** The socket is open; the handshake is on its way. */
  opened(): void;
  established(iceServers: readonly ICEServer[]): void;
  announced(hash: FullHash): void;
  /** A lookup was handed to the socket, with an offer or without. */
  asked(hash: FullHash, offering: boolean): void;
  /**
   * Peers that seed the content, never ourselves; none: the search ended with nobody. offered is
   * the one of them that was handed our offer; null: none was.
   */
  peers(hash: FullHash, peers: readonly PeerID[], offered: PeerID | null): void;
  signal(hash: FullHash, from: PeerID, data: string): void;
  /** What the mediator answered to something that we sent. */
  refused(error: ErrorMessage): void;
  /** A mediator could not be reached or was lost, or it cannot be understood; another one is tried. */
  trouble(message: string): void;
}

export interface SignalingConfig {
  readonly openSocket: OpenSocket;
  readonly clock: Clock;
  /** In [0, 1): spreads attempts over time and mediators. */
  readonly random: () => number;
  readonly randomBytes: RandomBytes;
  /** Whether the page came over https, and so reaches no ws:// but on its own machine. */
  readonly securePage: boolean;
  /**
   * The offer that a lookup is to carry, as signal_data; null: none; "later": it is not sent before release is called.
   * Default: none at all.
   */
  readonly offer?: (hash: FullHash) => string | null | "later";
  readonly events: SignalingEvents;
}

/** How long a mediator may take from the attempt to the answered handshake, in ms: several round trips of a bad network. */
const handshakeTimeout = 10_000;

/**
 * The longest wait before another mediator is tried, in ms. All peers of one that is lost
 * come to the others at once: a thousand of them are one a millisecond then, and nobody misses
 * a mediator for a second.
 */
const hop = 1_000;

/**
 * The longest wait when all mediators were tried in vain doubles with each such round from the first
 * to the last, in ms: a hiccup is soon over, and a mediator that comes back is not overrun.
 */
const firstRetry = 500;
const lastRetry = 30_000;

/**
 * How long a mediator must be kept for the waits to begin anew, in ms: as long as the longest,
 * so that one that breaks all its lines gets no more attempts than one that is down.
 */
const goodFor = lastRetry;

/**
 * After how long a silence the mediator is asked whether it is there, and how long its answer may take, in
 * ms: one that was cut off is left within half a minute, and ten thousand pages that have nothing to say
 * are a thousand small messages a second.
 */
const silence = 10_000;
const patience = 10_000;

/** How often a fresh id is tried on one connection. Random ids never meet; a mediator that says so is broken. */
const idAttempts = 3;

/** Bounds what waits in the socket: signals above it are dropped, as the mediator does not read. */
const maxBuffered = 4 * MaxMessageSize;

/** How long after the mediator asked for patience the rest is sent again, in ms. */
const resendWait = 5_000;

/** Own earlier ids that are remembered: a mediator may name one that it has not forgotten yet. */
const maxFormerIDs = 16;

export class Signaling {
  readonly #config: SignalingConfig;
  readonly #roster: Roster;
  readonly #announces = new Map<FullHash, { confirmed: boolean }>(); // what we seed
  readonly #lookups = new Map<FullHash, { sent: boolean; answered: boolean }>(); // what we look for
  readonly #ownIDs: PeerID[] = []; // the last is the present one; bounded by maxFormerIDs
  #state: MediatorState = "closed"; // so before start, too
  #over = false; // close was called
  #socket: Socket | null = null;
  #greeted = false; // the handshake is on its way on this socket: what is sent now stands behind it
  #attempt = 0; // of the present socket; events of earlier ones are stale
  #handshakes = 0; // sent on this socket
  #establishedAt = 0;
  #heardAt = 0; // on this socket
  #timer: Cancel = () => {};
  #resend: Cancel | null = null;

  /** It knows no mediator yet, and connects with start(). */
  constructor(config: SignalingConfig) {
    this.#config = config;
    this.#roster = new Roster(config.random, config.securePage);
  }

  get state(): MediatorState {
    return this.#state;
  }

  /** Our id at the present mediator, or null before the handshake is answered. */
  get peerID(): PeerID | null {
    return this.#state === "established" ? (this.#ownIDs.at(-1) ?? null) : null;
  }

  /** The mediator that is used, or tried next; null where none is known. */
  get mediator(): string | null {
    return this.#roster.present;
  }

  /** Begins to connect, if there is a mediator to connect to and that did not begin yet. */
  start(): void {
    if (this.#state !== "closed" || this.#over || this.mediator === null) return;
    this.#roster.next();
    this.#connect();
  }

  /** Adds mediators that the page names, behind those that it named before; what is no mediator's URL is passed over. */
  addMediators(urls: readonly string[]): void {
    for (const url of urls) {
      try {
        checkMediatorURL(url);
      } catch {
        continue;
      }
      this.#roster.add(url);
    }
  }

  /** Says that we seed the content, until finish(). */
  announce(hash: FullHash): void {
    if (this.#announces.has(hash)) return;
    this.#announces.set(hash, { confirmed: false });
    this.#say({ type: "announce", fullHash: hash });
  }

  /** Asks for peers that seed the content, until found() or finish(). Asking again names all of them again. */
  getPeers(hash: FullHash): void {
    this.#lookups.set(hash, { sent: false, answered: false });
    this.#ask(hash);
  }

  /** Sends the lookups that were put off. */
  release(): void {
    for (const [hash, { sent }] of this.#lookups) if (!sent) this.#ask(hash);
  }

  /** No more peers are needed for the content; the announce stays. */
  found(hash: FullHash): void {
    this.#lookups.delete(hash);
  }

  /** Ends the announce and the lookup. */
  finish(hash: FullHash): void {
    const announced = this.#announces.delete(hash);
    const lookedFor = this.#lookups.delete(hash);
    if (announced || lookedFor) this.#say({ type: "finish", fullHash: hash });
  }

  /** Sends a signal; false where it cannot be sent now. It is not kept: our id would be another one then. */
  signal(hash: FullHash, to: PeerID, data: string): boolean {
    if (this.#state !== "established" || (this.#socket?.bufferedAmount ?? 0) > maxBuffered) return false;
    return this.#say({ type: "signal", fullHash: hash, peerID: to, signalData: data });
  }

  /** Ends the connection for good, and with it all announces. */
  close(): void {
    this.#over = true;
    this.#drop();
    if (this.#state !== "closed") this.#enter("closed", "");
  }

  /** Sends a message behind the handshake; false where there is no connection. */
  #say(message: Message): boolean {
    if (this.#socket === null || !this.#greeted) return false;
    this.#socket.send(encode(message));
    return true;
  }

  /** Sends a lookup, with the offer if there is one. */
  #ask(fullHash: FullHash): void {
    const lookup = this.#lookups.get(fullHash);
    if (!this.#greeted || lookup === undefined) return; // it is sent behind the handshake
    const offer = this.#config.offer?.(fullHash) ?? null;
    if (offer === "later") return;
    lookup.sent = true;
    this.#say({ type: "get_peers", fullHash, ...(offer !== null && { offer }) });
    this.#config.events.asked(fullHash, offer !== null);
  }

  #enter(state: MediatorState, url: string): void {
    this.#state = state;
    this.#config.events.state(url, state);
  }

  /** Leaves the present socket, if any; what it still tells is stale. */
  #drop(): void {
    this.#attempt++;
    this.#timer();
    this.#resend?.();
    this.#resend = null;
    const socket = this.#socket;
    this.#socket = null;
    this.#greeted = false;
    socket?.close();
  }

  #connect(): void {
    const url = this.mediator as string;
    const attempt = ++this.#attempt;
    const live = (): boolean => attempt === this.#attempt;
    this.#handshakes = 0;
    this.#timer = this.#config.clock.after(handshakeTimeout, () => this.#lost("it did not answer in time"));
    this.#socket = this.#config.openSocket(url, {
      opened: () => {
        if (!live()) return;
        this.#config.events.opened();
        this.#handshake();
      },
      received: (data) => {
        if (live()) this.#received(data);
      },
      closed: (why) => {
        if (live()) this.#lost(why);
      },
    });
    this.#enter("connecting", url);
  }

  /** Shakes hands under a fresh id, and says right behind that all that there is to say. */
  #handshake(): void {
    if (++this.#handshakes > idAttempts) return this.#lost("it refuses every id");
    const peerID = newPeerID(this.#config.randomBytes);
    if (this.#ownIDs.push(peerID) > maxFormerIDs) this.#ownIDs.shift();
    this.#greeted = true;
    this.#say({ type: "handshake", peerID });
    for (const announce of this.#announces.values()) announce.confirmed = false;
    for (const lookup of this.#lookups.values()) lookup.sent = lookup.answered = false;
    this.#sendPending();
  }

  /** Gives the present mediator up, and tries another one after a while; one that goes away may have named some. */
  #lost(why: string, named: readonly string[] = []): void {
    const { clock, events } = this.#config;
    const url = this.mediator as string;
    if (this.#state === "established" && clock.now() - this.#establishedAt >= goodFor) this.#roster.lasted();
    this.#roster.learn(named);
    this.#drop();
    this.#timer = clock.after(this.#backoff(this.#roster.next()), () => this.#connect());
    this.#enter("waiting", url);
    events.trouble(`the mediator ${url}: ${why}`);
  }

  /**
   * The wait when all mediators were tried in vain so many times; 0: before another one is
   * tried. Each is drawn by chance, from the first one on, so that the peers of a mediator that
   * went down do not all come to another one at once, nor back: any time up to a hop, and then
   * what doubles with each round, less up to half of it.
   */
  #backoff(rounds: number): number {
    const { random } = this.#config;
    return rounds === 0 ? hop * random() : Math.min(lastRetry, firstRetry * 2 ** (rounds - 1)) * (0.5 + random() / 2);
  }

  #received(data: unknown): void {
    this.#heardAt = this.#config.clock.now();
    const message = decode(data);
    if (message instanceof DecodeError) {
      // A type that is not known yet is no fault: the protocol may grow.
      if (message.code !== "unknown_type") this.#lost(`it sent what is no message: ${message.message}`);
      return;
    }
    if (this.#state === "established") this.#handle(message);
    else if (message.type === "established") this.#established(message.iceServers, message.mediators);
    else if (message.type === "error") this.#refusedHandshake(message);
  }

  #refusedHandshake(error: ErrorMessage): void {
    if (error.code === "handshake_required") return; // what came behind one that was refused
    if (error.code === "peer_id_in_use") this.#handshake();
    else if (error.code === "going_away") this.#goneAway(error);
    else this.#lost(`it refused the handshake: ${error.message} (${error.code})`);
  }

  /** The mediator shuts down: the close would only cost time. */
  #goneAway({ message, mediators }: ErrorMessage): void {
    this.#lost(`it goes away: ${message}`, mediators);
  }

  #established(iceServers: readonly ICEServer[], mediators: readonly string[]): void {
    this.#timer();
    this.#establishedAt = this.#config.clock.now();
    this.#listen();
    this.#roster.learn(mediators);
    this.#enter("established", this.mediator as string);
    this.#config.events.established(iceServers);
  }

  /** Asks the mediator whether it is there, when nothing has come from it for a while. */
  #listen(): void {
    const { clock } = this.#config;
    const rest = this.#heardAt + silence - clock.now();
    if (rest <= 0) return this.#ping();
    this.#timer = clock.after(Math.max(1, rest), () => this.#listen());
  }

  #ping(): void {
    const { clock } = this.#config;
    const at = clock.now();
    this.#say({ type: "ping" });
    this.#timer = clock.after(patience, () => {
      if (this.#heardAt >= at) return this.#listen();
      if (clock.now() - at >= 2 * patience) return this.#ping(); // the page was asleep: so nothing could be heard
      this.#lost("it does not answer any more");
    });
  }

  /** Sends every lookup and announce that was not answered. */
  #sendPending(): void {
    for (const [fullHash, { answered }] of this.#lookups) {
      if (!answered) this.#ask(fullHash);
    }
    for (const [fullHash, { confirmed }] of this.#announces) {
      if (!confirmed) this.#say({ type: "announce", fullHash });
    }
  }

  #handle(message: Message): void {
    const { events } = this.#config;
    switch (message.type) {
      case "announced": {
        const announce = this.#announces.get(message.fullHash);
        if (announce === undefined) return;
        announce.confirmed = true;
        return events.announced(message.fullHash);
      }
      case "peers": {
        const lookup = this.#lookups.get(message.fullHash);
        if (lookup === undefined) return;
        lookup.answered = true;
        const others = message.peers.filter((id) => !this.#ownIDs.includes(id));
        const offered = others.find((id) => id === message.offered) ?? null; // it is one of them
        if (others.length > 0 || message.peers.length === 0) events.peers(message.fullHash, others, offered);
        return;
      }
      case "signal":
        return events.signal(message.fullHash, message.peerID, message.signalData);
      case "error":
        if (message.code === "going_away") return this.#goneAway(message);
        if (message.code === "rate_limited" || message.code === "overloaded") this.#resendLater();
        return events.refused(message);
      default:
        return; // nothing else is meant for a peer
    }
  }

  /** The mediator dropped something for want of room: what it did not answer is sent again, once. */
  #resendLater(): void {
    const { clock, random } = this.#config;
    this.#resend ??= clock.after(resendWait * (1 + random()), () => {
      this.#resend = null;
      this.#sendPending();
    });
  }
}

/** Opens a WebSocket of the browser. */
export const openWebSocket: OpenSocket = (url, events) => {
  let over = false;
  const close = (why: string): void => {
    if (over) return;
    over = true;
    events.closed(why);
  };
  let socket: WebSocket;
  try {
    socket = new WebSocket(url);
  } catch (error) {
    // A page that came over https may not open ws://.
    queueMicrotask(() => close((error as Error).message));
    return { send: () => {}, close: () => {}, bufferedAmount: 0 };
  }
  socket.onopen = () => events.opened();
  socket.onmessage = ({ data }) => {
    if (!over) events.received(data);
  };
  socket.onerror = () => close("it cannot be reached"); // a page's security policy may forbid it: then no close follows
  socket.onclose = ({ code, reason }) => close(reason === "" ? `the connection was closed (${code})` : reason);
  return {
    send: (text) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(text);
    },
    close: () => {
      over = true;
      socket.close();
    },
    get bufferedAmount() {
      return socket.bufferedAmount;
    },
  };
};
