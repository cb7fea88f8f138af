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
 */

import type { Bytes } from "./bytes.ts";
import { utf8Length } from "./bytes.ts";
import type { Cancel, Clock } from "./clock.ts";
import type { PeerID } from "./ident.ts";
import { MaxSignalData } from "./mediation.ts";
import { ChannelLabel, MaxFrame, MinFrame } from "./wire.ts";

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

/** Remote candidates that may wait for the description. Any single working one is enough, so what comes above is dropped. */
const maxWaiting = 64;

/** Remote signals that may wait to be handled: two descriptions and all candidates that they may have. */
const maxSignals = 2 * maxWaiting;

/** Bounds a candidate's text, in bytes: a host name of 255 and the fixed fields, with room for extensions. */
const maxCandidate = 1024;

/** What one peer says to the other by way of the mediators. */
export type Signal =
  | { readonly type: "offer" | "answer"; readonly sdp: string }
  /** null: there are no more. */
  | { readonly type: "candidate"; readonly candidate: RTCIceCandidateInit | null };

/** Parses signal_data; null where it is no signal of this project. */
export function parseSignal(text: string): Signal | null {
  if (utf8Length(text) > MaxSignalData) return null;
  let fields: Partial<Record<string, unknown>>;
  try {
    fields = Object(JSON.parse(text)) as typeof fields;
  } catch {
    return null;
  }
  const { type, sdp, candidate } = fields;
  if (type === "offer" || type === "answer") {
    return typeof sdp === "string" && sdp.includes("m=application") ? { type, sdp } : null;
  }
  return type === "candidate" ? parseCandidate(candidate) : null;
}

function parseCandidate(value: unknown): Signal | null {
  if (value === null) return { type: "candidate", candidate: null };
  if (typeof value !== "object") return null;
  const { candidate, sdpMid, sdpMLineIndex, usernameFragment } = value as Partial<Record<string, unknown>>;
  if (candidate === "") return { type: "candidate", candidate: null }; // older browsers say so that there are no more
  if (typeof candidate !== "string" || utf8Length(candidate) > maxCandidate) return null;
  return {
    type: "candidate",
    candidate: {
      candidate,
      sdpMid: typeof sdpMid === "string" ? sdpMid : null,
      sdpMLineIndex: typeof sdpMLineIndex === "number" ? sdpMLineIndex : null,
      usernameFragment: typeof usernameFragment === "string" ? usernameFragment : null,
    },
  };
}

/** The signal as signal_data. */
export function formatSignal(signal: Signal): string {
  return JSON.stringify(signal);
}

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
export type ConnPhase = "offer_sent" | "offer_received" | "answer_sent" | "answer_received" | "ice_connected";

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
  readonly iceServers: readonly RTCIceServer[];
  readonly handler: Handler;
}

/** A connection to a peer. */
export interface Conn {
  /** Hands in a signal of the remote peer. */
  signal(signal: Signal): void;
  /** Queues a copy of a frame. Where the connection is not open, nothing happens: closed says so. */
  send(frame: Bytes): void;
  /** Bytes that were sent and have not left. */
  readonly buffered: number;
  /** Ends the connection once what was sent has left, or soon. Handler.closed comes when it is done. */
  close(code?: EndCode, message?: string): void;
  /** The round trip in ms, as ICE measures it; null where it is not known. */
  rtt(): Promise<number | null>;
}

/** Begins a connection. It ends with Handler.closed, which comes also where it cannot even begin. */
export type Connect = (peering: Peering) => Conn;

/** Makes connections of the given RTCPeerConnections. */
export function connector(clock: Clock, create: (configuration: RTCConfiguration) => RTCPeerConnection): Connect {
  return (peering) => new PeerConn(peering, clock, create);
}

/** One RTCPeerConnection. A connection has one, and a second one after it lost a glare. */
interface Session {
  readonly pc: RTCPeerConnection;
  readonly offering: boolean;
  described: boolean; // our description was sent: candidates may follow
  remoteSet: boolean;
  readonly local: (RTCIceCandidateInit | null)[]; // candidates that wait for our description to be sent
  readonly waiting: RTCIceCandidateInit[]; // remote ones that wait for the remote description; bounded by maxWaiting
}

class PeerConn implements Conn {
  readonly #peering: Peering;
  readonly #clock: Clock;
  readonly #create: (configuration: RTCConfiguration) => RTCPeerConnection;
  #session: Session | null = null; // null for an answerer that waits for an offer
  #channel: RTCDataChannel | null = null; // null before it is open
  #opened = false; // the handler was told so
  #tasks: Promise<void> = Promise.resolve(); // signals are handled one after the other
  #signals = 0; // waiting in #tasks
  #ended = false;
  #deadline: Cancel;
  #disconnected: Cancel = () => {};

