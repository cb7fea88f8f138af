/**
 * Connects two peers by WebRTC, as Go's peer/rtc. It is the only room that knows
 * RTCPeerConnection; what it offers in return is small: a Conn takes signals in, gives
 * signals out, and carries frames.
 *
 * There is one peer connection per remote peer, with one reliable, ordered data
 * channel. The offerer opens it in-band and speaks first (see Go's common/wire), so the
 * answerer's connection counts as open when the first frame has come; the answerer closes
 * a channel of another label. Candidates are trickled; remote ones that come before the remote description
 * wait for it.
 *
 * Glare: when both sides offer at once, the offer of the lower peer id stands. Its
 * sender ignores the other offer; the side with the higher id drops its own and answers.
 *
 * A connection can be prepared before it is known with whom (rtc/prepared.ts): a mediator hands its offer to
 * a peer, and says to whom. There may be something with that peer already, which neither side
 * could know. So both are kept, and the answer decides, which says to what offer it is; of an answer that
 * was given and one that is received, glare decides.
 */

import type { Bytes } from "./bytes.ts";
import type { Cancel, Clock } from "./clock.ts";
import type { PeerID } from "./ident.ts";
import { Prepared, type PreparedEvents } from "./rtc/prepared.ts";
import { maxWaiting, Session } from "./rtc/session.ts";
import { formatSignal, fragmentOf, type Signal } from "./rtc/signal.ts";
import { ChannelLabel, MaxFrame, MinFrame } from "./wire.ts";

export type { Prepared } from "./rtc/prepared.ts";
export { formatSignal, parseSignal, type Signal } from "./rtc/signal.ts";

/** How long a connection may take to open, in ms: nobody waits longer than this. */
export const ConnectTimeout = 20_000;

/** How long a peer may be unreachable before its connection is given up, in ms. */
export const LostAfter = 8_000;

/**
 * How many bytes may wait in a channel: above HighWater nothing that can wait is sent,
 * until it falls to LowWater, which is a few milliseconds of a fast network.
 */
export const HighWater = 1 << 20;
export const LowWater = 256 << 10;

/** Bounds what is queued for a peer that does not read: HighWater, and room for the short frames that do not wait. */
const hardLimit = 4 << 20;

/** How long close waits for what was sent to leave, in ms: a goodbye is short. */
const flushTimeout = 500;

/**
 * How long after the answer a connection may take before it is begun anew, in ms, where it was made with other ICE
 * servers than those that the mediator names: with a relay it may work. Most are open by then, so hardly one is disturbed.
 */
const secondTry = 2_000;

/** Remote signals that may wait to be handled: two descriptions and all candidates that they may have. */
const maxSignals = 2 * maxWaiting;

/** Why a connection ended. "closed": we closed it, and all is well. */
export type EndCode =
  | "closed"
  | "timeout" // it did not open in time
  | "lost" // the network between broke
  | "closed_by_peer"
  | "stalled" // the peer does not read
  | "bad_frame" // the peer sent a text, or takes frames that are too short
  | "bad_signal"; // a description that cannot be used, or more signals than anybody needs

/** The steps of a connection, for the timeline. */
export type ConnPhase = "offer_sent" | "offer_received" | "answer_sent" | "answer_received" | "ice_connected" | "dtls_connected";

/** Hears what happens to a connection; never called during connect() or a method of the Conn. */
export interface Handler {
  /** Hands out a signal for the remote peer, to be sent in order. */
  signal(data: string): void;
  phase(phase: ConnPhase): void;
  /** Frames can be sent, of at most maxFrame bytes. Those that come have up to MaxFrame. */
  opened(maxFrame: number): void;
  /** Hands over a frame, which is the receiver's own. */
  frame(frame: Bytes): void;
  /** What waits in the channel fell to LowWater. */
  drained(): void;
  /** The connection ended: exactly once, and last of all. */
  closed(code: EndCode, message: string): void;
}

/** Says who is to be connected with whom, and how. */
export interface Peering {
  /** Glare is resolved by these two. */
  readonly local: PeerID;
  readonly remote: PeerID;
  /** Whether this side offers; an answerer waits for an offer. */
  readonly offerer: boolean;
  /** Those that are to be used now. */
  readonly iceServers: () => readonly RTCIceServer[];
  readonly handler: Handler;
  /** What was prepared, for an offerer; without it everything begins now. It is the connection's own from now on. */
  readonly prepared?: Prepared;
  /** Whether a mediator handed the prepared offer to the peer: then it is not sent. */
  readonly handed?: boolean;
}

/** What is measured of a connection. */
export interface Stats {
  /** The round trip in ms, as ICE measures it; null where it is not known. */
  readonly rtt: number | null;
  /** The version of DTLS, such as "1.2"; null where it is not known. */
  readonly dtls: string | null;
  /** Whether the parameters of SCTP were exchanged with the descriptions (SNAP). */
  readonly snap: boolean;
}

