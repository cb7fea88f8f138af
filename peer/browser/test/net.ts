// A network of clients in memory, for tests: fake mediators, fake RTCPeerConnections, fake time.

import assert from "node:assert/strict";
import type { CdnError, ClientOptions, Content, State } from "../src/api.ts";
import type { Bytes } from "../src/bytes.ts";
import { Client, type ClientSeams } from "../src/client.ts";
import { encodeInfo, type FullHash, type Info } from "../src/content.ts";
import type { PeerID } from "../src/ident.ts";
import { type Conn, parseSignal, Transport } from "../src/rtc.ts";
import { Signaling } from "../src/signaling.ts";
import { Disk } from "../src/store.ts";
import type { Measure } from "../src/timeline.ts";
import { type Block, decode, encode, type Frame, FrameError, MaxFrame } from "../src/wire.ts";
import { FakeClock } from "./clock.ts";
import { FakeNetwork } from "./fakertc.ts";
import { FakeMediators } from "./mediator.ts";
import { below, seeded } from "./world.ts";

export const kib = 1 << 10;
export const minute = 60_000;
export const mediator = "ws://first/mediation";

/** A network of clients, all of it driven by one clock and one seed. */
export class Net {
  readonly clock = new FakeClock();
  readonly network = new FakeNetwork(this.clock);
  readonly mediators = new FakeMediators(this.clock);
  readonly #random = seeded(42);
  disk = new Disk({ unavailable: "there is none in this test", start: () => assert.fail("it was started"), root: () => assert.fail("it was opened"), clock: this.clock });

  deviceMemory: number | null = null; // GiB
  measure: Measure = () => {};

  get seams(): ClientSeams {
    return {
      clock: this.clock,
      random: this.#random,
      randomBytes: (into) => into.forEach((_, i) => (into[i] = below(this.#random, 256))),
      openSocket: this.mediators.openSocket,
      transport: new Transport(this.clock, this.network.create),
      disk: this.disk,
      measure: (...entry) => this.measure(...entry),
      securePage: false,
      deviceMemory: this.deviceMemory,
    };
  }

  client(options: ClientOptions = {}): Client {
    return new Client({ mediators: [mediator], ...options }, this.seams);
  }

  /** A client that seeds the data, and its content once others can find it. */
  async seeder(data: Bytes, options: ClientOptions = {}): Promise<{ client: Client; content: Content }> {
    const client = this.client(options);
    const content = client.seed(new Blob([data]), { name: "file.bin", type: "image/png", pieceLength: 64 * kib });
    assert.ok(await this.clock.pass(1000, () => content.state === "seeding"), `it is ${content.state}`);
    return { client, content };
  }

  /** Waits until the content is complete, and checks it. */
  async complete(content: Content, data: Bytes, within = minute): Promise<void> {
    const done = await this.clock.pass(within, () => content.state === "complete");
    const { verified, pieces } = content.progress;
    assert.ok(done, `it is ${content.state} with ${verified} of ${pieces} pieces; ${content.error?.message}`);
    const blob = await content.done;
    assert.deepEqual(new Uint8Array(await blob.arrayBuffer()), data);
  }

  get open(): number {
    return this.network.open.length;
  }
}

export function dictionary(info: Info): string {
  return encodeInfo(info);
}

export function states(content: Content): State[] {
  const heard: State[] = [content.state];
  content.on("state", (state) => heard.push(state));
  return heard;
}

export function errors(content: Content): string[] {
  const heard: string[] = [];
  content.on("error", ({ code }) => heard.push(code));
  return heard;
}

/** The code of the error with which a promise rejects. */
export async function rejection(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "it resolved",
    (error: CdnError) => error.code,
  );
}

/** A peer that a test scripts: it speaks the protocols and decides every frame itself. */
export class Puppet {
  readonly net: Net;
  readonly signaling: Signaling;
  readonly received: Frame[] = [];
  readonly conns = new Map<PeerID, Conn>();
  readonly closed: string[] = [];
  answer: (frame: Frame, send: (frame: Frame) => void) => void = () => {};
  opened: (send: (frame: Frame) => void) => void = () => {};
  readonly #transport: Transport;

  constructor(net: Net) {
    this.net = net;
    this.#transport = net.seams.transport as Transport;
    this.signaling = new Signaling({
      ...net.seams,
      events: {
        state: () => {},
        opened: () => {},
        established: () => {},
        announced: () => {},
        asked: () => {},
        peers: () => {},
        refused: () => {},
        trouble: () => {},
        signal: (hash, from, data) => {
          const signal = parseSignal(data);
          if (signal === null) return;
          if (signal.type === "offer" && !this.conns.has(from)) this.call(hash, from, false);
          this.conns.get(from)?.signal(signal);
        },
      },
    });
    this.signaling.addMediators([mediator]);
    this.signaling.start();
  }

  call(hash: FullHash, id: PeerID, offerer = true): void {
    const conn = this.#transport.connect({
      local: this.signaling.peerID as PeerID,
      remote: id,
      offerer,
      iceServers: () => [],
      handler: {
        signal: (data) => void this.signaling.signal(hash, id, data),
        phase: () => {},
        opened: () => this.opened((frame) => conn.send(encode(frame))),
        frame: (bytes) => {
          const frame = decode(bytes);
          if (frame instanceof FrameError) return assert.fail(frame.message);
          this.received.push(frame);
          this.answer(frame, (answer) => conn.send(encode(answer)));
        },
        drained: () => {},
        closed: (code) => {
          this.closed.push(code);
          this.conns.delete(id);
        },
      },
    });
    this.conns.set(id, conn);
  }

  /** Seeds a content, as the script answers a request. */
  static seeding(net: Net, info: Info, answer: (block: Block) => Frame[]): Puppet {
    const puppet = new Puppet(net);
    const { fullHash, totalLength, pieceLength } = info;
    puppet.signaling.announce(fullHash);
    puppet.opened = (send) => {
      send({ type: "handshake", number: 9, fullHash, totalLength, pieceLength, maxFrame: MaxFrame });
      send({ type: "have_all", number: 9 });
    };
    puppet.answer = (frame, send) => {
      if (frame.type === "request") frame.blocks.flatMap(answer).forEach(send);
      if (frame.type === "cancel") send({ ...frame, type: "reject", number: 9 });
    };
    return puppet;
  }

  /** Greets whoever connects, and answers nothing. */
  static idle(net: Net, info: Info, greeting: Frame): Puppet {
    const puppet = new Puppet(net);
    const { fullHash, totalLength, pieceLength } = info;
    puppet.opened = (send) => {
      send({ type: "handshake", number: 9, fullHash, totalLength, pieceLength, maxFrame: MaxFrame });
      send(greeting);
    };
    return puppet;
  }

  types(): string[] {
    return this.received.map(({ type }) => type);
  }
}
