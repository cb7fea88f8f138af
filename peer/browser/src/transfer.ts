/**
 * One content of this page: drives its swarm, verifies and stores its pieces, looks for
 * peers, and tells the page how far it is. It implements the Content of api.ts.
 */

import {
  CdnError,
  type Content,
  type ContentEvents,
  type Off,
  type PeerStatus,
  type Phase,
  type Progress,
  type State,
} from "./api.ts";
import type { Bytes } from "./bytes.ts";
import type { Cancel, Clock } from "./clock.ts";
import {
  type FullHash,
  formatLink,
  type Hash,
  type Info,
  type InfoDictionary,
  linkFragment,
  linkTo,
  toDictionary,
} from "./content.ts";
import { Emitter } from "./emitter.ts";
import type { PeerID } from "./ident.ts";
import type { Exchange, Peer } from "./peer.ts";
import type { EndCode } from "./rtc.ts";
import { Speed } from "./speed.ts";
import type { Store } from "./store.ts";
import { type Action, Swarm } from "./swarm.ts";
import { type Bits, type Block, type Frame, Reason, reasonText } from "./wire.ts";

/** What a transfer needs of the client. */
export interface TransferHost {
  readonly clock: Clock;
  readonly random: () => number;
  readonly maxPeersDownloading: number;
  readonly maxPeersServing: number;
  announce(hash: FullHash): void;
  getPeers(hash: FullHash): void;
  /** No more peers are needed. */
  found(hash: FullHash): void;
  /** The connection to the peer, begun if there is none; null where there may be no more connections. */
  reach(id: PeerID, hash: FullHash): Peer | null;
  /** The transfer ended: it is the client's no more. */
  ended(transfer: Transfer): void;
}

/** Peers that were named and not tried yet, as there is no room; what comes above is dropped. */
const maxCandidates = 256;

/** Liars that are not connected again. Ids are fresh for every connection, so more would keep nobody away. */
const maxBanned = 1024;

/** How often progress is told, in ms. */
const progressInterval = 100;

/** How often a speed that falls is told, in ms. */
const idleProgressInterval = 1_000;

/**
 * How long a download may stand still before its peers are asked for anew, in ms; it
 * doubles up to the longest. Long enough for a connection to be made in the meantime.
 */
const firstPatience = 15_000;
const longestPatience = 60_000;

/** What a peer is to this content. */
interface Member {
  readonly peer: Peer;
  received: number; // bytes of blocks
  sent: number;
}

/** A promise and its two ends. */
class Deferred<T> {
  readonly promise: Promise<T>;
  resolve!: (value: T) => void;
  reject!: (error: unknown) => void;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.promise.catch(() => {}); // whoever does not wait for it has the events
  }
}

export class Transfer implements Content, Exchange {
  readonly ready: Promise<InfoDictionary>;
  readonly done: Promise<Blob>;
  readonly #host: TransferHost;
  readonly #events: Emitter<ContentEvents>;
  readonly #ready = new Deferred<InfoDictionary>();
  readonly #done = new Deferred<Blob>();
  #name: string;
  #total: number; // bytes
  #hashed = 0; // bytes, in state "hashing"
  #state: State;
  #error: CdnError | null = null;
  #ended = false; // stopped or failed
  #announced = false; // the announce was sent
  #complete = false;
  readonly #timeline: Partial<Record<Phase, number>> = {};

  // Set once, by begin.
  #info: Info | null = null;
  #swarm: Swarm | null = null;
  #store: Store | null = null;
  #number = 0;

  readonly #members = new Map<PeerID, Member>(); // connecting, or in the swarm
  readonly #candidates = new Set<PeerID>(); // bounded by maxCandidates
  readonly #banned = new Set<PeerID>(); // bounded by maxBanned
  readonly #received = new Speed();
  readonly #sent = new Speed();
  #acting = false; // the swarm's actions are being carried out
  #tick: { at: number; cancel: Cancel } | null = null; // the swarm's next tick
  #restless: Cancel = () => {};
  #patience = firstPatience;
  #progressTimer: Cancel = () => {};
  #progressDue = false; // the timer is that of a change, not that of a falling speed
  #progressTold = Number.NEGATIVE_INFINITY; // when