/** A connection to a peer. */
export interface Conn {
  /** Hands in a signal of the remote peer. */
  signal(signal: Signal): void;
  /**
   * Says that a mediator handed the offer of what was prepared to the peer. It is the connection's own from now on: used where
   * the peer answers it, or else closed.
   */
  handed(prepared: Prepared): void;
  /** Queues a copy of a frame. Where the connection is not open, nothing happens: closed says so. */
  send(frame: Bytes): void;
  /** Bytes that were sent and have not left. */
  readonly buffered: number;
  /** Ends the connection once what was sent has left, or soon. Handler.closed comes when it is done. */
  close(code?: EndCode, message?: string): void;
  stats(): Promise<Stats>;
}

/** Makes connections of the given RTCPeerConnections. */
export class Transport {
  readonly #clock: Clock;
  readonly #create: (configuration: RTCConfiguration) => RTCPeerConnection;

  constructor(clock: Clock, create: (configuration: RTCConfiguration) => RTCPeerConnection) {
    this.#clock = clock;
    this.#create = create;
  }

  /** Begins a connection. It ends with Handler.closed, which comes also where it cannot even begin. */
  connect(peering: Peering): Conn {
    return new PeerConn(peering, this.#clock, this.#create);
  }

  /** Begins a connection with whoever will be found; null where that cannot be. */
  prepare(iceServers: readonly RTCIceServer[], events: PreparedEvents): Prepared | null {
    try {
      return new Prepared(this.#clock, new Session(this.#create, iceServers, true), events);
    } catch {
      return null; // with whoever is found it begins as ever, and fails there
    }
  }
}

class PeerConn implements Conn {
  readonly #peering: Peering;
  readonly #clock: Clock;
  readonly #create: (configuration: RTCConfiguration) => RTCPeerConnection;
  #session: Session | null = null; // null for an answerer that waits for an offer
  #spare: Session | null = null; // another offer of ours that the peer was handed; null once the connection is open
  #channel: RTCDataChannel | null = null; // null before it is open
  #opened = false; // the handler was told so
  #tasks: Promise<void> = Promise.resolve(); // signals are handled one after the other
  #signals = 0; // waiting in #tasks
  #ended = false;
  #deadline: Cancel;
  #disconnected: Cancel = () => {};
  #secondTry: Cancel = () => {};
  #givenUp: Session | null = null; // for a second try; there is one at most

  constructor(peering: Peering, clock: Clock, create: (configuration: RTCConfiguration) => RTCPeerConnection) {
    this.#peering = peering;
    this.#clock = clock;
    this.#create = create;
    this.#deadline = clock.after(ConnectTimeout, () => this.close("timeout", "the connection did not open in time"));
    if (peering.offerer) this.#call(peering.prepared?.take() ?? null, peering.handed === true);
  }

  get buffered(): number {
    return this.#channel?.bufferedAmount ?? 0;
  }

  signal(signal: Signal): void {
    if (this.#signals >= maxSignals) return this.close("bad_signal", "the peer sends more signals than anybody needs");
    this.#signals++;
    this.#do(async () => {
      this.#signals--;
      await this.#signalled(signal);
    });
  }

  /** Offers, by what was prepared where there is something, and that perhaps with the peer already. */
  #call(prepared: Session | null, handed: boolean): void {
    if (prepared === null) return this.#do(() => this.#offer());
    this.#session = this.#own(prepared);
    this.#do(() => (handed ? this.#trickle(prepared) : this.#send(prepared)));
  }

  handed(prepared: Prepared): void {
    const spare = prepared.take();
    if (spare === null) return;
    const { local, remote } = this.#peering;
    const answered = this.#session?.offering === false; // an offer of the peer's, which stands if its id is the lower one
    if (this.#ended || this.#channel !== null || this.#spare !== null || (answered && local > remote)) return spare.close();
    this.#spare = this.#own(spare);
    this.#do(() => this.#trickle(spare));
  }

  send(frame: Bytes): void {
    const channel = this.#channel;
    if (channel === null || !this.#opened || this.#ended || channel.readyState !== "open") return;
    if (channel.bufferedAmount > hardLimit) return this.close("stalled", "the peer does not read");
    try {
      channel.send(frame);
    } catch (error) {
      this.close("stalled", `sending a frame: ${(error as Error).message}`);
    }
  }

  close(code: EndCode = "closed", message = ""): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#deadline();
    this.#disconnected();
    this.#secondTry();
    this.#dropSpare();
    const session = this.#session;
    const channel = this.#channel;
    let told = false;
    const end = (): void => {
      if (told) return;
      told = true;
      stopWaiting();
      if (channel !== null) channel.onclose = null;
      session?.close();
      this.#peering.handler.closed(code, message);
    };
    // The channel sends what waits before it closes; the peer connection would not.
    const flush = channel?.readyState === "open" && code !== "lost";
    const stopWaiting = this.#clock.after(flush ? flushTimeout : 0, end);
    if (flush) {
      channel.onmessage = null;
      channel.onbufferedamountlow = null;
      channel.onclose = end;
      channel.close();
    }
  }

  async stats(): Promise<Stats> {
    const session = this.#session;
    const stats = await session?.pc.getStats();
    let rtt: number | null = null;
    let dtls: string | null = null;
    stats?.forEach((report: { type: string; nominated?: boolean; currentRoundTripTime?: number; tlsVersion?: string }) => {
      if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime !== undefined) {
        rtt = 1000 * report.currentRoundTripTime;
      }
      if (report.type === "transport" && report.tlsVersion !== undefined) dtls = versionOf(report.tlsVersion);
    });
    return { rtt, dtls, snap: session?.snap ?? false };
  }

