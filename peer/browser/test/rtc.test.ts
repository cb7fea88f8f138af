import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Bytes } from "../src/bytes.ts";
import type { PeerID } from "../src/ident.ts";
import { type Conn, formatSignal, LowWater, parseSignal, Transport } from "../src/rtc.ts";
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

function setup(): { clock: FakeClock; network: FakeNetwork; side(local: PeerID, remote: PeerID, offerer: boolean): Side } {
  const clock = new FakeClock();
  const network = new FakeNetwork(clock);
  const transport = new Transport(clock, network.create);
  const side = (local: PeerID, remote: PeerID, offerer: boolean): Side => {
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
    });
    return self;
  };
  return { clock, network, side };
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