  /** state is the first one: "hashing" or "searching"; total in bytes. */
  constructor(host: TransferHost, state: "hashing" | "searching", name: string, total: number) {
    this.#host = host;
    this.#state = state;
    this.#name = name;
    this.#total = total;
    this.#events = new Emitter((error) => this.#callbackFailed(error));
    this.ready = this.#ready.promise;
    this.done = this.#done.promise;
    this.reached("started", host.clock.now());
  }

  // What a page sees: Content.

  get state(): State {
    return this.#state;
  }

  get name(): string {
    return this.#name;
  }

  get info(): InfoDictionary | null {
    return this.#info === null ? null : toDictionary(this.#swarm?.info ?? this.#info);
  }

  get error(): CdnError | null {
    return this.#error;
  }

  get timeline(): Readonly<Partial<Record<Phase, number>>> {
    return { ...this.#timeline };
  }

  get progress(): Progress {
    const now = this.#host.clock.now();
    const have = this.#swarm?.have;
    return {
      bytes: this.#swarm?.haveBytes ?? this.#hashed,
      total: this.#total,
      pieces: have?.pieces ?? 0,
      verified: have?.count ?? 0,
      bitmap: have?.bytes() ?? new Uint8Array(),
      received: this.#received.total,
      sent: this.#sent.total,
      receiveSpeed: this.#received.at(now),
      sendSpeed: this.#sent.at(now),
    };
  }

  get peers(): readonly PeerStatus[] {
    const pieces = new Map(this.#swarm?.peers().map((peer) => [peer.id, peer.pieces]));
    return [...this.#members.values()].map(({ peer, received, sent }) => ({
      id: peer.id,
      state: pieces.has(peer.id) ? "open" : "connecting",
      pieces: pieces.get(peer.id) ?? 0,
      received,
      sent,
      ...(peer.rtt !== undefined && { rtt: peer.rtt }),
    }));
  }

  link(mediators: readonly string[] = []): string | null {
    return this.#info === null ? null : formatLink(linkTo(this.#info, mediators));
  }

  fragment(mediators: readonly string[] = []): string | null {
    return this.#info === null ? null : linkFragment(linkTo(this.#info, mediators));
  }

  on<E extends keyof ContentEvents>(event: E, fn: (value: ContentEvents[E]) => void): Off {
    return this.#events.on(event, fn);
  }

