import type { Clock } from "../src/clock.ts";


/**
 * The network that fake RTCPeerConnections share: who has which description, and how
 * fast it is.
 */
export class FakeNetwork {
  readonly clock: Clock;
  readonly connections: FakePeerConnection[] = [];
  /** How long a packet travels, in ms. */
  latency = 5;
  /** When a candidate is found, and when there are no more, in ms after the description. */
  gathering: readonly [number, number] = [1, 2];
  /** How long a description takes, in ms; 0: none. */
  describing = 0;
  /** Addresses by which no way leads to the other side; each is tried with the servers of its connection. */
  blocked: (connection: FakePeerConnection) => boolean = () => false;
  /** What a transport's stats say of DTLS; null: nothing. */
  tlsVersion: string | null = "FEFD";
  /** Lines that a browser adds to its descriptions. */
  extra = "";
  /** Bytes per ms that one channel carries in one direction. */
  bandwidth = 10_000;
  /** What a channel's descriptions say; as RTCSctpTransport.maxMessageSize. */
  maxMessageSize = 256 << 10;
  /** The most that ever waited in one channel, in bytes. */
  mostBuffered = 0;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  readonly create = (configuration: RTCConfiguration = {}): RTCPeerConnection => {
    const connection = new FakePeerConnection(this, this.connections.length, configuration);
    this.connections.push(connection);
    return connection as unknown as RTCPeerConnection;
  };

  /** Those that were not closed. */
  get open(): FakePeerConnection[] {
    return this.connections.filter((connection) => connection.connectionState !== "closed");
  }
}

type Listener<E> = ((event: E) => void) | null;

/** As much of an RTCDtlsTransport as the peer uses. */
class FakeDtls {
  state = "new";
  onstatechange: Listener<void> = null;

  connect(): void {
    this.state = "connected";
    this.onstatechange?.();
  }
}

/** As much of an RTCPeerConnection as the peer uses. Candidates are needed: without one there is no way. */
export class FakePeerConnection {
  readonly network: FakeNetwork;
  readonly index: number;
  readonly configuration: RTCConfiguration;
  onicecandidate: Listener<{ candidate: { candidate: string; toJSON(): RTCIceCandidateInit } | null }> = null;
  onicegatheringstatechange: Listener<void> = null;
  oniceconnectionstatechange: Listener<void> = null;
  onconnectionstatechange: Listener<void> = null;
  ondatachannel: Listener<{ channel: FakeChannel }> = null;
  iceGatheringState = "new";
  iceConnectionState = "new";
  connectionState = "new";
  localDescription: RTCSessionDescriptionInit | null = null;
  remoteDescription: RTCSessionDescriptionInit | null = null;
  sctp: { maxMessageSize: number; transport: FakeDtls } | null = null;
  readonly candidates: RTCIceCandidateInit[] = []; // that were added
  readonly channels: FakeChannel[] = [];
  remote: FakePeerConnection | null = null;
  #connecting = false; // there is a way

  constructor(network: FakeNetwork, index: number, configuration: RTCConfiguration) {
    this.network = network;
    this.index = index;
    this.configuration = configuration;
  }

  createDataChannel(label: string): FakeChannel {
    const channel = new FakeChannel(this, label);
    this.channels.push(channel);
    return channel;
  }

  async createOffer(): Promise<RTCSessionDescriptionInit> {
    const { describing, clock } = this.network;
    if (describing > 0) await new Promise<void>((resolve) => clock.after(describing, resolve));
    return { type: "offer", sdp: this.#describe(`m=application ${this.index}`) };
  }

  #describe(media: string): string {
    return `${media}\r\na=ice-ufrag:frag${this.index}\r\n${this.network.extra}`;
  }

