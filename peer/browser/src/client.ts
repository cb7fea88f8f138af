/**
 * The engine of a page: one connection to a mediator, peer connections that all
 * contents share, and the contents. Everything that it needs of the browser is handed in
 * by ClientSeams, so that tests run whole networks of clients in memory.
 */

import { CdnError, type ClientEvents, type ClientOptions, type Content, type Off, type SeedOptions } from "./api.ts";
import { type Bucket, bucketOf } from "./bucket.ts";
import { type Clock, pageClock } from "./clock.ts";
import {
  checkMediatorURL,
  ContentError,
  type Crew,
  type FullHash,
  Geometry,
  geometryOf,
  type Info,
  type InfoDictionary,
  infoOfLink,
  isMediaType,
  pageCrew,
  parseInfo,
  parseLink,
  DefaultPieceLength,
  sum,
  validateInfo,
} from "./content.ts";
import { Emitter } from "./emitter.ts";
import type { PeerID, RandomBytes } from "./ident.ts";
import { type ErrorMessage, type ICEServer, Path } from "./mediation.ts";
import { type Exchange, Peer } from "./peer.ts";
import { parseSignal, type Prepared, Transport } from "./rtc.ts";
import { type OpenSocket, openWebSocket, Signaling } from "./signaling.ts";
import { BlobStore, type Disk, MemoryBudget, memoryFor, openStore, pageDisk } from "./store.ts";
import { endpointOf, type Endpoint, formatTable, type Measure, pageMeasures, type Row, sinceStart } from "./timeline.ts";
import { Transfer } from "./transfer.ts";
import { Uplink } from "./uplink.ts";
import { Bits } from "./wire.ts";

/** What a client needs of the browser. */
export interface ClientSeams {
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  readonly randomBytes: RandomBytes;
  readonly openSocket: OpenSocket;
  /** null where the browser has no WebRTC. */
  readonly transport: Transport | null;
  /** Where contents are kept that are too large for memory. */
  readonly disk: Disk;
  /** Who hashes large files; without it the page does. */
  readonly crew?: Crew;
  /** Who notes the phases for the browser's own tools; without it nobody does. */
  readonly measure?: Measure;
  /** Whether the page came over https, and so reaches no ws:// mediator but on its own machine. */
  readonly securePage: boolean;
  /** The device's memory in GiB, roughly; null where the browser does not say. Bounds what is kept there. */
  readonly deviceMemory: number | null;
}

/** What a page says of a table of timings; all have defaults. */
export interface TableOptions {
  /** What was measured, in the page's own words. */
  readonly scenario?: string;
  /** Of the random numbers that chose the contents; 0 where none did. */
  readonly seed?: number;
  /** Distinct mediators between the peers; a page knows its own alone, so by default 1. */
  readonly mediators?: number;
  /** By default what the browser says of itself. */
  readonly endpoint?: Endpoint;
}

/** The browser itself. */
export function browserSeams(): ClientSeams {
  const supported = typeof RTCPeerConnection === "function" && typeof WebSocket === "function";
  return {
    clock: pageClock,
    random: Math.random,
    randomBytes: (into) => void crypto.getRandomValues(into),
    openSocket: openWebSocket,
    transport: supported ? new Transport(pageClock, (configuration) => new RTCPeerConnection(configuration)) : null,
    disk: pageDisk(),
    crew: pageCrew(),
    measure: pageMeasures(globalThis),
    securePage: typeof location === "object" && location.protocol === "https:",
    // Chromium alone says it, https://www.w3.org/TR/device-memory, to secure pages.
    deviceMemory: (navigator as { readonly deviceMemory?: number }).deviceMemory ?? null,
  };
}

/** Eight peers fill any visitor's line; more only cost connections. */
const defaultPeersDownloading = 8;

/** What a visitor's uplink can share before each part gets too small. */
const defaultPeersServing = 32;

/** Chromium allows 500 RTCPeerConnections a page, but each costs memory and a socket. */
const defaultConnections = 48;

