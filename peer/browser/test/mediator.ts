import assert from "node:assert/strict";
import type { FullHash } from "../src/content.ts";
import type { PeerID } from "../src/ident.ts";
import { decode, DecodeError, encode, type ErrorMessage, type ICEServer, type Message } from "../src/mediation.ts";
import type { OpenSocket, SocketEvents } from "../src/signaling.ts";
import type { FakeClock } from "./clock.ts";


/** A peer's connection to a fake mediator. */
export class Line {
  readonly url: string;
  readonly events: SocketEvents;
  readonly received: Message[] = [];
  peerID: PeerID | null = null;
  open = true;
  bufferedAmount = 0;

  constructor(url: string, events: SocketEvents) {
    this.url = url;
    this.events = events;
  }

  /** What came, by type, without pings, which come whenever nothing else does. */
  types(): string[] {
    return this.received.map(({ type }) => type).filter((type) => type !== "ping");
  }
}

/**
 * All mediators of a test: they share what they know, as over the DHT. What each does to
 * a message can be replaced.
 */
export class FakeMediators {
  readonly clock: FakeClock;
  /** How long a message travels to or from the mediator, in ms. */
  latency = 3;
  /** How many trips it takes until a socket is open, less what TCP and TLS take in truth. */
  opening = 1;
  /** Hands the offer of a get_peers to a seeder; without it a mediator of before offers. */
  offers = false;
  readonly lines: Line[] = []; // every connection that was ever made
  readonly down = new Set<string>(); // URLs where nobody answers
  readonly cutOff = new Set<string>(); // URLs from and to which nothing comes through any more, and nobody is told
  readonly #seeders = new Map<FullHash, Set<Line>>();
  readonly #interested = new Map<FullHash, Set<Line>>();
  iceServers: ICEServer[] = [];
  mediators: string[] = [];
  /** Answers in place of the mediator where it returns true. */
  intercept: (line: Line, message: Message) => boolean = () => false;

  constructor(clock: FakeClock) {
    this.clock = clock;
  }

  readonly openSocket: OpenSocket = (url, events) => {
    const line = new Line(url, events);
    this.lines.push(line);
    this.clock.after(this.opening * this.latency, () => {
      if (!line.open) return;
      if (this.down.has(url)) this.cut(line, "nobody answers");
      else events.opened();
    });
    return {
      send: (text) => {
        assert.ok(line.open, "a text after the end");
        this.clock.after(this.latency, () => {
          if (line.open && !this.cutOff.has(url)) this.#received(line, text);
        });
      },
      close: () => this.#gone(line),
      get bufferedAmount() {
        return line.bufferedAmount;
      },
    };
  };

  /** The connections that are open. */
  get open(): Line[] {
    return this.lines.filter((line) => line.open);
  }

  /** Breaks a connection. */
  cut(line: Line, why = "cut"): void {
    if (!line.open) return;
    this.#gone(line);
    line.events.closed(why);
  }

  /** Stops a mediator: its connections break, and nobody answers there any more. */
  stop(url: string): void {
    this.down.add(url);
    for (const line of this.open) {
      if (line.url === url) this.cut(line, "stopped");
    }
  }

  send(line: Line, message: Message): void {
    this.sendText(line, encode(message));
  }

  sendText(line: Line, text: unknown): void {
    this.clock.after(this.latency, () => {
      if (line.open && !this.cutOff.has(line.url)) line.events.received(text);
    });
  }

  refuse(line: Line, code: string, about: Partial<ErrorMessage> = {}): void {
    this.send(line, { type: "error", code, message: "no", ...about });
  }

  #gone(line: Line): void {
    line.open = false;
    for (const lines of [...this.#seeders.values(), ...this.#interested.values()]) lines.delete(line);
  }

  #received(line: Line, text: string): void {
    const message = decode(text);
    if (message instanceof DecodeError) return assert.fail(`the peer sent ${text}: ${message.message}`);
    line.received.push(message);
    if (!this.intercept(line, message)) this.#answer(line, message);
  }

  #answer(line: Line, message: Message): void {
    if (line.peerID === null && message.type !== "handshake") return this.refuse(line, "handshake_required");
    switch (message.type) {
      case "handshake":
        line.peerID = message.peerID;
        return this.send(line, { type: "established", iceServers: this.iceServers, mediators: this.mediators });
      case "announce": {
        this.#of(this.#seeders, message.fullHash).add(line);
        this.send(line, { type: "announced", fullHash: message.fullHash });
        const { peerID } = line;
        for (const other of this.#of(this.#interested, message.fullHash)) {
          if (other !== line && peerID !== null) this.send(other, { type: "peers", fullHash: message.fullHash, peers: [peerID] });
        }
        return;
      }
      case "get_peers": {
        this.#of(this.#interested, message.fullHash).add(line);
        // A mediator may name the asker itself, by an id that it has not forgotten.
        const seeders = [...this.#of(this.#seeders, message.fullHash)];
        const peers = seeders.flatMap(({ peerID }) => peerID ?? []);
        const taker = seeders.find((other) => other !== line);
        if (!this.offers || message.offer === undefined || !taker?.peerID || line.peerID === null) {
          return this.send(line, { type: "peers", fullHash: message.fullHash, peers });
        }
        this.send(line, { type: "peers", fullHash: message.fullHash, peers, offered: taker.peerID });
        return this.send(taker, { type: "signal", fullHash: message.fullHash, peerID: line.peerID, signalData: message.offer });
      }
      case "finish":
        this.#of(this.#seeders, message.fullHash).delete(line);
        return void this.#of(this.#interested, message.fullHash).delete(line);
      case "signal": {
        const to = this.open.find(({ peerID }) => peerID === message.peerID);
        if (to === undefined || line.peerID === null) {
          const { fullHash, peerID } = message;
          return this.refuse(line, "peer_not_found", { fullHash, peerID });
        }
        return this.send(to, { ...message, peerID: line.peerID });
      }
      case "ping":
        return this.send(line, { type: "pong" });
      default:
        assert.fail(`a peer sent ${message.type}`);
    }
  }

  #of(map: Map<FullHash, Set<Line>>, hash: FullHash): Set<Line> {
    const lines = map.get(hash) ?? new Set();
    map.set(hash, lines);
    return lines;
  }
}
