/**
 * The connection to a mediator: handshake, announces, lookups and signals, over one
 * WebSocket. It remembers what is announced and looked for, so a lost mediator is
 * replaced by the next one of the list and told everything anew.
 */

import type { Cancel, Clock } from "./clock.ts";
import { checkMediatorURL, type FullHash } from "./content.ts";
import { newPeerID, type PeerID, type RandomBytes } from "./ident.ts";
import { decode, DecodeError, encode, type ErrorMessage, type ICEServer, MaxMessageSize, type Message } from "./mediation.ts";

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
  /** Peers that seed the content, never ourselves; none: the search ended with nobody. */
  peers(hash: FullHash, peers: readonly PeerID[]): void;
  signal(hash: FullHash, from: PeerID, data: string): void;
  /** What the mediator answered to something that we sent. */
  refused(error: ErrorMessage): void;
  /** A mediator could not be reached or was lost, or it cannot be understood; the next one is tried. */
  trouble(message: string): void;
}

export interface SignalingConfig {
  readonly openSocket: OpenSocket;
  readonly clock: Clock;
  /** In [0, 1): spreads attempts over time. */
  readonly random: () => number;
  readonly randomBytes: RandomBytes;
  readonly events: SignalingEvents;
}

/** How long a mediator may take from the attempt to the answered handshake, in ms: several round trips of a bad network. */
const handshakeTimeout = 10_000;

/** The longest wait before another attempt doubles from the first to the last, in ms; up to half of it is taken off by chance. */
const firstWait = 1_000;
const longestWait = 30_000;

/** A mediator that was kept this long was a good one: the waits begin anew. In ms. */
const goodFor = 10_000;

/** How often a fresh id is tried on one connection. Random ids never meet; a mediator that says so is broken. */
const idAttempts = 3;

/** Bounds the list of mediators with those that mediators name. */
const maxMediators = 32;

/** Bounds what waits in the socket: signals above it are dropped, as the mediator does not read. */
const maxBuffered = 4 * MaxMessageSize;

/** How long after the mediator asked for patience the rest is sent again, in ms. */
const resendWait = 5_000;

/** Own earlier ids that are remembered: a mediator may name one that it has not forgotten yet. */
const maxFormerIDs = 16;

export class Signaling {
  readonly #config: SignalingConfig;
  readonly #mediators: string[] = []; // the first is the current or next one; bounded by maxMediators
  readonly #announces = new Map<FullHash, { confirmed: boolean }>(); // what we seed
  readonly #lookups = new Map<FullHash, { answered: boolean }>(); // what we look for
  readonly #ownIDs: PeerID[] = []; // the last is the present one; bounded by maxFormerIDs
  #state: MediatorState = "closed"; // so before start, too
  #over = false; // close was called
  #socket: Socket | null = null;
  #attempt = 0; // of the present socket; events of earlier ones are stale
  #handshakes = 0; // sent on this socket
  #failures = 0; // in a row
  #establishedAt = 0;
  #timer: Cancel = () => {};
  #resend: Cancel | null = null;

  /** It knows no mediator yet, and connects with start(). */
  constructor(config: SignalingConfig) {
    this.#config = config;
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
    return this.#mediators[0] ?? null;
  }