/** How many peers are sent something at a time, in turn: together they fill any uplink. */
const defaultUploadSlots = 8;

/** Of how many mediators the ICE servers are remembered: of as many as the roster knows. */
const maxICENamed = 32;

/** How many contents a page may have at a time: as many numbers as the wire protocol has would be 65536. */
const maxContents = 4096;

/**
 * The mediators of a page where it is told of none: `?mediator=` parameters of its
 * address, or else the mediator that served the page, `ws(s)://<host>/mediation`; behind
 * them those of the link after #, if there is one.
 */
export function defaultMediators(location: { readonly href: string }): string[] {
  const url = new URL(location.href);
  const named = url.searchParams.getAll("mediator");
  const own = /^https?:$/.test(url.protocol) ? [`${url.protocol.replace("http", "ws")}//${url.host}${Path}`] : [];
  const mediators = named.length > 0 ? named : own;
  return [...new Set([...mediators, ...linkMediators(url.hash)])];
}

function linkMediators(hash: string): readonly string[] {
  try {
    return hash.length > 1 ? parseLink(hash).mediators : [];
  } catch {
    return []; // no link; whoever asked for the content says so
  }
}

/** One page's part in the network. */
export class Client {
  readonly #seams: ClientSeams;
  readonly #options: ClientOptions;
  readonly #signaling: Signaling;
  readonly #events: Emitter<ClientEvents>;
  readonly #transfers = new Map<FullHash, Transfer>(); // bounded by maxContents
  readonly #hashing = new Map<Transfer, AbortController>();
  readonly #peers = new Map<PeerID, Peer>(); // bounded by maxConnections
  readonly #stores = new Map<FullHash, Promise<void>>(); // that are being opened or closed
  readonly #memory: MemoryBudget; // of the contents that are kept there
  readonly #uplink: Uplink;
  readonly #downlink: Bucket | null; // what is asked for; null: no limit
  #openedAt: { mediator_open?: number; established?: number } = {}; // of the present connection, for the timelines
  #given: readonly string[]; // the mediators that were given or derived, until #start
  #iceOverride: readonly RTCIceServer[] | null;
  #iceServers: readonly ICEServer[] = []; // as the mediator names them
  readonly #iceNamed = new Map<string, readonly ICEServer[]>(); // by mediators before, by URL; bounded by maxICENamed
  /**
   * The connection that is prepared for whoever has the content. One at a time: two
   * offers that are handed to the same peer would replace each other.
   */
  #prepared: { readonly hash: FullHash; readonly of: Prepared; asked: boolean } | null = null; // asked: its offer was sent
  #number = 0; // the last content number that was given
  #closed = false;
  #allEnded: (() => void) | null = null; // resolves close()

