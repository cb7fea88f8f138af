import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Bytes } from "../src/bytes.ts";
import type { PeerID } from "../src/ident.ts";
import { type Conn, formatSignal, LowWater, parseSignal, type Peering, type Prepared, type Signal, Transport } from "../src/rtc.ts";
import { ChannelLabel, MaxFrame } from "../src/wire.ts";
import { FakeClock } from "./clock.ts";
import { type FakeChannel, FakeNetwork } from "./fakertc.ts";

const low = "1".repeat(40) as PeerID;
const high = "2".repeat(40) as PeerID;

/** What every side says first of all, as peers do; the other does not record it. */
const greeting = Uint8Array.of(0xff);

/** One side of a connection, and all that it heard. */
interface Side {
  conn: Conn;
  greets: boolean;
  readonly heard: string[];
  readonly frames: Bytes[];
  readonly signals: string[];
  drained: number;
  other: Side | null; // who hears its signals
}

interface Setup {
  readonly clock: FakeClock;
  readonly network: FakeNetwork;
  side(local: PeerID, remote: PeerID, offerer: boolean, more?: Partial<Peering>): Side;
  /** Prepares a connection; the list tells what became of it. */
  prepare(servers?: RTCIceServer[]): [Prepared, string[]];
}

function setup(): Setup {
  const clock = new FakeClock();
  const network = new FakeNetwork(clock);
  const transport = new Transport(clock, network.create);
  const side = (local: PeerID, remote: PeerID, offerer: boolean, more: Partial<Peering> = {}): Side => {
    const made: Omit<Side, "conn"> = { greets: true, heard: [], frames: [], signals: [], drained: 0, other: null };
    const self = made as Side;
    self.conn = transport.connect({
      local,
      remote,
      offerer,
      iceServers: () => [],
      handler: {
        signal: (data) => {
          self.signals.push(data);
          clock.after(10, () => {
            const signal = parseSignal(data);
            assert.ok(signal !== null);
            self.other?.conn.signal(signal);
          });
        },
        phase: (phase) => self.heard.push(phase),
        opened: (maxFrame) => {
          self.heard.push(`opened ${maxFrame}`);
          if (self.greets) self.conn.send(greeting);
        },
        frame: (frame) => {
          if (frame[0] !== greeting[0]) self.frames.push(frame);
        },
        drained: () => self.drained++,
        closed: (code) => self.heard.push(`closed ${code}`),
      },
      ...more,
    });
    return self;
  };
  const prepare = (servers: RTCIceServer[] = []): [Prepared, string[]] => {
    const told: string[] = [];
    const tell = (what: string): void => void told.push(`${what} after ${clock.now()} ms`);
    const prepared = transport.prepare(servers, { ready: () => tell("ready"), ended: () => tell("ended") });
    assert.ok(prepared !== null);
    return [prepared, told];
  };
  return { clock, network, side, prepare };
}

/** The prepared offer as the mediator hands it to a peer. */
function offerOf(prepared: Prepared): Signal {
  const signal = parseSignal(prepared.offer() ?? "");
  assert.ok(signal?.type === "offer");
  return signal;
}

/** What a side signalled, by type; candidates by their text. */
function said({ signals }: Side): string[] {
  return signals.map((data) => {
    const signal = parseSignal(data);
    return signal?.type === "candidate" ? (signal.candidate?.candidate ?? "no more") : (signal?.type ?? "nonsense");
  });
}

/** Whether a side's connection opened once, and did not end. */
function isOpen({ heard }: Side): boolean {
  return heard.filter((what) => what.startsWith("opened")).length === 1 && !heard.some((what) => what.startsWith("closed"));
}

function introduce(a: Side, b: Side): void {
  [a.other, b.other] = [b, a];
}

