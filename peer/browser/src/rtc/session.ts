import { ChannelLabel } from "../wire.ts";
import { fragmentOf } from "./signal.ts";

/** Remote candidates that may wait for the description. Any single working one is enough, so what comes above is dropped. */
export const maxWaiting = 64;

/** A candidate as it is signalled; null: there are no more. */
type Found = RTCIceCandidateInit | null;

/**
 * One RTCPeerConnection, and what waits for its descriptions. A connection has one; another one after it lost
 * a glare, or began anew. Whoever has it sets the handlers of the pc, but for onicecandidate.
 */
export class Session {
  readonly pc: RTCPeerConnection;
  readonly offering: boolean;
  /** That it was made with. */
  readonly servers: readonly RTCIceServer[];
  /** That we opened, where we offer. */
  readonly channel: RTCDataChannel | null;
  remoteSet = false;
  #described: Promise<void> | null = null; // once it began
  #found: Found[] = []; // of our own, that were neither written nor told; bounded by what a browser finds
  #tell: ((candidate: Found) => void) | null = null; // null: they are kept
  readonly #waiting: RTCIceCandidateInit[] = []; // remote ones that wait for the remote description; bounded by maxWaiting

  constructor(create: (configuration: RTCConfiguration) => RTCPeerConnection, servers: readonly RTCIceServer[], offering: boolean) {
    this.servers = servers;
    this.offering = offering;
    this.pc = create({ iceServers: [...servers] });
    this.pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate === "") return; // the end of one section; null follows
      const found = candidate?.toJSON() ?? null;
      if (this.#tell !== null) this.#tell(found);
      else this.#found.push(found);
    };
    this.channel = offering ? this.pc.createDataChannel(ChannelLabel) : null;
  }

  /** Makes our description, once; with it the gathering begins. Rejects where that fails. */
  describe(): Promise<void> {
    this.#described ??= this.#describe();
    return this.#described;
  }

  async #describe(): Promise<void> {
    await this.pc.setLocalDescription(this.offering ? await this.pc.createOffer() : await this.pc.createAnswer());
  }

  /** Whether there is our description. */
  get described(): boolean {
    return this.pc.localDescription !== null;
  }

  /** Our description as it stands, with the candidates that were found so far: those need not be told any more. */
  write(): string {
    const { sdp } = this.pc.localDescription as RTCSessionDescription;
    this.#found = this.#found.filter((found) => found === null || !sdp.includes(found.candidate as string));
    return sdp;
  }

  /** Tells the candidates that were found since, and those to come: the description is with the peer. */
  trickle(tell: (candidate: Found) => void): void {
    this.#tell = tell;
    this.#found.splice(0).forEach(tell);
  }

  /** Tells our description from others; "" where there is none. */
  get fragment(): string {
    return fragmentOf(this.pc.localDescription?.sdp ?? "");
  }

  /** The same of the peer's. */
  get remoteFragment(): string {
    return fragmentOf(this.pc.remoteDescription?.sdp ?? "");
  }

  /** Takes the peer's description; rejects where it cannot be used. */
  async setRemote(description: RTCSessionDescriptionInit): Promise<void> {
    await this.pc.setRemoteDescription(description);
    this.remoteSet = true;
    for (const candidate of this.#waiting.splice(0)) await this.#add(candidate);
  }

  /** Takes a candidate of the peer's. */
  async take(candidate: RTCIceCandidateInit): Promise<void> {
    if (this.remoteSet) await this.#add(candidate);
    else if (this.#waiting.length < maxWaiting) this.#waiting.push(candidate);
  }

  /**
   * Hands a candidate to the browser. One that cannot be used (of a kind that it does not
   * know, of an offer that lost a glare) leaves the others as they are.
   */
  async #add(candidate: RTCIceCandidateInit): Promise<void> {
    await this.pc.addIceCandidate(candidate).catch(() => {});
  }

  /** Whether both sides put the parameters of SCTP into their descriptions (SNAP, draft-ietf-tsvwg-sctp-snap): that saves round trips. */
  get snap(): boolean {
    const { localDescription, remoteDescription } = this.pc;
    return [localDescription, remoteDescription].every((one) => /^a=sctp-init:/m.test(one?.sdp ?? ""));
  }

  /** Ends it; nothing more is heard of it. */
  close(): void {
    const { pc } = this;
    pc.onicecandidate = null;
    pc.onicegatheringstatechange = null;
    pc.oniceconnectionstatechange = null;
    pc.onconnectionstatechange = null;
    pc.ondatachannel = null;
    pc.close();
  }
}