  /** Begins to connect, if there is a mediator to connect to and that did not begin yet. */
  start(): void {
    if (this.#state === "closed" && !this.#over && this.#mediators.length > 0) this.#connect();
  }

  /** Adds mediators to the end of the list; what is no mediator's URL, and what is known, is passed over. */
  addMediators(urls: readonly string[]): void {
    for (const url of urls) {
      if (this.#mediators.length >= maxMediators || this.#mediators.includes(url)) continue;
      try {
        checkMediatorURL(url);
      } catch {
        continue;
      }
      this.#mediators.push(url);
    }
  }

  /** Says that we seed the content, until finish(). */
  announce(hash: FullHash): void {
    if (this.#announces.has(hash)) return;
    this.#announces.set(hash, { confirmed: false });
    this.#sendNow({ type: "announce", fullHash: hash });
  }

  /** Asks for peers that seed the content, until found() or finish(). Asking again names all of them again. */
  getPeers(hash: FullHash): void {
    this.#lookups.set(hash, { answered: false });
    this.#sendNow({ type: "get_peers", fullHash: hash });
  }

  /** No more peers are needed for the content; the announce stays. */
  found(hash: FullHash): void {
    this.#lookups.delete(hash);
  }

  /** Ends the announce and the lookup. */
  finish(hash: FullHash): void {
    const announced = this.#announces.delete(hash);
    const lookedFor = this.#lookups.delete(hash);
    if (announced || lookedFor) this.#sendNow({ type: "finish", fullHash: hash });
  }

  /** Sends a signal; false where it cannot be sent now. It is not kept: our id would be another one then. */
  signal(hash: FullHash, to: PeerID, data: string): boolean {
    if (this.#socket !== null && this.#socket.bufferedAmount > maxBuffered) return false;
    return this.#sendNow({ type: "signal", fullHash: hash, peerID: to, signalData: data });
  }

  /** Ends the connection for good, and with it all announces. */
  close(): void {
    this.#over = true;
    this.#drop();
    if (this.#state !== "closed") this.#enter("closed", "");
  }

  #sendNow(message: Message): boolean {
    if (this.#state !== "established" || this.#socket === null) return false;
    this.#socket.send(encode(message));
    return true;
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
    socket?.close();
  }

  #connect(): void {
    const url = this.#mediators[0] as string;
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

  #handshake(): void {
    if (++this.#handshakes > idAttempts) return this.#lost("it refuses every id");
    const peerID = newPeerID(this.#config.randomBytes);
    if (this.#ownIDs.push(peerID) > maxFormerIDs) this.#ownIDs.shift();
    this.#socket?.send(encode({ type: "handshake", peerID }));
  }

  /** Gives the present mediator up, and tries the next one after a while. */
  #lost(why: string): void {
    const { clock, random, events } = this.#config;
    const url = this.#mediators.shift() as string;
    this.#mediators.push(url);
    const wasGood = this.#state === "established" && clock.now() - this.#establishedAt >= goodFor;
    this.#failures = wasGood ? 0 : this.#failures + 1;
    this.#drop();
    const longest = Math.min(longestWait, firstWait * 2 ** Math.max(0, this.#failures - 1));
    this.#timer = clock.after(longest * (0.5 + random() / 2), () => this.#connect());
    this.#enter("waiting", url);
    events.trouble(`the mediator ${url}: ${why}`);
  }

  #received(data: unknown): void {
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
    if (error.code === "peer_id_in_use") this.#handshake();
    else this.#lost(`it refused the handshake: ${error.message} (${error.code})`);
  }

  #established(iceServers: readonly ICEServer[], mediators: readonly string[]): void {
    this.#timer();
    this.#establishedAt = this.#config.clock.now();
    this.addMediators(mediators);
    this.#enter("established", this.#mediators[0] as string);
    this.#config.events.established(iceServers);
    for (const announce of this.#announces.values()) announce.confirmed = false;
    for (const lookup of this.#lookups.values()) lookup.answered = false;
    this.#sendPending();
  }

  /** Sends every lookup and announce that was not answered. */
  #sendPending(): void {
    for (const [fullHash, { answered }] of this.#lookups) {
      if (!answered) this.#sendNow({ type: "get_peers", fullHash });
    }
    for (const [fullHash, { confirmed }] of this.#announces) {
      if (!confirmed) this.#sendNow({ type: "announce", fullHash });
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
        if (others.length > 0 || message.peers.length === 0) events.peers(message.fullHash, others);
        return;
      }
      case "signal":
        return events.signal(message.fullHash, message.peerID, message.signalData);
      case "error":
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