  /** Runs a task after those before it; a failure ends the connection. */
  #do(task: () => Promise<void>): void {
    this.#tasks = this.#tasks.then(async () => {
      if (this.#ended) return;
      try {
        await task();
      } catch (error) {
        this.close("bad_signal", `agreeing on a connection: ${(error as Error).message}`);
      }
    });
  }

  #tell(signal: Signal): void {
    this.#peering.handler.signal(formatSignal(signal));
  }

  /** Begins a session in place of the one before. */
  #begin(offering: boolean): Session {
    const session = this.#own(new Session(this.#create, this.#peering.iceServers(), offering));
    this.#session?.close();
    this.#session = session;
    this.#secondTry();
    return session;
  }

  /** Listens to a session. What a spare tells is of no interest. */
  #own(session: Session): Session {
    const { pc, channel } = session;
    const present = (): boolean => session === this.#session;
    pc.oniceconnectionstatechange = () => {
      if (present()) this.#iceChanged(session, pc.iceConnectionState);
    };
    pc.onconnectionstatechange = () => {
      if (present() && pc.connectionState === "failed") this.#failed(session, "the connection failed");
    };
    pc.ondatachannel = ({ channel: theirs }) => {
      if (theirs.label === ChannelLabel && theirs.ordered && reliable(theirs)) this.#watch(session, theirs);
      else theirs.close(); // whatever becomes of it, it is not ours
    };
    if (channel !== null) this.#watch(session, channel);
    return session;
  }

  #dropSpare(): void {
    this.#spare?.close();
    this.#spare = null;
  }

  #iceChanged(session: Session, state: RTCIceConnectionState): void {
    this.#disconnected();
    if (state === "connected" || state === "completed") this.#peering.handler.phase("ice_connected");
    if (state === "failed") this.#failed(session, "no way to the peer was found");
    if (state === "disconnected") {
      this.#disconnected = this.#clock.after(LostAfter, () => this.close("lost", "the connection was lost"));
    }
  }

  async #offer(): Promise<void> {
    await this.#send(this.#begin(true));
  }

  /** Sends our description, as soon as there is one. */
  async #send(session: Session): Promise<void> {
    await session.describe();
    if (this.#ended) return;
    const sdp = session.write();
    if (session.offering) {
      this.#tell({ type: "offer", sdp });
    } else {
      const to = session.remoteFragment;
      this.#tell({ type: "answer", sdp, ...(to !== "" && { to }) });
    }
    await this.#trickle(session);
    this.#peering.handler.phase(session.offering ? "offer_sent" : "answer_sent");
  }

  /** The peer has our description: it is told our candidates. */
  async #trickle(session: Session): Promise<void> {
    session.trickle((candidate) => this.#tell({ type: "candidate", candidate }));
  }

  /** After the channel is open there is nothing left to agree on but candidates. */
  async #signalled(signal: Signal): Promise<void> {
    switch (signal.type) {
      case "offer":
        if (this.#channel === null) await this.#offered(signal.sdp);
        return;
      case "answer":
        if (this.#channel === null) await this.#answered(signal.sdp, signal.to);
        return;
      case "candidate":
        if (signal.candidate !== null) await this.#session?.take(signal.candidate);
    }
  }

  /**
   * Answers an offer. Against our own offer, that of the lower id stands. A new offer
   * of a peer that we answered already replaces the earlier one; the same one again does not.
   */
  async #offered(sdp: string): Promise<void> {
    const { local, remote, handler } = this.#peering;
    const before = this.#session;
    if (before?.offering && local < remote) return;
    const fragment = fragmentOf(sdp);
    if (before?.remoteSet && !before.offering && fragment !== "" && fragment === before.remoteFragment) return;
    if (local > remote) this.#dropSpare(); // theirs stands
    const session = this.#begin(false);
    handler.phase("offer_received");
    await session.setRemote({ type: "offer", sdp });
    if (this.#ended) return;
    await this.#send(session);
    this.#watchDTLS(session);
  }

  /** Takes the answer to an offer of ours, once. */
  async #answered(sdp: string, to: string | undefined): Promise<void> {
    const offers = [this.#session, this.#spare].filter((one): one is Session => one?.offering === true);
    // A peer that does not say which it means answers the only one, as a rule.
    const session = offers.find((one) => (to === undefined ? !one.remoteSet : one.fragment === to));
    if (session === undefined || session.remoteSet) return;
    if (session === this.#spare) this.#useSpare(session);
    this.#peering.handler.phase("answer_received");
    await session.setRemote({ type: "answer", sdp });
    if (this.#ended) return;
    this.#watchDTLS(session);
    this.#secondTry();
    this.#secondTry = this.#clock.after(secondTry, () => this.#tryAgain(session));
  }

  /** The peer took the offer that it was handed. One that it was sent beside it may be what it takes in the end. */
  #useSpare(spare: Session): void {
    const before = this.#session;
    this.#session = spare;
    this.#spare = before?.offering && !before.remoteSet ? before : null;
    if (before !== this.#spare) before?.close();
  }

  /**
   * Begins anew with the servers that the mediator names, where the present ones are others, as the mediator was not
   * there yet; false where they are the same, or it is too late.
   */
  #tryAgain(session: Session): boolean {
    if (this.#opened || session !== this.#session || !session.offering) return false;
    if (this.#givenUp !== null || same(session.servers, this.#peering.iceServers())) return false;
    this.#givenUp = session;
    this.#dropSpare();
    this.#do(() => this.#offer());
    return true;
  }

  #failed(session: Session, why: string): void {
    if (session !== this.#givenUp && !this.#tryAgain(session)) this.close("lost", why);
  }

  /** Tells when the handshake of DTLS is done, where the browser says so. */
  #watchDTLS(session: Session): void {
    const dtls = session.pc.sctp?.transport;
    if (dtls === undefined) return;
    const look = (): void => {
      if (dtls.state !== "connected" || session !== this.#session || this.#ended) return;
      dtls.onstatechange = null;
      this.#peering.handler.phase("dtls_connected");
    };
    dtls.onstatechange = look;
    look();
  }

  /** Waits for the channel to open. */
  #watch(session: Session, channel: RTCDataChannel): void {
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LowWater;
    channel.onopen = () => this.#take(session, channel);
    channel.onmessage = ({ data }: MessageEvent<unknown>) => {
      this.#take(session, channel); // a channel that brings something is open
      if (this.#ended || channel !== this.#channel) return;
      this.#open(session);
      if (this.#ended) return;
      if (data instanceof ArrayBuffer) this.#peering.handler.frame(new Uint8Array(data));
      else this.close("bad_frame", "the peer sent a text");
    };
    channel.onbufferedamountlow = () => {
      if (!this.#ended && channel === this.#channel) this.#peering.handler.drained();
    };
    channel.onclose = () => {
      if (session === this.#session) this.close("closed_by_peer", "the peer closed the connection");
    };
    if (channel.readyState === "open") this.#take(session, channel); // that of ondatachannel may be
  }

  /** Takes an open channel as the connection's own. */
  #take(session: Session, channel: RTCDataChannel): void {
    if (this.#ended || session !== this.#session || channel === this.#channel) return;
    if (this.#channel !== null) {
      channel.onclose = null;
      return channel.close(); // a second one of the same label: one is enough
    }
    this.#channel = channel;
    if (session.offering) this.#open(session); // the answerer's opens with the first frame
  }

  /** Tells that the connection is open, once. */
  #open(session: Session): void {
    if (this.#opened) return;
    this.#opened = true;
    this.#deadline();
    this.#secondTry();
    this.#dropSpare();
    const maxFrame = Math.min(session.pc.sctp?.maxMessageSize || MaxFrame, MaxFrame); // 0: any size
    if (maxFrame < MinFrame) return this.close("bad_frame", `the peer takes frames of ${maxFrame} bytes only`);
    this.#peering.handler.opened(maxFrame);
  }
}

function reliable({ maxRetransmits, maxPacketLifeTime }: RTCDataChannel): boolean {
  return maxRetransmits === null && maxPacketLifeTime === null;
}

/** Whether both name the same servers, in the same order. */
function same(a: readonly RTCIceServer[], b: readonly RTCIceServer[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** The version of DTLS that getStats names by the two bytes of the protocol, in hex (RFC 9147, section 5.3). */
function versionOf(bytes: string): string | null {
  const versions: Readonly<Record<string, string>> = { FEFF: "1.0", FEFD: "1.2", FEFC: "1.3" };
  return versions[bytes.toUpperCase()] ?? null;
}