  constructor(peering: Peering, clock: Clock, create: (configuration: RTCConfiguration) => RTCPeerConnection) {
    this.#peering = peering;
    this.#clock = clock;
    this.#create = create;
    this.#deadline = clock.after(ConnectTimeout, () => this.close("timeout", "the connection did not open in time"));
    if (peering.offerer) this.#do(() => this.#offer());
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
    const session = this.#session;
    const channel = this.#channel;
    let told = false;
    const end = (): void => {
      if (told) return;
      told = true;
      stopWaiting();
      if (channel !== null) channel.onclose = null;
      if (session !== null) discard(session);
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

  async rtt(): Promise<number | null> {
    const stats = await this.#session?.pc.getStats();
    let rtt: number | null = null;
    stats?.forEach((report: { type: string; nominated?: boolean; currentRoundTripTime?: number }) => {
      if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime !== undefined) {
        rtt = 1000 * report.currentRoundTripTime;
      }
    });
    return rtt;
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

  #send(signal: Signal): void {
    this.#peering.handler.signal(formatSignal(signal));
  }

  #begin(offering: boolean): Session {
    const pc = this.#create({ iceServers: [...this.#peering.iceServers] });
    const session: Session = { pc, offering, described: false, remoteSet: false, local: [], waiting: [] };
    if (this.#session !== null) discard(this.#session);
    this.#session = session;
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate === "") return; // the end of one section; null follows
      const found = candidate?.toJSON() ?? null;
      if (session.described) this.#send({ type: "candidate", candidate: found });
      else session.local.push(found);
    };
    pc.oniceconnectionstatechange = () => this.#iceChanged(pc.iceConnectionState);
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === "failed") this.close("lost", "the connection failed");
    };
    pc.ondatachannel = ({ channel }) => {
      if (channel.label === ChannelLabel && channel.ordered && reliable(channel)) this.#watch(session, channel);
      else channel.close(); // whatever becomes of it, it is not ours
    };
    return session;
  }

  #iceChanged(state: RTCIceConnectionState): void {
    this.#disconnected();
    if (state === "connected" || state === "completed") this.#peering.handler.phase("ice_connected");
    if (state === "failed") this.close("lost", "no way to the peer was found");
    if (state === "disconnected") {
      this.#disconnected = this.#clock.after(LostAfter, () => this.close("lost", "the connection was lost"));
    }
  }

  async #offer(): Promise<void> {
    const session = this.#begin(true);
    this.#watch(session, session.pc.createDataChannel(ChannelLabel));
    await this.#describe(session, "offer");
    this.#peering.handler.phase("offer_sent");
  }

  /** Makes our description, which starts the gathering, and sends it. */
  async #describe(session: Session, type: "offer" | "answer"): Promise<void> {
    const { pc } = session;
    await pc.setLocalDescription(type === "offer" ? await pc.createOffer() : await pc.createAnswer());
    if (this.#ended) return;
    this.#send({ type, sdp: (pc.localDescription as RTCSessionDescription).sdp });
    session.described = true;
    for (const candidate of session.local.splice(0)) this.#send({ type: "candidate", candidate });
  }

  /** After the channel is open there is nothing left to agree on but candidates. */
  async #signalled(signal: Signal): Promise<void> {
    switch (signal.type) {
      case "offer":
        if (this.#channel === null) await this.#offered(signal.sdp);
        return;
      case "answer":
        if (this.#session?.offering) await this.#answered(this.#session, signal.sdp);
        return;
      case "candidate":
        if (this.#session !== null && signal.candidate !== null) await this.#remote(this.#session, signal.candidate);
    }
  }

  /**
   * Answers an offer. Against our own offer, that of the lower id stands. A new offer
   * of a peer that we answered already replaces the earlier one.
   */
  async #offered(sdp: string): Promise<void> {
    const { local, remote, handler } = this.#peering;
    if (this.#session?.offering && local < remote) return;
    const session = this.#begin(false);
    handler.phase("offer_received");
    await this.#setRemote(session, { type: "offer", sdp });
    if (this.#ended) return;
    await this.#describe(session, "answer");
    handler.phase("answer_sent");
  }

  /** Takes the answer to our offer. A second answer is ignored. */
  async #answered(session: Session, sdp: string): Promise<void> {
    if (session.remoteSet) return;
    this.#peering.handler.phase("answer_received");
    await this.#setRemote(session, { type: "answer", sdp });
  }

  async #setRemote(session: Session, description: RTCSessionDescriptionInit): Promise<void> {
    await session.pc.setRemoteDescription(description);
    session.remoteSet = true;
    for (const candidate of session.waiting.splice(0)) await add(session, candidate);
  }

  async #remote(session: Session, candidate: RTCIceCandidateInit): Promise<void> {
    if (session.remoteSet) await add(session, candidate);
    else if (session.waiting.length < maxWaiting) session.waiting.push(candidate);
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
    const maxFrame = Math.min(session.pc.sctp?.maxMessageSize || MaxFrame, MaxFrame); // 0: any size
    if (maxFrame < MinFrame) return this.close("bad_frame", `the peer takes frames of ${maxFrame} bytes only`);
    this.#peering.handler.opened(maxFrame);
  }
}

function reliable({ maxRetransmits, maxPacketLifeTime }: RTCDataChannel): boolean {
  return maxRetransmits === null && maxPacketLifeTime === null;
}

/** Ends a session; nothing more is heard of it. */
function discard({ pc }: Session): void {
  pc.onicecandidate = null;
  pc.oniceconnectionstatechange = null;
  pc.onconnectionstatechange = null;
  pc.ondatachannel = null;
  pc.close();
}

/**
 * Hands a candidate to the browser. One that cannot be used (of a kind that it does not
 * know, of an offer that lost a glare) leaves the others as they are.
 */
async function add(session: Session, candidate: RTCIceCandidateInit): Promise<void> {
  await session.pc.addIceCandidate(candidate).catch(() => {});
}
