/**
 * One content of this page: drives its swarm, has its blocks stored, looks for peers, and
 * tells the page how far it is. It implements the Content of api.ts.
 */

import {
  CdnError,
  type Content,
  type ContentEvents,
  type Off,
  type PeerStatus,
  type Phase,
  Phases,
  type Progress,
  type State,
} from "./api.ts";
import type { Bytes } from "./bytes.ts";
import type { Cancel, Clock } from "./clock.ts";
import {
  type FullHash,
  formatLink,
  type Geometry,
  geometryOf,
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
import { Readers } from "./reader.ts";
import type { Measure } from "./timeline.ts";
import { Asking, Known, Review } from "./seek.ts";
import { type Action, Swarm, type SwarmPeer } from "./swarm.ts";
import { Passing } from "./uplink.ts";
import { type Bits, type Block, type Frame, Reason, reasonText } from "./wire.ts";

/** What a transfer needs of the client. */
export interface TransferHost {
  readonly clock: Clock;
  readonly random: () => number;
  /** Whether so many bytes may be asked for now; see SwarmConfig. */
  readonly allow: (now: number, bytes: number) => number;
  readonly maxPeersDownloading: number;
  readonly maxPeersServing: number;
  announce(hash: FullHash): void;
  getPeers(hash: FullHash): void;
  /** No more peers are needed. */
  found(hash: FullHash): void;
  /** The connection to the peer, begun if there is none; null where there may be no more connections. */
  reach(id: PeerID, hash: FullHash): Peer | null;
  /** The connection to a peer that was handed the offer of what was prepared; null where that was of no use. */
  handed(id: PeerID, hash: FullHash): Peer | null;
  /** The open connections, the most promising first. */
  connected(): readonly Peer[];
  /** Notes a phase for the browser's own tools. */
  readonly measure: Measure;
  /** The transfer ended: it is the client's no more, once its store is closed. */
  ended(transfer: Transfer, closed: Promise<void>): void;
}

/** How often progress is told, in ms. */
const progressInterval = 100;

/** How often a speed that falls is told, in ms. */
const idleProgressInterval = 1_000;

/** How often a download looks after its peers, in ms: half of the shortest of their waits. */
const watchInterval = 500;

/**
 * How many of the open connections a download asks at once whether they have the content: a page's contents come
 * from the same peers, as a rule. Those who have it not say so after a round trip.
 */
const maxGuesses = 4;

/** What a peer is to this content. */
interface Member {
  readonly peer: Peer;
  guess: boolean; // nobody named it, and it did not say yet whether it has it
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
  readonly passing = new Passing();
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
  #reason: CdnError | null = null; // why it ended
  #discard = false; // what was fetched is not to be kept
  #announced = false; // the announce was sent
  #complete = false;
  /** Whether it is fetched, or a file of the page. */
  readonly role: "leecher" | "seeder";
  readonly #timeline: Partial<Record<Phase, number>> = {};

  // Set once, by named and opened.
  #info: Info | null = null;
  #geometry: Geometry | null = null;
  #number = 0;
  #swarm: Swarm | null = null; // once the store is open
  #store: Store | null = null;

  readonly #members = new Map<PeerID, Member>(); // connecting, or in the swarm
  readonly #known = new Known(); // named by the mediator
  readonly #asking: Asking;
  readonly #review: Review;
  readonly #readers: Readers;
  readonly #received = new Speed();
  readonly #sent = new Speed();
  #acting = false; // the swarm's actions are being carried out
  #tick: { at: number; cancel: Cancel } | null = null; // the swarm's next tick
  #watching: Cancel = () => {};
  #progressTimer: Cancel = () => {};
  #progressDue = false; // the timer is that of a change, not that of a falling speed
  #progressTold = Number.NEGATIVE_INFINITY; // when

  /** state is the first one: "hashing" or "searching"; total in bytes. */
  constructor(host: TransferHost, state: "hashing" | "searching", name: string, total: number) {
    this.#host = host;
    this.#state = state;
    this.role = state === "searching" ? "leecher" : "seeder";
    this.#name = name;
    this.#total = total;
    this.#events = new Emitter((error) => this.#callbackFailed(error));
    this.#asking = new Asking(host.random);
    this.#review = new Review(host.clock.now());
    this.#readers = new Readers({
      cut: async () => {
        await this.ready;
        return this.#geometry as Geometry;
      },
      has: (piece) => {
        if (this.#reason !== null) throw this.#reason;
        return this.#swarm?.have.has(piece) ?? false;
      },
      read: (piece, begin, length) => this.read({ piece, begin, length }),
      urged: () => this.#urge(),
    });
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
    const open = new Map(this.#swarm?.peers().map((peer) => [peer.id, peer]));
    return [...this.#members.values()].map(({ peer, guess, received, sent }) => {
      const { pieces, rate } = open.get(peer.id) ?? { pieces: 0, rate: 0 };
      const { rtt = null, dtls = null, snap } = peer.stats ?? {};
      return {
        id: peer.id,
        state: open.has(peer.id) && !guess ? "open" : "connecting",
        pieces,
        received,
        sent,
        rate,
        ...(rtt !== null && { rtt }),
        ...(dtls !== null && { dtls }),
        ...(snap !== undefined && { snap }),
      };
    });
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

  stream(begin = 0, end = this.#total): ReadableStream<Uint8Array> {
    if (!(begin >= 0 && begin <= end && end <= this.#total)) {
      throw new RangeError(`from ${begin} to ${end} of a content of ${this.#total} bytes`);
    }
    return this.#readers.stream(begin, end);
  }

  stop(): void {
    this.#stop(false);
  }

  discard(): void {
    this.#stop(true);
  }

  #stop(discard: boolean): void {
    if (this.#ended) return;
    this.#end(stopped(), discard);
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

  /** Whether it can be exchanged: its store is open. */
  get active(): boolean {
    return this.#swarm !== null && !this.#ended;
  }

  /** So many bytes of the file are hashed. */
  hashed(bytes: number): void {
    this.#hashed = bytes;
    this.#progressed();
  }

  /** The content is known. */
  describe(info: Info, number: number): void {
    this.#info = info;
    this.#geometry = geometryOf(info);
    this.#name = info.fileName;
    this.#number = number;
    this.#total = info.totalLength;
    for (const phase of Phases) this.#measure(phase); // those that were reached before
    this.#ready.resolve(toDictionary(info));
  }

  /**
   * The store is open: from here on the content is exchanged. info may know the piece hashes by
   * now; have are the pieces that the store is known to have; null: it has to be looked at. Where the
   * content ended in between, the store is closed again; resolves after that.
   */
  async opened(store: Store, info: Info, have: Bits | null): Promise<void> {
    if (this.#ended) return store.close(this.#discard);
    const { random, allow } = this.#host;
    this.#info = info;
    this.#store = store;
    this.#swarm = new Swarm({
      info,
      number: this.#number,
      random,
      allow,
      ...(have === null ? { check: true } : { have }),
    });
    this.#complete = this.#swarm.complete;
    if (this.#complete) {
      store.complete().then(this.#done.resolve, (error: unknown) => this.#storeFailed("the content cannot be read", error));
      this.#announce();
      this.#enter("connecting");
      this.#readers.wakeAll();
    } else {
      for (const { peer } of [...this.#members.values()]) peer.admit(); // who was found meanwhile
      for (const peer of this.#host.connected().slice(0, maxGuesses)) this.#call(peer, true);
      this.seek();
      this.#watch();
      this.#act();
    }
    this.#progressed();
  }

  /** Begins to look for peers, while the store is still being opened. */
  search(): void {
    this.#ask(this.#host.clock.now());
  }

  /** The mediator was asked for peers. */
  asked(offering: boolean): void {
    const now = this.#host.clock.now();
    this.reached("lookup_sent", now);
    if (offering) this.reached("offer_sent", now);
  }

  /** The mediator named peers that have the content, one of which it handed our offer; null: it did not. */
  named(ids: readonly PeerID[], offered: PeerID | null): void {
    if (this.#ended || this.#complete || ids.length === 0) return;
    this.reached("peers_named", this.#host.clock.now());
    for (const id of ids) this.#known.add(id);
    if (offered !== null && !this.#known.banned(offered) && (this.#members.has(offered) || this.#room() > 0)) {
      const peer = this.#host.handed(offered, this.hash);
      if (peer !== null) this.#call(peer, false);
    }
    this.seek();
  }

  /** The mediator does not know the peer any more. */
  unknown(id: PeerID): void {
    this.#known.delete(id);
  }

  /** Connects to peers that were named, as many as are wanted. */
  seek(): void {
    if (this.#ended || this.#complete || this.role === "seeder") return;
    let room = this.#room();
    if (room > 0) {
      for (const id of this.#known.due(this.#host.clock.now())) {
        if (room <= 0) break;
        if (this.#members.has(id)) continue;
        const peer = this.#host.reach(id, this.hash);
        if (peer === null) continue;
        this.#call(peer, false);
        room--;
      }
    }
    this.#update();
  }

  /** The mediator has stored our announce. */
  announceStored(): void {
    this.reached("announced", this.#host.clock.now());
    if (this.#state === "connecting" && this.#complete) this.#enter("seeding");
  }

  /**
   * There is another mediator. It has to store the announce first: until then nobody new finds
   * us. Peers that are with it will be named anew.
   */
  mediatorChanged(): void {
    this.#known.renew();
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
    if (this.#info !== null) this.#measure(phase);
    this.#events.emit("phase", { phase, at: stamp });
  }

  /** Notes a phase that was reached, from the start on, for the browser's own tools. */
  #measure(phase: Phase): void {
    const { started, [phase]: at } = this.#timeline;
    if (started !== undefined && at !== undefined && phase !== "started") this.#host.measure(phase, this.hash, started, at);
  }

  // What a peer does: Exchange.

  greeted(peer: Peer): boolean {
    return this.active && (this.#members.has(peer.id) || this.#members.size < this.#host.maxPeersServing);
  }

  attach(peer: Peer, likely: boolean): void {
    if (!this.active) return;
    this.#join(peer, false);
    peer.join(this);
    this.#swarm?.connected(peer.id, peer.maxFrame, likely, this.#host.clock.now());
    this.#act();
    this.#update();
    this.#tellPeers();
  }

  received(peer: Peer, frame: Frame): void {
    if (this.#swarm === null || this.#ended) return;
    const now = this.#host.clock.now();
    const member = this.#members.get(peer.id);
    if (member !== undefined && frame.type === "handshake") member.guess = false;
    if (frame.type === "piece") {
      if (member !== undefined) member.received += frame.data.length;
      this.#received.add(frame.data.length, now);
      this.#progressed();
    }
    this.#swarm.received(peer.id, frame, now);
    this.#act();
    if (frame.type === "handshake") this.#update();
    if (frame.type === "have_all" || frame.type === "bitfield") this.#tellPeers();
  }

  detach(peer: Peer, code: EndCode, message: string): void {
    const opened = peer.maxFrame > 0;
    const now = this.#host.clock.now();
    this.#members.delete(peer.id);
    this.#known.missed(peer.id, now);
    this.#swarm?.disconnected(peer.id, now);
    if (code === "bad_frame") this.tell(new CdnError("bad_peer", `peer ${peer.id.slice(0, 8)}: ${message}`));
    else if (code !== "closed" && !(opened && code === "closed_by_peer")) {
      this.tell(new CdnError("connection_failed", `peer ${peer.id.slice(0, 8)}: ${message}`));
    }
    this.#act();
    if (opened) this.#lost(now);
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

  #join(peer: Peer, guess: boolean): void {
    if (this.#members.has(peer.id)) return;
    this.#members.set(peer.id, { peer, guess, received: 0, sent: 0 });
    this.#tellPeers();
  }

  /** Wants a peer: because it was named, or on a guess. */
  #call(peer: Peer, guess: boolean): void {
    this.#join(peer, guess);
    peer.want(this);
  }

  #membersChanged(): void {
    if (this.#ended) return;
    this.seek();
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
    this.#readers.wakeAll();
    this.#act();
    this.#progressed();
  }

  /** A piece is there and right: from now on there is something to serve. */
  #verified(piece: number): void {
    this.#store?.settle(piece);
    this.reached("first_piece", this.#host.clock.now());
    this.#asking.went();
    this.#announce();
    this.#readers.wake(piece);
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
    const now = this.#host.clock.now();
    if (banned) this.#known.ban(id);
    else this.#known.missed(id, now);
    if (reason === Reason.Poisoned || reason === Reason.WrongTotalLength || reason === Reason.WrongPieceLength) {
      const who = banned ? "sent wrong data and was left" : "left";
      this.tell(new CdnError("bad_peer", `peer ${id.slice(0, 8)} ${who}: ${reasonText(reason)}`));
    }
    if (member?.guess !== true) this.#lost(now); // who was only guessed to have it is no loss
    this.#membersChanged();
  }

  /** Every piece is there: nobody is needed any more. */
  async #completed(): Promise<void> {
    this.#complete = true;
    this.#known.clear();
    this.#watching();
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

  /** Looks after a download's peers, now and then. */
  #watch(): void {
    this.#watching = this.#host.clock.after(watchInterval, () => {
      this.#watch();
      const now = this.#host.clock.now();
      if (this.#asking.due(now) && this.#useful().size === 0) {
        this.#ask(now);
        this.#makeRoom(now);
      }
      if (this.#review.due(now)) this.#replaceWorst(now);
      this.seek();
    });
  }

  /** Asks the mediator for peers. */
  #ask(now: number): void {
    this.#asking.asked(now);
    this.#host.getPeers(this.hash);
  }

  /** Sees to it that peers are asked for soon, if there is nobody left to fetch from. */
  #lost(now: number): void {
    if (this.wanting && this.#useful().size === 0) this.#asking.lost(now);
  }

  /** How many more peers are wanted. */
  #room(): number {
    const useful = this.#useful();
    let fetching = 0; // from whom we called, and from those who came and have something; and those to be
    for (const { peer } of this.#members.values()) {
      if (peer.outgoing || peer.state === "connecting" || useful.has(peer.id)) fetching++;
    }
    return this.#host.maxPeersDownloading - fetching;
  }

  /** The peers that were asked for something, or have more than we do, and answer. */
  #useful(): Set<PeerID> {
    const mine = this.#swarm?.have.count ?? 0;
    const peers = this.#swarm?.peers() ?? [];
    return new Set(peers.filter(({ silent, owes, pieces }) => !silent && (owes > 0 || pieces > mine)).map(({ id }) => id));
  }

  /** Whether we called the peer for this content alone, and may leave it. */
  #mayLeave(id: PeerID): boolean {
    const peer = this.#members.get(id)?.peer;
    return peer?.outgoing === true && !peer.usedBeside(this);
  }

  #hasUntried(now: number): boolean {
    return this.#known.due(now).some((id) => !this.#members.has(id));
  }

  /**
   * Leaves one of the peers that we called, none of which is of use now, if there is no room
   * for another one that could be tried: first of all one that does not answer.
   */
  #makeRoom(now: number): void {
    if (this.#room() > 0 || !this.#hasUntried(now)) return;
    const useless = (this.#swarm?.peers() ?? []).filter(({ id }) => this.#mayLeave(id));
    this.#close(useless.find(({ silent }) => silent) ?? useless[0]);
  }

  /** Where all places are taken and somebody waits who was not tried yet, the worst peer makes room. */
  #replaceWorst(now: number): void {
    const peers = this.#swarm?.peers() ?? [];
    const worst = this.#review.worst(peers, (id) => this.#mayLeave(id), now);
    if (worst !== null && this.#room() <= 0 && this.#hasUntried(now)) this.#close(peers.find(({ id }) => id === worst));
  }

  #close(peer: SwarmPeer | undefined): void {
    if (peer !== undefined) this.#members.get(peer.id)?.peer.close();
  }

  /** Tells the swarm what the readers wait for. */
  #urge(): void {
    if (!this.active || this.#complete) return;
    this.#swarm?.urge(this.#readers.ranges, this.#host.clock.now());
    this.#act();
  }

  /** Brings the state of a download in line with its peers. */
  #update(): void {
    if (this.#ended || this.#complete || this.#state === "hashing") return;
    const open = this.#swarm?.peers().some(({ id }) => this.#members.get(id)?.guess === false) === true;
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
  #end(error: CdnError, discard = false): void {
    this.#ended = true;
    this.#reason = error;
    this.#discard = discard;
    this.#swarm?.leave();
    for (const action of this.#swarm?.actions() ?? []) this.#carryOut(action);
    this.#tick?.cancel();
    this.#watching();
    this.#progressTimer();
    for (const { peer } of this.#members.values()) peer.part(this); // those that are still connecting
    this.#members.clear();
    this.#known.clear();
    this.#ready.reject(error);
    this.#done.reject(error);
    this.#readers.wakeAll();
    this.#host.ended(this, this.#store?.close(discard) ?? Promise.resolve());
  }

  #callbackFailed(error: unknown): void {
    const told = new CdnError("callback_failed", `a function of the page threw: ${String(error)}`, { cause: error });
    this.#error = told;
    if (typeof reportError === "function") reportError(error);
  }
}

function stopped(): CdnError {
  return new CdnError("stopped", "the content was left before it was complete");
}