  async createAnswer(): Promise<RTCSessionDescriptionInit> {
    if (this.remoteDescription?.type !== "offer") throw new Error("nothing to answer");
    return { type: "answer", sdp: this.#describe(`m=application ${this.index} to ${this.remote?.index}`) };
  }

  async setLocalDescription(description: RTCSessionDescriptionInit): Promise<void> {
    if (this.connectionState === "closed") throw new Error("closed");
    this.localDescription = description;
    this.iceGatheringState = "gathering";
    const { clock, gathering } = this.network;
    const candidate = `candidate:${this.index} of ${this.index}`;
    const found = { candidate, sdpMid: "0", sdpMLineIndex: 0, usernameFragment: `frag${this.index}` };
    clock.after(gathering[0], () => {
      this.localDescription = { ...description, sdp: `${description.sdp}a=${candidate}\r\n` };
      this.onicecandidate?.({ candidate: { candidate, toJSON: () => found } });
    });
    clock.after(gathering[1], () => {
      this.iceGatheringState = "complete";
      this.onicegatheringstatechange?.();
      this.onicecandidate?.({ candidate: null });
    });
    this.#tryConnect();
  }

  async setRemoteDescription(description: RTCSessionDescriptionInit): Promise<void> {
    const parts = /^m=application (\d+)(?: to (\d+))?\r\n/.exec(description.sdp ?? "");
    const remote = this.network.connections[Number(parts?.[1])];
    if (remote === undefined) throw new Error("a description that nobody made");
    if (description.type === "answer" && (this.localDescription?.type !== "offer" || Number(parts?.[2]) !== this.index)) {
      throw new Error("an answer to another offer");
    }
    this.remote = remote;
    this.remoteDescription = description;
    for (const [, candidate] of (description.sdp ?? "").matchAll(/^a=(candidate:.*)\r$/gm)) this.candidates.push({ candidate: candidate as string });
    this.#tryConnect();
  }

  async addIceCandidate(candidate: RTCIceCandidateInit): Promise<void> {
    if (this.remote === null) throw new Error("no remote description");
    if (candidate.usernameFragment !== `frag${this.remote.index}`) throw new Error("a candidate of another session");
    this.candidates.push(candidate);
    this.#tryConnect();
  }

  #tryConnect(): void {
    const { remote } = this;
    if (this.localDescription !== null && this.remoteDescription !== null) {
      this.sctp ??= { maxMessageSize: this.network.maxMessageSize, transport: new FakeDtls() };
    }
    if (remote?.remote !== this || this.sctp === null || remote.sctp === null || this.#connecting) return;
    if (this.candidates.length + remote.candidates.length === 0) return;
    if (this.network.blocked(this) || this.network.blocked(remote)) return;
    this.#connecting = remote.#connecting = true;
    this.network.clock.after(this.network.latency, () => {
      if (this.connectionState === "closed" || remote.connectionState === "closed") return;
      for (const side of [this, remote]) side.ice("connected");
      for (const side of [this, remote]) side.sctp?.transport.connect();
      for (const side of [this, remote]) side.#openChannels();
    });
  }

  #openChannels(): void {
    for (const channel of this.channels.filter(({ peer }) => peer === null)) {
      const other = new FakeChannel(this.remote as FakePeerConnection, channel.label);
      [channel.peer, other.peer] = [other, channel];
      this.remote?.channels.push(other);
      this.remote?.ondatachannel?.({ channel: other });
      channel.open();
      other.open();
    }
  }

  /** Puts the connection between the two in a state, as seen from here. */
  ice(state: string): void {
    this.iceConnectionState = state;
    this.oniceconnectionstatechange?.();
    this.connectionState = state;
    this.onconnectionstatechange?.();
  }

  async getStats(): Promise<Map<string, object>> {
    const { latency, tlsVersion } = this.network;
    return new Map<string, object>([
      ["pair", { type: "candidate-pair", nominated: true, currentRoundTripTime: (2 * latency) / 1000 }],
      ["transport", { type: "transport", ...(tlsVersion !== null && { tlsVersion }) }],
    ]);
  }

  close(): void {
    if (this.connectionState === "closed") return;
    this.connectionState = "closed";
    for (const channel of this.channels) channel.abort();
  }
}

/** As much of an RTCDataChannel as the peer uses. What is sent leaves at the network's bandwidth. */
export class FakeChannel {
  readonly connection: FakePeerConnection;
  readonly label: string;
  readonly ordered = true;
  readonly maxRetransmits = null;
  readonly maxPacketLifeTime = null;
  binaryType = "blob";
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  readyState: "connecting" | "open" | "closing" | "closed" = "connecting";
  onopen: Listener<void> = null;
  onmessage: Listener<{ data: unknown }> = null;
  onbufferedamountlow: Listener<void> = null;
  onclose: Listener<void> = null;
  peer: FakeChannel | null = null;
  /** Nothing leaves while this is set: the other side does not read. */
  stuck = false;
  #free = 0; // when the line is free again

  constructor(connection: FakePeerConnection, label: string) {
    this.connection = connection;
    this.label = label;
  }

  open(): void {
    this.readyState = "open";
    this.onopen?.();
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    const { network } = this.connection;
    if (this.readyState !== "open") throw new Error("the channel is not open");
    const length = data.length;
    if (length > network.maxMessageSize) throw new Error("a message that is too long");
    this.bufferedAmount += length;
    network.mostBuffered = Math.max(network.mostBuffered, this.bufferedAmount);
    if (this.stuck) return;
    const message = typeof data === "string" ? data : data.slice().buffer;
    this.#free = Math.max(this.#free, network.clock.now()) + length / network.bandwidth;
    network.clock.after(this.#free - network.clock.now(), () => this.#left(length));
    network.clock.after(this.#free - network.clock.now() + network.latency, () => {
      if (this.peer?.readyState === "open") this.peer.onmessage?.({ data: message });
    });
  }

  #left(length: number): void {
    const before = this.bufferedAmount;
    this.bufferedAmount -= length;
    const low = this.bufferedAmountLowThreshold;
    if (this.readyState === "open" && before > low && this.bufferedAmount <= low) this.onbufferedamountlow?.();
  }

  /** Sends what waits, then closes both sides. */
  close(): void {
    if (this.readyState === "closing" || this.readyState === "closed") return;
    this.readyState = "closing";
    const { clock, latency } = this.connection.network;
    if (!this.stuck) clock.after(Math.max(0, this.#free - clock.now()) + 2 * latency, () => this.abort());
  }

  /** Closes both sides at once. */
  abort(): void {
    for (const side of [this, this.peer]) {
      if (side === null || side.readyState === "closed") continue;
      side.readyState = "closed";
      side.connection.network.clock.after(0, () => side.onclose?.());
    }
  }
}