  stop(): void {
    if (this.#ended) return;
    this.#end(new CdnError("stopped", "the content was left before it was complete"));
    this.#enter("idle");
  }

  // What the client does.

  /** The hash of the content; the client asks only after begin. */
  get hash(): FullHash {
    return (this.#info as Info).fullHash;
  }

  get number(): number {
    return this.#number;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get wanting(): boolean {
    return !this.#complete && !this.#ended;
  }

  /** So many bytes of the file are hashed. */
  hashed(bytes: number): void {
    this.#hashed = bytes;
    this.#progressed();
  }

  /** The content is known: from here on it is exchanged. have are the pieces in the store, none by default. */
  begin(info: Info, number: number, store: Store, have?: Bits): void {
    this.#info = info;
    this.#name = info.fileName;
    this.#number = number;
    this.#total = info.totalLength;
    this.#store = store;
    this.#swarm = new Swarm({
      info,
      number,
      random: this.#host.random,
      check: have === undefined,
      ...(have !== undefined && { have }),
    });
    this.#complete = this.#swarm.complete;
    this.#ready.resolve(toDictionary(info));
    if (this.#complete) {
      void store.complete().then((blob) => this.#done.resolve(blob));
      this.#announce();
      this.#enter("connecting");
    } else {
      this.#host.getPeers(info.fullHash);
      this.#watch();
      this.#act();
    }
    this.#progressed();
  }

  /** The mediator named peers that have the content. */
  named(ids: readonly PeerID[]): void {
    if (this.#ended || this.#complete || ids.length === 0) return;
    this.reached("peers_named", this.#host.clock.now());
    for (const id of ids) {
      if (this.#members.has(id) || this.#banned.has(id) || this.#candidates.size >= maxCandidates) continue;
      this.#candidates.add(id);
    }
    this.roomMade();
  }

  /** A connection ended somewhere: there may be room for another peer. */
  roomMade(): void {
    if (this.#ended || this.#complete) return;
    for (const id of this.#candidates) {
      const calling = [...this.#members.values()].filter(({ peer }) => peer.outgoing).length;
      if (calling >= this.#host.maxPeersDownloading) return;
      const peer = this.#host.reach(id, this.hash);
      if (peer === null) continue;
      this.#candidates.delete(id);
      if (this.#members.has(id)) continue;
      this.#join(peer);
      peer.want(this);
    }
    this.#update();
  }

  /** The mediator has stored our announce. */
  announceStored(): void {
    this.reached("announced", this.#host.clock.now());
    if (this.#state === "connecting" && this.#complete) this.#enter("seeding");
  }

  /** There is another mediator, which has to store the announce first: until then nobody new finds us. */
  mediatorChanged(): void {
    if (this.#state === "seeding") this.#enter("connecting");
  }

  /** Something went wrong that does not end the content. */
  tell(error: CdnError): void {
    if (this.#ended) return;
    this.#error = error;
    this.#events.emit("error", error);
  }

  /** The content cannot go on. */
  fail(error: CdnError): void {
    if (this.#ended) return;
    this.#end(error);
    this.#error = error;
    this.#events.emit("error", error);
    this.#enter("failed");
  }

  /** Notes when a phase was first reached; what was before the content began counts from there. */
  reached(phase: Phase, at: number): void {
    if (this.#timeline[phase] !== undefined) return;
    const stamp = Math.max(at, this.#timeline.started ?? at);
    this.#timeline[phase] = stamp;
    this.#events.emit("phase", { phase, at: stamp });
  }

  // What a peer does: Exchange.

  greeted(peer: Peer): boolean {
    return !this.#ended && (this.#members.has(peer.id) || this.#members.size < this.#host.maxPeersServing);
  }

  attach(peer: Peer): void {
    if (this.#ended) return;
    this.#join(peer);
    peer.join(this);
    this.#swarm?.connected(peer.id, peer.maxFrame, this.#host.clock.now());
    this.#act();
    this.#update();
    this.#tellPeers();
  }

  received(peer: Peer, frame: Frame): void {
    if (this.#swarm === null || this.#ended) return;
    const now = this.#host.clock.now();
    if (frame.type === "piece") {
      const member = this.#members.get(peer.id);
      if (member !== undefined) member.received += frame.data.length;
      this.#received.add(frame.data.length, now);
      this.#progressed();
    }
    this.#swarm.received(peer.id, frame, now);
    this.#act();
    if (frame.type === "have_all" || frame.type === "bitfield") this.#tellPeers();
  }

  detach(peer: Peer, code: EndCode, message: string): void {
    const opened = peer.maxFrame > 0;
    this.#members.delete(peer.id);
    this.#swarm?.disconnected(peer.id, this.#host.clock.now());
    if (code === "bad_frame") this.tell(new CdnError("bad_peer", `peer ${peer.id.slice(0, 8)}: ${message}`));
    else if (code !== "closed" && !(opened && code === "closed_by_peer")) {
      this.tell(new CdnError("connection_failed", `peer ${peer.id.slice(0, 8)}: ${message}`));
    }
    this.#act();
    this.#membersChanged();
  }

  async read(block: Block): Promise<Bytes> {
    const store = this.#store as Store;
    try {
      return await store.read(block.piece, block.begin, block.length);
    } catch (error) {
      this.fail(new CdnError("content_unreadable", `the file cannot be read any more: ${(error as Error).message}`, { cause: error }));
      throw error;
    }
  }

  served(peer: Peer, bytes: number): void {
    const member = this.#members.get(peer.id);
    if (member !== undefined) member.sent += bytes;
    this.#sent.add(bytes, this.#host.clock.now());
    this.#progressed();
  }

  phase(phase: Phase): void {
    this.reached(phase, this.#host.clock.now());
  }

  peerChanged(): void {
    this.#tellPeers();
  }

  // Inside.

  #join(peer: Peer): void {
    if (this.#members.has(peer.id)) return;
    this.#members.set(peer.id, { peer, received: 0, sent: 0 });
    this.#candidates.delete(peer.id);
    this.#tellPeers();
  }

  #membersChanged(): void {
    if (this.#ended) return;
    this.roomMade();
    this.#update();
    this.#tellPeers();
  }

  /** Carries out what the swarm wants done, and what comes of that. */
  #act(): void {
    const swarm = this.#swarm;
    if (swarm === null || this.#acting) return; // whoever acts goes on until nothing is left
    this.#acting = true;
    try {
      for (let actions = swarm.actions(); actions.length > 0; actions = swarm.actions()) {
        for (const action of actions) this.#carryOut(action);
      }
    } finally {
      this.#acting = false;
    }
    this.#schedule(swarm);
  }

  #carryOut(action: Action): void {
    switch (action.type) {
      case "send":
        return this.#members.get(action.peer)?.peer.send(action.frame);
      case "load":
        return this.#members.get(action.peer)?.peer.upload(this, action.number, action.block);
      case "unload":
        return this.#members.get(action.peer)?.peer.cancel(this, action.number, action.block);
      case "keep":
        return void this.#keep(action.block, action.data);
      case "check":
        return void this.#check(action.info);
      case "verified":
        return this.#verified(action.piece);
      case "drop":
        return this.#dropped(action.peer, action.reason, action.banned);
      case "break":
        return this.#members.get(action.peer)?.peer.breach(action.why, this.hash);
      case "described":
        return this.#progressed();
      case "complete":
        return void this.#completed();
    }
  }

  /** Has a block hashed and written, and tells the swarm. */
  async #keep(block: Block, data: Bytes): Promise<void> {
    let hashes: readonly Hash[];
    try {
      hashes = await (this.#store as Store).keep(block.piece, block.begin, data);
    } catch (error) {
      return this.#storeFailed("a piece cannot be kept", error);
    }
    if (this.#ended) return;
    this.#swarm?.kept(block, hashes, this.#host.clock.now());
    this.#act();
  }

  /** Finds out what is there of an earlier visit. */
  async #check(info: Info): Promise<void> {
    let have: Bits;
    try {
      have = await (this.#store as Store).check(info);
    } catch (error) {
      return this.#storeFailed("what is there already cannot be looked at", error);
    }
    if (this.#ended) return;
    this.#swarm?.checked(have, this.#host.clock.now());
    if (have.count > 0) this.#announce();
    this.#act();
    this.#progressed();
  }

  /** A piece is there and right: from now on there is something to serve. */
  #verified(piece: number): void {
    this.#store?.settle(piece);
    this.reached("first_piece", this.#host.clock.now());
    this.#announce();
    this.#progressed();
  }

  #storeFailed(doing: string, error: unknown): void {
    const told = error instanceof CdnError ? error : new CdnError("store_failed", `${doing}: ${(error as Error).message}`, { cause: error });
    this.fail(told);
  }

  #dropped(id: PeerID, reason: number, banned: boolean): void {
    const member = this.#members.get(id);
    this.#members.delete(id);
    member?.peer.part(this);
    if (banned) {
      if (this.#banned.size < maxBanned) this.#banned.add(id);
      this.#candidates.delete(id);
    }
    if (reason === Reason.Poisoned || reason === Reason.WrongTotalLength || reason === Reason.WrongPieceLength) {
      const who = banned ? "sent wrong data and was left" : "left";
      this.tell(new CdnError("bad_peer", `peer ${id.slice(0, 8)} ${who}: ${reasonText(reason)}`));
    }
    this.#membersChanged();
  }

  /** Every piece is there: nobody is needed any more. */
  async #completed(): Promise<void> {
    this.#complete = true;
    this.#candidates.clear();
    this.#restless();
    this.#host.found(this.hash);
    for (const { peer } of [...this.#members.values()]) peer.admit(); // what waited for its turn
    let blob: Blob;
    try {
      blob = await (this.#store as Store).complete();
    } catch (error) {
      return this.#storeFailed("the content cannot be finished", error);
    }
    if (this.#ended) return;
    this.reached("complete", this.#host.clock.now());
    this.#enter("complete");
    this.#tellProgress();
    this.#done.resolve(blob);
  }

  #announce(): void {
    if (this.#announced) return;
    this.#announced = true;
    this.#host.announce(this.hash);
  }

  /** Sets a timer for the swarm's next tick. One that is due too early does no harm, so it stays. */
  #schedule(swarm: Swarm): void {
    const at = this.#ended ? null : swarm.nextTick();
    if (at === null || (this.#tick !== null && this.#tick.at <= at)) return;
    this.#tick?.cancel();
    const cancel = this.#host.clock.after(Math.max(0, at - this.#host.clock.now()), () => {
      this.#tick = null;
      if (this.#ended) return;
      swarm.tick(this.#host.clock.now());
      this.#act();
    });
    this.#tick = { at, cancel };
  }

  /** Looks after a download that stands still: its peers are asked for anew. */
  #watch(): void {
    const before = this.#received.total;
    const wait = this.#patience * (0.75 + this.#host.random() / 2); // so that leechers do not ask all at once
    this.#restless = this.#host.clock.after(wait, () => {
      const still = this.#received.total === before;
      this.#patience = still ? Math.min(2 * this.#patience, longestPatience) : firstPatience;
      if (still) {
        this.#replaceUseless();
        this.#host.getPeers(this.hash);
      }
      this.#watch();
    });
  }

  /**
   * Makes room for a peer that was not tried yet, in place of one that we called: first of
   * all one that does not answer, or else one that has nothing that we lack.
   */
  #replaceUseless(): void {
    if (this.#candidates.size === 0) return;
    const useless = (this.#swarm?.peers() ?? []).filter(({ id, silent, owes }) => {
      const peer = this.#members.get(id)?.peer;
      return (silent || owes === 0) && peer?.outgoing === true && !peer.usedBeside(this);
    });
    const worst = useless.find(({ silent }) => silent) ?? useless[0];
    if (worst !== undefined) this.#members.get(worst.id)?.peer.close();
  }

  /** Brings the state of a download in line with its peers. */
  #update(): void {
    if (this.#ended || this.#complete || this.#state === "hashing") return;
    const open = (this.#swarm?.peers().length ?? 0) > 0;
    this.#enter(open ? "downloading" : this.#members.size > 0 ? "connecting" : "searching");
  }

  #enter(state: State): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#events.emit("state", state);
  }

  #progressed(): void {
    if (this.#progressDue || this.#ended) return;
    this.#progressDue = true;
    this.#progressTimer();
    const wait = Math.max(0, this.#progressTold + progressInterval - this.#host.clock.now());
    this.#progressTimer = this.#host.clock.after(wait, () => this.#tellProgress());
  }

  #tellProgress(): void {
    this.#progressTimer();
    this.#progressDue = false;
    this.#progressTold = this.#host.clock.now();
    const { progress } = this;
    if (progress.receiveSpeed + progress.sendSpeed > 0) {
      this.#progressTimer = this.#host.clock.after(idleProgressInterval, () => this.#tellProgress());
    }
    this.#events.emit("progress", progress);
  }

  #tellPeers(): void {
    if (this.#events.heard("peers")) this.#events.emit("peers", this.peers);
  }

  /** Leaves everybody; what was promised and has not come is rejected. */
  #end(error: CdnError): void {
    this.#ended = true;
    this.#swarm?.leave();
    this.#act();
    this.#tick?.cancel();
    this.#restless();
    this.#progressTimer();
    for (const { peer } of this.#members.values()) peer.part(this); // those that are still connecting
    this.#members.clear();
    this.#candidates.clear();
    this.#ready.reject(error);
    this.#done.reject(error);
    this.#host.ended(this);
  }

  #callbackFailed(error: unknown): void {
    const told = new CdnError("callback_failed", `a function of the page threw: ${String(error)}`, { cause: error });
    this.#error = told;
    if (typeof reportError === "function") reportError(error);
  }
}