test("two peers connect, talk, and part", async () => {
  const { clock, network, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  await clock.pass(1000);
  assert.deepEqual(a.heard, ["offer_sent", "answer_received", "ice_connected", "dtls_connected", `opened ${MaxFrame}`]);
  assert.deepEqual(b.heard, ["offer_received", "answer_sent", "ice_connected", "dtls_connected", `opened ${MaxFrame}`]);
  a.conn.send(Uint8Array.of(1, 2, 3));
  b.conn.send(Uint8Array.of(4));
  await clock.pass(1000);
  assert.deepEqual([a.frames, b.frames], [[Uint8Array.of(4)], [Uint8Array.of(1, 2, 3)]]);
  assert.deepEqual(await a.conn.stats(), { rtt: 10, dtls: "1.2", snap: false });
  a.conn.send(Uint8Array.of(9)); // what was sent before the end arrives
  a.conn.close();
  a.conn.close("lost");
  await clock.pass(60_000);
  assert.deepEqual(b.frames.at(-1), Uint8Array.of(9));
  assert.equal(a.heard.filter((what) => what.startsWith("closed")).join(), "closed closed");
  assert.equal(b.heard.filter((what) => what.startsWith("closed")).join(), "closed closed_by_peer");
  assert.equal(network.open.length, 0);
  assert.equal(clock.waiting, 0);
});

test("the offerer speaks first", async () => {
  const { clock, network, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  a.greets = false;
  introduce(a, b);
  await clock.pass(1000);
  assert.equal(network.connections[1]?.channels[0]?.readyState, "open");
  b.conn.send(Uint8Array.of(1));
  await clock.pass(1000);
  assert.deepEqual([a.frames, b.heard], [[], ["offer_received", "answer_sent", "ice_connected", "dtls_connected"]]);
  a.conn.send(Uint8Array.of(2));
  await clock.pass(1000);
  assert.deepEqual([b.heard.at(-1), b.frames], [`opened ${MaxFrame}`, [Uint8Array.of(2)]]);
  b.conn.send(Uint8Array.of(3));
  await clock.pass(1000);
  assert.deepEqual(a.frames, [Uint8Array.of(3)]);
});

test("an offerer that never speaks is not waited for", async () => {
  const { clock, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  a.greets = false;
  introduce(a, b);
  await clock.pass(20_010);
  assert.equal(b.heard.at(-1), "closed timeout");
});

test("candidates that come before the description wait for it, a bounded number of them", async () => {
  const { clock, network, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  // The answer is long on its way; candidates overtake it.
  const held: string[] = [];
  const deliver = a.conn.signal.bind(a.conn);
  a.conn.signal = (signal) => (signal.type === "answer" ? void held.push(formatSignal(signal)) : deliver(signal));
  await clock.pass(1000);
  assert.equal(held.length, 1);
  for (let i = 0; i < 100; i++) {
    deliver({ type: "candidate", candidate: { candidate: `late ${i}`, usernameFragment: `frag${network.connections[1]?.index}` } });
    await clock.pass(1);
  }
  assert.deepEqual(network.connections[0]?.candidates, []);
  const answer = parseSignal(held[0] as string);
  assert.ok(answer !== null);
  deliver(answer);
  await clock.pass(1000);
  assert.equal(network.connections[0]?.candidates.length, 64);
  assert.ok(a.heard.includes(`opened ${MaxFrame}`));
});

describe("glare: both offer at once", () => {
  for (const first of [low, high]) {
    test(`the ${first === low ? "lower" : "higher"} id is a little earlier`, async () => {
      const { clock, network, side } = setup();
      const begin = (id: PeerID): Side => side(id, id === low ? high : low, true);
      const a = begin(first);
      await clock.pass(3);
      const b = begin(first === low ? high : low);
      introduce(a, b);
      await clock.pass(10_000);
      for (const one of [a, b]) {
        assert.equal(one.heard.filter((what) => what.startsWith("opened")).length, 1, String(one.heard));
        assert.ok(!one.heard.some((what) => what.startsWith("closed")));
      }
      const [lower, higher] = first === low ? [a, b] : [b, a];
      assert.ok(lower.heard.includes("answer_received") && !lower.heard.includes("offer_received"));
      assert.ok(higher.heard.includes("answer_sent"));
      assert.equal(network.open.length, 2); // the higher one's first is closed
      higher.conn.send(Uint8Array.of(7));
      await clock.pass(100);
      assert.deepEqual(lower.frames, [Uint8Array.of(7)]);
    });
  }
});

describe("prepared", () => {
  test("an offer is ready when all candidates are found, or a moment after it is described", async () => {
    const { clock, network, prepare } = setup();
    const [quick, heard] = prepare();
    assert.equal(quick.offer(), null);
    await clock.pass(1);
    assert.deepEqual([quick.ready, heard], [false, []]);
    await clock.pass(1);
    assert.deepEqual([quick.ready, heard], [true, ["ready after 2 ms"]]);
    quick.close();
    network.gathering = [50, 60];
    const [slow, told] = prepare();
    await clock.pass(1000);
    assert.deepEqual(told, ["ready after 12 ms"]);
    slow.close();
    assert.equal(slow.offer(), null);
    await clock.pass(1);
    assert.deepEqual([network.open.length, clock.waiting], [0, 0]);
  });

  test("nobody waits long for a description, and it counts when it comes after all", async () => {
    const { clock, network, prepare } = setup();
    network.describing = 300;
    const [prepared, told] = prepare();
    await clock.pass(150);
    assert.deepEqual(told, []); // nobody waits
    prepared.wait();
    prepared.wait();
    await clock.pass(149);
    assert.deepEqual([told, prepared.offer()], [["ready after 250 ms"], null]);
    await clock.pass(1);
    assert.ok(prepared.offer() !== null);
  });

  test("one that nobody takes, or that fails, ends", async () => {
    const { clock, network, prepare } = setup();
    const [, told] = prepare();
    await clock.pass(20_000);
    assert.deepEqual(told, ["ready after 2 ms", "ended after 20000 ms"]);
    network.describing = 5;
    const [failing, heard] = prepare();
    network.connections[1]?.close(); // so that its description fails
    await clock.pass(10);
    assert.deepEqual([heard, failing.offer()], [["ready after 20005 ms", "ended after 20005 ms"], null]);
    assert.deepEqual([network.open.length, clock.waiting], [0, 0]);
  });

  test("whoever was handed the offer is connected by it; candidates that come later are kept for it", async () => {
    const { clock, network, prepare, side } = setup();
    network.gathering = [40, 60];
    const [prepared] = prepare();
    await clock.pass(20);
    const offer = offerOf(prepared);
    await clock.pass(30); // now there is a candidate, and nobody to tell it to
    const b = side(high, low, false);
    b.conn.signal(offer);
    const a = side(low, high, true, { prepared, handed: true });
    introduce(a, b);
    await clock.pass(1000);
    assert.ok(isOpen(a) && isOpen(b), `${a.heard}; ${b.heard}`);
    assert.deepEqual(said(a), ["candidate:0 of 0", "no more"]);
    assert.deepEqual(a.heard.slice(0, 2), ["answer_received", "ice_connected"]); // its offer was sent before it was known to whom
    assert.equal(network.connections.length, 2);
    assert.equal(prepared.offer(), null);
  });

  test("candidates that stand in the offer are not told again", async () => {
    const { clock, prepare, side } = setup();
    const [prepared] = prepare();
    await clock.pass(20);
    const b = side(high, low, false);
    b.conn.signal(offerOf(prepared));
    const a = side(low, high, true, { prepared, handed: true });
    introduce(a, b);
    await clock.pass(1000);
    assert.ok(isOpen(a) && isOpen(b));
    assert.deepEqual(said(a), ["no more"]);
  });

  test("where nobody was handed it, it is sent to whoever is chosen, even if it is still being described", async () => {
    for (const waits of [0, 50]) {
      const { clock, network, prepare, side } = setup();
      network.describing = 30;
      const [prepared] = prepare();
      await clock.pass(waits);
      const [a, b] = [side(low, high, true, { prepared }), side(high, low, false)];
      introduce(a, b);
      await clock.pass(1000);
      assert.ok(isOpen(a) && isOpen(b));
      assert.deepEqual(said(a), waits === 0 ? ["offer", "candidate:0 of 0", "no more"] : ["offer", "no more"]);
      assert.equal(a.heard[0], "offer_sent");
      assert.equal(network.connections.length, 2);
    }
  });

  test("one that ended meanwhile is replaced by an ordinary offer", async () => {
    const { clock, prepare, side } = setup();
    const [prepared] = prepare();
    prepared.close();
    const [a, b] = [side(low, high, true, { prepared }), side(high, low, false)];
    introduce(a, b);
    await clock.pass(1000);
    assert.ok(isOpen(a) && isOpen(b));
  });

  test("the time that a connection may take begins when it is known with whom", async () => {
    const { clock, prepare, side } = setup();
    const [prepared] = prepare();
    await clock.pass(15_000);
    const a = side(low, high, true, { prepared, handed: true }); // nobody answers
    await clock.pass(19_999);
    assert.deepEqual(a.heard, []);
    await clock.pass(10);
    assert.deepEqual(a.heard, ["closed timeout"]);
  });
});

describe("a mediator hands our offer to a peer with whom there is something already", () => {
  const ids = [[low, high], [high, low]] as const;

  for (const [ours, theirs] of ids) {
    const lower = ours === low ? "we have" : "it has";

    test(`it called us, and ${lower} the lower id`, async () => {
      const { clock, network, prepare, side } = setup();
      const [prepared] = prepare();
      await clock.pass(20);
      const [a, b] = [side(ours, theirs, false), side(theirs, ours, true)];
      introduce(a, b);
      await clock.pass(5);
      b.conn.signal(offerOf(prepared)); // while its own is on its way
      await clock.pass(7); // which is here now
      a.conn.handed(prepared);
      await clock.pass(5_000);
      assert.ok(isOpen(a) && isOpen(b), `${a.heard}; ${b.heard}`);
      assert.equal(network.open.length, 2);
      b.conn.send(Uint8Array.of(7));
      await clock.pass(100);
      assert.deepEqual(a.frames, [Uint8Array.of(7)]);
    });

    test(`we called it, it takes the handed offer in the end, and ${lower} the lower id`, async () => {
      const { clock, network, prepare, side } = setup();
      const [prepared] = prepare();
      await clock.pass(20);
      const handed = offerOf(prepared);
      const [a, b] = [side(ours, theirs, true), side(theirs, ours, false)];
      introduce(a, b);
      a.conn.handed(prepared);
      await clock.pass(11); // it has the one that was sent
      b.conn.signal(handed);
      await clock.pass(5_000);
      assert.ok(isOpen(a) && isOpen(b), `${a.heard}; ${b.heard}`);
      assert.equal(network.open.length, 2);
    });

    test(`we called it, it takes the offer that was sent in the end, and ${lower} the lower id`, async () => {
      const { clock, network, prepare, side } = setup();
      const [prepared] = prepare();
      await clock.pass(20);
      const handed = offerOf(prepared);
      const [a, b] = [side(ours, theirs, true), side(theirs, ours, false)];
      introduce(a, b);
      b.conn.signal(handed);
      await clock.pass(5);
      a.conn.handed(prepared);
      await clock.pass(5_000);
      assert.ok(isOpen(a) && isOpen(b), `${a.heard}; ${b.heard}`);
      assert.equal(network.open.length, 2);
    });
  }

  test("a peer of before, which does not say what it answers", async () => {
    const { clock, network, prepare, side } = setup();
    const [prepared] = prepare();
    await clock.pass(20);
    const handed = offerOf(prepared);
    const [a, b] = [side(low, high, true, { prepared, handed: true }), side(high, low, false)];
    introduce(a, b);
    const signal = a.conn.signal.bind(a.conn);
    a.conn.signal = (one) => signal(one.type === "answer" ? { type: "answer", sdp: one.sdp } : one);
    b.conn.signal(handed);
    await clock.pass(1_000);
    assert.ok(isOpen(a) && isOpen(b));
    assert.equal(network.open.length, 2);
  });

  test("each side is handed the other's offer", async () => {
    const { clock, network, prepare, side } = setup();
    const [first] = prepare();
    const [second] = prepare();
    await clock.pass(20);
    const [a, b] = [side(low, high, false), side(high, low, false)];
    introduce(a, b);
    b.conn.signal(offerOf(first));
    a.conn.signal(offerOf(second));
    await clock.pass(1);
    a.conn.handed(first);
    b.conn.handed(second);
    await clock.pass(5_000);
    assert.ok(isOpen(a) && isOpen(b), `${a.heard}; ${b.heard}`);
    assert.equal(network.open.length, 2);
    assert.ok(a.heard.includes("answer_received") && !b.heard.includes("answer_received"), "the offer of the lower id stands");
  });

  test("the connection is open: what was prepared is closed", async () => {
    const { clock, network, prepare, side } = setup();
    const [a, b] = [side(low, high, true), side(high, low, false)];
    introduce(a, b);
    await clock.pass(1000);
    const [prepared] = prepare();
    await clock.pass(20);
    b.conn.signal(offerOf(prepared)); // who is connected ignores it
    a.conn.handed(prepared);
    await clock.pass(1000);
    assert.ok(isOpen(a) && isOpen(b));
    assert.equal(network.open.length, 2);
  });
});

test("an answer to another offer is ignored, and the same offer is answered once", async () => {
  const { clock, network, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  await clock.pass(5);
  a.conn.signal({ type: "answer", sdp: "m=application 9 to 0\r\n", to: "frag7" }); // or else it would be nonsense
  const offer = parseSignal(a.signals[0] as string) as Signal;
  b.conn.signal(offer);
  b.conn.signal(offer);
  await clock.pass(1000);
  assert.ok(isOpen(a) && isOpen(b));
  assert.equal(said(b).filter((what) => what === "answer").length, 1);
  assert.equal(network.connections.length, 2);
});

describe("a second try", () => {
  const guess = [{ urls: "stun:mediator:80" }];
  const relay = [{ urls: "turn:mediator:80", username: "u", credential: "c" }];

  /** Two sides between whom nothing leads but a relay. */
  function behindNAT(iceServers: () => RTCIceServer[]): Setup & { a: Side; b: Side } {
    const made = setup();
    const { network, prepare, side } = made;
    network.blocked = ({ configuration }) => configuration.iceServers?.[0]?.urls !== relay[0]?.urls;
    const [prepared] = prepare(guess);
    const a = side(low, high, true, { prepared, iceServers });
    const b = side(high, low, false, { iceServers: () => relay });
    introduce(a, b);
    return { ...made, a, b };
  }

  test("with the servers that the mediator names, where it was made with others and does not open", async () => {
    const { clock, network, a, b } = behindNAT(() => relay);
    await clock.pass(2_000);
    assert.ok(!isOpen(a));
    await clock.pass(200);
    assert.ok(isOpen(a) && isOpen(b), `${a.heard}; ${b.heard}`);
    assert.equal(network.open.length, 2);
    await clock.pass(30_000);
    assert.ok(isOpen(a) && isOpen(b));
  });

  test("at once where there is no way", async () => {
    const { clock, network, a, b } = behindNAT(() => relay);
    await clock.pass(100);
    network.connections[0]?.ice("failed");
    await clock.pass(200);
    assert.ok(isOpen(a) && isOpen(b));
  });

  test("once", async () => {
    let named = 0;
    const { clock, network, a } = behindNAT(() => [{ urls: `stun:mediator:${++named}` }]); // others each time
    await clock.pass(4_100);
    assert.equal(network.connections.length, 4);
    network.connections[2]?.ice("failed");
    await clock.pass(10);
    assert.equal(a.heard.at(-1), "closed lost");
  });

  test("but none with the same servers", async () => {
    const { clock, network, a } = behindNAT(() => guess);
    await clock.pass(10_000);
    assert.equal(network.connections.length, 2);
    network.connections[0]?.ice("failed");
    await clock.pass(10);
    assert.equal(a.heard.at(-1), "closed lost");
  });

  test("nor once it is open", async () => {
    const { clock, network, prepare, side } = setup();
    const [prepared] = prepare(guess);
    const [a, b] = [side(low, high, true, { prepared, iceServers: () => relay }), side(high, low, false)];
    introduce(a, b);
    await clock.pass(10_000);
    assert.ok(isOpen(a) && isOpen(b));
    assert.equal(network.connections.length, 2);
  });
});

test("what was negotiated is told, where the browser says it", async () => {
  for (const [extra, tlsVersion, dtls, snap] of [
    ["a=sctp-init:AQAB\r\n", "FEFC", "1.3", true],
    ["", "FEFD", "1.2", false],
    ["", "FEFE", null, false], // no version that there is
    ["", null, null, false],
  ] as const) {
    const { clock, network, side } = setup();
    Object.assign(network, { extra, tlsVersion });
    const [a, b] = [side(low, high, true), side(high, low, false)];
    introduce(a, b);
    await clock.pass(1000);
    assert.deepEqual(await a.conn.stats(), { rtt: 10, dtls, snap });
  }
});

test("a connection that does not open in time fails", async () => {
  const { clock, network, side } = setup();
  const a = side(low, high, true); // nobody answers
  await clock.pass(19_999);
  assert.deepEqual(a.heard, ["offer_sent"]);
  await clock.pass(10);
  assert.deepEqual(a.heard, ["offer_sent", "closed timeout"]);
  assert.equal(network.open.length, 0);
});

test("a connection that breaks is given up after a while, one that recovers is not", async () => {
  const { clock, network, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  await clock.pass(1000);
  const pc = network.connections[0];
  pc?.ice("disconnected");
  await clock.pass(7_000);
  pc?.ice("connected");
  await clock.pass(7_000);
  assert.ok(!a.heard.some((what) => what.startsWith("closed")));
  pc?.ice("disconnected");
  await clock.pass(8_100);
  assert.equal(a.heard.at(-1), "closed lost");
});

test("ICE that fails ends the connection at once", async () => {
  const { clock, network, side } = setup();
  const a = side(low, high, true);
  await clock.pass(10);
  network.connections[0]?.ice("failed");
  await clock.pass(10);
  assert.equal(a.heard.at(-1), "closed lost");
});

test("a text is no frame", async () => {
  const { clock, network, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  await clock.pass(1000);
  network.connections[1]?.channels[0]?.send("hello");
  await clock.pass(1000);
  assert.equal(a.heard.at(-1), "closed bad_frame");
});

test("a peer that does not read is disconnected, one that reads is told of room", async () => {
  const { clock, network, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  await clock.pass(1000);
  for (let i = 0; i < 10; i++) a.conn.send(new Uint8Array(64 << 10));
  assert.equal(a.conn.buffered, 640 << 10);
  await clock.pass(1000);
  assert.equal(a.drained, 1);
  assert.ok(LowWater < 640 << 10);
  (network.connections[0]?.channels[0] as FakeChannel).stuck = true;
  for (let i = 0; i < 100; i++) a.conn.send(new Uint8Array(64 << 10));
  assert.ok(network.mostBuffered < 5 << 20, `${network.mostBuffered} bytes waited`);
  await clock.pass(1000);
  assert.equal(a.heard.at(-1), "closed stalled");
});

test("frames that are too short for the protocol end the connection", async () => {
  const { clock, network, side } = setup();
  network.maxMessageSize = 16 << 10;
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  await clock.pass(1000);
  assert.equal(a.heard.at(-1), "closed bad_frame");
});

test("a browser without a limit is held to ours", async () => {
  const { clock, network, side } = setup();
  network.maxMessageSize = 1073741823; // Firefox
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  await clock.pass(1000);
  assert.equal(a.heard.at(-1), `opened ${MaxFrame}`);
});

test("a channel of another label is closed, and the right one counts", async () => {
  const { clock, network, side } = setup();
  const [a, b] = [side(low, high, true), side(high, low, false)];
  introduce(a, b);
  network.connections.length = 0;
  await clock.pass(0);
  const other = network.connections[0]?.createDataChannel("chat");
  await clock.pass(1000);
  assert.equal(other?.readyState, "closed");
  assert.equal(b.heard.filter((what) => what.startsWith("opened")).length, 1);
  assert.equal(network.connections[0]?.channels[0]?.label, ChannelLabel);
});

test("a description that cannot be used ends the connection", async () => {
  const { clock, side } = setup();
  const b = side(high, low, false);
  b.conn.signal({ type: "offer", sdp: "m=application nonsense" });
  await clock.pass(10);
  assert.equal(b.heard.at(-1), "closed bad_signal");
});

test("more signals than anybody needs end the connection", async () => {
  const { clock, side } = setup();
  const b = side(high, low, false);
  for (let i = 0; i < 200; i++) b.conn.signal({ type: "candidate", candidate: { candidate: `${i}` } });
  await clock.pass(10);
  assert.deepEqual(b.heard, ["closed bad_signal"]);
});

test("signals are parsed strictly", () => {
  const candidate = { candidate: "candidate:1 1 udp 1 192.0.2.1 5 typ host", sdpMid: "0", sdpMLineIndex: 0, usernameFragment: "x" };
  for (const signal of [
    { type: "offer", sdp: "v=0\r\nm=application 9\r\n" },
    { type: "answer", sdp: "m=application" },
    { type: "answer", sdp: "m=application", to: "Ab+/" },
    { type: "candidate", candidate },
    { type: "candidate", candidate: null },
  ] as const) {
    assert.deepEqual(parseSignal(formatSignal(signal)), signal);
  }
  assert.deepEqual(parseSignal('{"type":"candidate","candidate":{"candidate":""}}'), { type: "candidate", candidate: null });
  assert.deepEqual(parseSignal('{"type":"candidate","candidate":{"candidate":"c"}}'), {
    type: "candidate",
    candidate: { candidate: "c", sdpMid: null, sdpMLineIndex: null, usernameFragment: null },
  });
  for (const text of [
    "",
    "null",
    "[]",
    "5",
    "{",
    '{"type":"offer"}',
    '{"type":"offer","sdp":5}',
    '{"type":"offer","sdp":"m=audio"}',
    '{"type":"rollback"}',
    '{"type":"candidate"}',
    '{"type":"candidate","candidate":5}',
    '{"type":"candidate","candidate":{"candidate":5}}',
    JSON.stringify({ type: "candidate", candidate: { candidate: "x".repeat(1025) } }),
    JSON.stringify({ type: "offer", sdp: `m=application${"x".repeat(64 << 10)}` }),
  ]) {
    assert.equal(parseSignal(text), null, text.slice(0, 60));
  }
});