  /** It begins to connect to a mediator at once. Nothing throws here: what cannot work is told by get and seed. */
  constructor(options: ClientOptions = {}, seams: ClientSeams = browserSeams()) {
    this.#options = options;
    this.#seams = seams;
    this.#iceOverride = options.iceServers ?? null;
    this.#memory = new MemoryBudget(memoryFor(seams.deviceMemory));
    this.#uplink = new Uplink({
      clock: seams.clock,
      slots: options.uploadSlots ?? defaultUploadSlots,
      limit: options.uploadLimit ?? 0,
      peerLimit: options.peerUploadLimit ?? 0,
    });
    this.#downlink = bucketOf(options.downloadLimit ?? 0);
    this.#events = new Emitter((error) => {
      if (typeof reportError === "function") reportError(error);
    });
    this.#given = options.mediators ?? (typeof location === "object" ? defaultMediators(location) : []);
    this.#signaling = new Signaling({
      ...seams,
      offer: (hash) => this.#offer(hash),
      events: {
        state: (url, state) => {
          if (state !== "established") this.#openedAt = {};
          this.#events.emit("mediator", { url, state });
        },
        opened: () => this.#reached("mediator_open"),
        established: (iceServers) => {
          this.#iceServers = iceServers.filter(usable);
          this.#remember(this.#iceServers);
          for (const transfer of [...this.#transfers.values()]) transfer.mediatorChanged();
          this.#reached("established");
        },
        announced: (hash) => this.#transfers.get(hash)?.announceStored(),
        asked: (hash, offering) => this.#transfers.get(hash)?.asked(offering),
        peers: (hash, peers, offered) => this.#named(hash, peers, offered),
        signal: (hash, from, data) => this.#signalled(hash, from, data),
        refused: (error) => this.#refused(error),
        trouble: (message) => this.#tell(new CdnError("mediator_unreachable", message)),
      },
    });
    seams.clock.after(0, () => this.#start()); // so that who listens right after the construction hears it
  }

  /** Our peer id at the present mediator; null while there is none. It changes with every connection. */
  get peerID(): string | null {
    return this.#signaling.peerID;
  }

  /** The contents that are seeded or downloaded, in the order in which they became known. */
  get contents(): readonly Content[] {
    return [...this.#transfers.values()];
  }

  /**
   * How long each step took for each content: the table of Go's common/timeline, as CSV. Throws a CdnError "unsupported" in a
   * browser that the table does not know, unless the options name one that it is like.
   */
  timelineCSV({ scenario = "", seed = 0, mediators = 1, endpoint }: TableOptions = {}): string {
    const runsIn = endpoint ?? endpointOf(typeof navigator === "object" ? navigator.userAgent : "");
    if (runsIn === null) throw new CdnError("unsupported", "the table knows Chromium and Firefox alone");
    const rows: Row[] = [];
    for (const transfer of this.#transfers.values()) {
      const { role, timeline, error, state, progress } = transfer;
      const complete = role === "leecher" ? timeline.complete !== undefined : timeline.announced !== undefined;
      // A content of a connection that was there already is the next one of these two peers.
      const next = role === "leecher" && complete && timeline.channel_open === undefined;
      rows.push({
        scenario,
        seed,
        index: rows.length + 1,
        flow: "fast",
        endpoint: runsIn,
        role,
        mediators,
        contentBytes: progress.total,
        content: next ? (rows.at(-1)?.content ?? 1) + 1 : 1,
        peer: (this.peerID ?? "").slice(0, 8),
        outcome: complete ? "complete" : "failed",
        errorCode: complete ? "" : (error?.code ?? "unfinished"),
        error: complete ? "" : (error?.message ?? `it is ${state}`),
        phases: sinceStart(timeline),
      });
    }
    return formatTable(rows);
  }

  on<E extends keyof ClientEvents>(event: E, fn: (value: ClientEvents[E]) => void): Off {
    return this.#events.on(event, fn);
  }

  /** The ICE servers to use from now on, in place of those that the mediator names; null: the mediator's again. */
  overrideICEServers(servers: readonly RTCIceServer[] | null): void {
    this.#iceOverride = servers;
  }

  /**
   * Seeds a file: hashes it, announces it, and serves it while the page lives. Throws a
   * CdnError where the page cannot take part ("unsupported", "no_mediator", "stopped");
   * what goes wrong with the file is told by the content. A content of the same hash is
   * replaced.
   */
  seed(file: Blob, options: SeedOptions = {}): Content {
    this.#start();
    this.#checkReady();
    const name = options.name ?? ("name" in file && typeof file.name === "string" ? file.name : "");
    const transfer = new Transfer(this.#host, "hashing", name, file.size);
    this.#carryPhases(transfer);
    const abort = new AbortController();
    this.#hashing.set(transfer, abort);
    void this.#hash(transfer, file, name, options, abort.signal);
    return transfer;
  }

  /**
   * Downloads a content, and serves it while the page lives. The source is an info
   * dictionary (an object, or its JSON) or a link (with or without its scheme, or a whole
   * page address). Throws a ContentError where it is malformed, and a CdnError where the
   * page cannot take part. A content that is there already is returned as it is.
   */
  get(source: string | InfoDictionary): Content {
    const { info, mediators } = readSource(source);
    this.#start(mediators);
    this.#checkReady();
    const known = this.#transfers.get(info.fullHash);
    if (known !== undefined) return known;
    const transfer = new Transfer(this.#host, "searching", info.fileName, info.totalLength);
    this.#carryPhases(transfer);
    this.#begin(transfer, info, null);
    return transfer;
  }

  /**
   * Leaves everything: contents end, peers and the mediator are told. Resolves when
   * every connection and every store is closed. The client is of no use afterwards.
   */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      for (const transfer of [...this.#hashing.keys(), ...this.#transfers.values()]) transfer.stop();
      for (const peer of [...this.#peers.values()]) peer.close();
      this.#unprepare();
      this.#signaling.close();
    }
    if (this.#peers.size > 0) {
      await new Promise<void>((resolve) => {
        const before = this.#allEnded;
        this.#allEnded = () => {
          before?.();
          resolve();
        };
      });
    }
    await Promise.all(this.#stores.values());
  }

  // Inside.

  /** What the transfers see of us. */
  get #host(): ConstructorParameters<typeof Transfer>[0] {
    return {
      clock: this.#seams.clock,
      random: this.#seams.random,
      allow: (now, bytes) => this.#downlink?.take(bytes, now) ?? 0,
      maxPeersDownloading: this.#options.maxPeersDownloading ?? defaultPeersDownloading,
      maxPeersServing: this.#options.maxPeersServing ?? defaultPeersServing,
      announce: (hash) => this.#signaling.announce(hash),
      getPeers: (hash) => this.#signaling.getPeers(hash),
      found: (hash) => {
        this.#unprepare(hash);
        this.#signaling.found(hash);
      },
      reach: (id, hash) => this.#reach(id, hash),
      handed: (id, hash) => this.#handed(id, hash),
      connected: () => this.#connected(),
      ended: (transfer, closed) => this.#transferEnded(transfer, closed),
      measure: this.#seams.measure ?? (() => {}),
    };
  }

  /** Connects to a mediator, if that did not begin yet; those that were given go before others. */
  #start(others: readonly string[] = []): void {
    if (this.#closed || this.#seams.transport === null) return;
    for (const url of this.#given) this.#checkGiven(url);
    this.#signaling.addMediators(this.#given);
    this.#given = [];
    this.#signaling.addMediators(others);
    this.#signaling.start();
  }

  /** What the page itself names wrongly is told; it is passed over all the same. */
  #checkGiven(url: string): void {
    try {
      checkMediatorURL(url);
    } catch (error) {
      const { code, message } = error as ContentError;
      this.#tell(new CdnError(code, message, { cause: error }));
    }
  }

  #checkReady(): void {
    if (this.#closed) throw new CdnError("stopped", "the client is closed");
    if (this.#seams.transport === null) throw new CdnError("unsupported", "this browser has no WebRTC or no WebSocket");
    if (this.#signaling.mediator === null) {
      throw new CdnError("no_mediator", "no mediator is known: name one as ws://host:port/mediation or wss://…");
    }
    if (this.#transfers.size + this.#hashing.size >= maxContents) {
      throw new CdnError("overloaded", `a page has at most ${maxContents} contents`);
    }
  }

  async #hash(transfer: Transfer, file: Blob, name: string, options: SeedOptions, signal: AbortSignal): Promise<void> {
    try {
      const pieceLength = options.pieceLength ?? DefaultPieceLength(file.size);
      const geometry = new Geometry(file.size, pieceLength);
      const summary = await sum(geometry, file, { crew: this.#seams.crew, signal, progress: (bytes) => transfer.hashed(bytes) });
      if (transfer.ended) return;
      const info: Info = {
        ...summary,
        fileName: name,
        contentType: options.type ?? (isMediaType(file.type) ? file.type : ""),
        totalLength: file.size,
        pieceLength,
      };
      validateInfo({ ...info, pieceHashes: null }); // of the names; the hashes are our own
      this.#hashing.delete(transfer);
      this.#transfers.get(info.fullHash)?.stop();
      this.#begin(transfer, info, file);
    } catch (error) {
      transfer.fail(
        error instanceof ContentError
          ? new CdnError(error.code, error.message, { cause: error })
          : new CdnError("content_unreadable", `the file cannot be read: ${(error as Error).message}`, { cause: error }),
      );
    }
  }

  #begin(transfer: Transfer, info: Info, file: Blob | null): void {
    this.#transfers.set(info.fullHash, transfer);
    transfer.describe(info, this.#freeNumber());
    if (file === null) {
      this.#prepare(info.fullHash);
      transfer.search();
      this.#withStore(info.fullHash, () => this.#open(transfer, info));
    } else {
      const geometry = geometryOf(info);
      const typed = file.slice(0, file.size, info.contentType);
      void transfer.opened(new BlobStore(geometry, typed), info, Bits.full(geometry.pieces));
    }
  }

  async #open(transfer: Transfer, asked: Info): Promise<void> {
    try {
      const { store, info, fresh, why } = await openStore(asked, this.#options.storage ?? "auto", this.#seams.disk, this.#memory);
      await transfer.opened(store, info, fresh ? new Bits(geometryOf(info).pieces) : null);
      if (why !== null) transfer.tell(new CdnError("store_failed", why));
    } catch (error) {
      transfer.fail(error as CdnError);
    }
  }

  /** Does something with the store of a content, after what was begun before: it is opened once at a time. */
  #withStore(hash: FullHash, work: () => Promise<void>): void {
    const before = this.#stores.get(hash);
    const done = (before === undefined ? work() : before.then(work)).then(() => {
      if (this.#stores.get(hash) === done) this.#stores.delete(hash);
    });
    this.#stores.set(hash, done);
  }

  /** A content number that no content has; there are more of them than contents. */
  #freeNumber(): number {
    const taken = new Set([...this.#transfers.values()].map(({ number }) => number));
    do {
      this.#number = (this.#number % 0xffff) + 1;
    } while (taken.has(this.#number));
    return this.#number;
  }

  #transferEnded(transfer: Transfer, closed: Promise<void>): void {
    this.#hashing.get(transfer)?.abort();
    if (this.#hashing.delete(transfer)) return;
    this.#withStore(transfer.hash, () => closed);
    if (this.#transfers.get(transfer.hash) !== transfer) return;
    this.#transfers.delete(transfer.hash);
    this.#unprepare(transfer.hash);
    this.#signaling.finish(transfer.hash);
  }

  #exchange(hash: FullHash): Exchange | undefined {
    const transfer = this.#transfers.get(hash);
    return transfer?.active === true ? transfer : undefined;
  }

  /**
   * Prepares a connection for a content whose peers are not known yet, unless one is prepared already; or there are any
   * that it can share, or will be: a second offer would disturb one that is being made with the same peer.
   */
  #prepare(hash: FullHash): void {
    const { transport } = this.#seams;
    if (transport === null || this.#prepared !== null || this.#peers.size >= this.#most) return;
    if ([...this.#peers.values()].some(({ state, outgoing }) => state === "open" || (state === "connecting" && outgoing))) return;
    const of = transport.prepare(this.#likelyICEServers, {
      ready: () => this.#signaling.release(),
      ended: () => this.#takeBack(),
    });
    if (of !== null) this.#prepared = { hash, of, asked: false };
  }

  /**
   * What goes with the lookup of a content. All wait a moment for what is being prepared: those without an offer would find
   * the same peers before the one that has it, and call them beside it.
   */
  #offer(hash: FullHash): string | null | "later" {
    if (this.#prepared === null) return null;
    if (!this.#prepared.of.ready) {
      this.#prepared.of.wait();
      return "later";
    }
    if (this.#prepared.hash !== hash) return null;
    const offer = this.#prepared.of.offer();
    this.#prepared.asked ||= offer !== null;
    return offer;
  }

  /** Takes what is prepared for the content, if anything is. */
  #takePrepared(hash: FullHash): Prepared | null {
    if (this.#prepared?.hash !== hash) return null;
    const { of } = this.#prepared;
    this.#prepared = null;
    this.#signaling.release(); // without the offer, which somebody gets now
    return of;
  }

  /** Closes what is prepared for the content, by default for any: it is not needed any more. */
  #unprepare(hash: FullHash | undefined = this.#prepared?.hash): void {
    if (this.#prepared === null || this.#prepared.hash !== hash) return;
    this.#prepared.of.close();
    this.#prepared = null;
    this.#signaling.release();
  }

  /**
   * Closes what is prepared, and has the mediator hand out its offer no more: nobody took it in time, or somebody is
   * connected, who may be the one who would get it.
   */
  #takeBack(): void {
    if (this.#prepared === null) return;
    const { hash, asked } = this.#prepared;
    this.#unprepare();
    if (asked && this.#transfers.get(hash)?.wanting === true) this.#signaling.getPeers(hash);
  }

  /** The ICE servers that the mediator will name: those of the last time, or itself; it serves STUN at the same port as a rule. */
  get #likelyICEServers(): readonly RTCIceServer[] {
    if (this.#iceOverride !== null) return this.#iceOverride;
    const { mediator } = this.#signaling;
    return mediator === null ? [] : (this.#iceNamed.get(mediator) ?? [stunOf(mediator)].filter(usable));
  }

  #remember(servers: readonly ICEServer[]): void {
    const mediator = this.#signaling.mediator as string;
    this.#iceNamed.delete(mediator);
    this.#iceNamed.set(mediator, servers);
    for (const [oldest] of this.#iceNamed) {
      if (this.#iceNamed.size <= maxICENamed) return;
      this.#iceNamed.delete(oldest);
    }
  }

  /** The mediator named peers of a content; an offer that none of them could take is of no use to anybody else. */
  #named(hash: FullHash, peers: readonly PeerID[], offered: PeerID | null): void {
    this.#transfers.get(hash)?.named(peers, offered);
    if (offered !== null || peers.length === 0) this.#unprepare(hash);
  }

  /** The peer was handed the offer of what is prepared for the content: that is the connection to it, if there is none. */
  #handed(id: PeerID, hash: FullHash): Peer | null {
    const prepared = this.#takePrepared(hash);
    if (prepared === null) return null; // an earlier one was handed it, too, or it took too long
    const known = this.#peers.get(id);
    if (known !== undefined) {
      if (known.conn === null) prepared.close();
      else known.conn.handed(prepared);
      return known.state === "closed" ? null : known;
    }
    return this.#connect(id, hash, true, prepared, true);
  }

  /** The connection to the peer, which is called if there is none; null where there is no room, or no mediator now. */
  #reach(id: PeerID, hash: FullHash): Peer | null {
    const known = this.#peers.get(id);
    if (known !== undefined) return known.state === "closed" ? null : known;
    return this.#connect(id, hash, true, this.#takePrepared(hash));
  }

  /** The open connections, those first that we began: others came to get something. */
  #connected(): Peer[] {
    const open = [...this.#peers.values()].filter(({ state }) => state === "open");
    return [...open.filter(({ outgoing }) => outgoing), ...open.filter(({ outgoing }) => !outgoing)];
  }

  #connect(id: PeerID, hash: FullHash, outgoing: boolean, prepared: Prepared | null = null, handed = false): Peer | null {
    const local = this.#signaling.peerID;
    const { transport, clock } = this.#seams;
    if (transport === null || local === null || this.#connections >= this.#most) {
      prepared?.close();
      return null;
    }
    const peer = new Peer(
      { clock, uplink: this.#uplink, exchange: (of) => this.#exchange(of), ended: (gone) => this.#peerEnded(gone) },
      id,
      hash,
      outgoing,
    );
    this.#peers.set(id, peer);
    peer.begin(
      transport.connect({
        local,
        remote: id,
        offerer: outgoing,
        iceServers: () => this.#iceOverride ?? this.#iceServers,
        ...(prepared !== null && { prepared, handed }),
        handler: {
          // A mediator that was lost in between knows us by another id: the attempt runs out.
          signal: (data) => void this.#signaling.signal(hash, id, data),
          phase: (phase) => peer.phase(phase),
          opened: (maxFrame) => {
            this.#takeBack();
            peer.opened(maxFrame);
          },
          frame: (frame) => peer.frame(frame),
          drained: () => peer.drained(),
          closed: (code, message) => peer.closed(code, message),
        },
      }),
    );
    return peer;
  }

  /** All connections, the prepared one included. */
  get #connections(): number {
    return this.#peers.size + (this.#prepared === null ? 0 : 1);
  }

  /** The most connections. */
  get #most(): number {
    return this.#options.maxConnections ?? defaultConnections;
  }

  /** Whether one more peer may connect to us: some places are for those that we need. */
  get #mayAnswer(): boolean {
    const ours = Math.min(this.#options.maxPeersDownloading ?? defaultPeersDownloading, this.#most >> 1);
    const answered = [...this.#peers.values()].filter(({ outgoing }) => !outgoing).length;
    return answered < this.#most - ours;
  }

  #peerEnded(peer: Peer): void {
    this.#peers.delete(peer.id);
    if (this.#closed) {
      if (this.#peers.size === 0) this.#allEnded?.();
      return;
    }
    for (const transfer of [...this.#transfers.values()]) transfer.seek();
  }

  #signalled(hash: FullHash, from: PeerID, data: string): void {
    const signal = parseSignal(data);
    if (signal === null) return;
    let peer: Peer | null | undefined = this.#peers.get(from);
    // Only an offer begins something, and only for a content that is here.
    if (peer === undefined && signal.type === "offer" && this.#exchange(hash) !== undefined && this.#mayAnswer) {
      peer = this.#connect(from, hash, false);
    }
    peer?.conn?.signal(signal);
  }

  /** The mediator refused something: it is told to the content that it is about. */
  #refused({ code, message, fullHash, peerID }: ErrorMessage): void {
    const error = new CdnError(code, message);
    if (code === "peer_not_found" && peerID !== undefined) {
      // Nobody will answer: no need to wait until the attempt runs out.
      for (const transfer of this.#transfers.values()) transfer.unknown(peerID);
      const peer = this.#peers.get(peerID);
      if (peer?.state === "connecting") peer.close("lost", "the mediator does not know it any more");
      return;
    }
    const transfer = fullHash === undefined ? undefined : this.#transfers.get(fullHash);
    if (transfer !== undefined) transfer.tell(error);
    else this.#tell(error);
  }

  #tell(error: CdnError): void {
    this.#events.emit("error", error);
  }

  #reached(phase: "mediator_open" | "established"): void {
    const now = this.#seams.clock.now();
    this.#openedAt[phase] = now;
    for (const transfer of [...this.#hashing.keys(), ...this.#transfers.values()]) transfer.reached(phase, now);
  }

  /** What was reached before the content began counts for it, too. */
  #carryPhases(transfer: Transfer): void {
    for (const phase of ["mediator_open", "established"] as const) {
      const at = this.#openedAt[phase];
      if (at !== undefined) transfer.reached(phase, at);
    }
  }
}

function readSource(source: string | InfoDictionary): { info: Info; mediators: readonly string[] } {
  if (typeof source !== "string") return { info: parseInfo(JSON.stringify(source)), mediators: [] };
  if (source.trimStart().startsWith("{")) return { info: parseInfo(source), mediators: [] };
  const link = parseLink(source);
  return { info: infoOfLink(link), mediators: link.mediators };
}

/** The mediator as a STUN server. */
function stunOf(mediator: string): ICEServer {
  const { protocol, hostname, port } = new URL(mediator);
  return { urls: [`stun:${hostname}:${port || (protocol === "wss:" ? 443 : 80)}`] };
}

/** Whether a browser takes the server: RTCPeerConnection throws for all of them where one is malformed. */
function usable({ urls, username, credential }: ICEServer): boolean {
  const relay = urls.some((url) => /^turns?:/i.test(url));
  return urls.every((url) => /^(stun|turn)s?:[^\s/@]+$/i.test(url)) && (!relay || (username !== undefined && credential !== undefined));
}
