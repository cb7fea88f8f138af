// Whole networks of clients in memory: fake mediators, fake RTCPeerConnections, fake time.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Bytes } from "../src/bytes.ts";
import { Client, defaultMediators } from "../src/client.ts";
import {
  formatLink,
  type FullHash,
  type Geometry,
  geometryOf,
  type Hash,
  hashLeaves,
  type Info,
  linkTo,
  toDictionary,
} from "../src/content.ts";
import type { PeerID } from "../src/ident.ts";
import { HighWater } from "../src/rtc.ts";
import { Disk, type Store } from "../src/store.ts";
import {
  Bits,
  type Block,
  encode,
  type Frame,
  MaxBlock,
  MaxFrame,
  MaxRequests,
  MinFrame,
  Reason,
} from "../src/wire.ts";
import { withoutThreads } from "./clock.ts";
import { dictionary, errors, kib, mediator, minute, Net, Puppet, rejection, states } from "./net.ts";
import { describe as infoOf, randomBytes } from "./world.ts";

withoutThreads();

test("a file goes from one page to another by its link", async () => {
  const net = new Net();
  const data = randomBytes(1, 300_001);
  const seeding = net.client();
  const seeded = seeding.seed(new Blob([data]), { name: "file.bin", type: "image/png", pieceLength: 64 * kib });
  const seederStates = states(seeded);
  await net.clock.pass(1000);
  assert.deepEqual(seederStates, ["hashing", "connecting", "seeding"]);
  assert.equal((await seeded.ready).total_length, data.length);
  assert.deepEqual(Object.keys(seeded.timeline), ["started", "mediator_open", "established", "announced"]);

  const leecher = net.client();
  const content = leecher.get(seeded.link() as string);
  assert.equal(leecher.get(seeded.fragment() as string), content, "the same content twice");
  const [heard, told] = [states(content), errors(content)];
  await net.complete(content, data);
  assert.deepEqual(heard, ["searching", "connecting", "downloading", "complete"]);
  assert.deepEqual(told, []);
  assert.equal((await content.done).type, "image/png");
  assert.equal(content.name, "file.bin");
  assert.deepEqual(content.info, seeded.info); // the piece hashes came, too
  assert.deepEqual(Object.keys(content.timeline), [
    "started",
    "mediator_open",
    "lookup_sent",
    "offer_sent",
    "established",
    "peers_named",
    "answer_received",
    "ice_connected",
    "dtls_connected",
    "channel_open",
    "first_piece",
    "announced",
    "complete",
  ]);
  const stamps = Object.values(content.timeline);
  assert.deepEqual(stamps, [...stamps].sort((a, b) => a - b));
  await net.clock.pass(1000);
  const { progress } = content;
  assert.deepEqual([progress.bytes, progress.verified, progress.pieces, progress.received], [data.length, 5, 5, data.length]);
  assert.deepEqual([...progress.bitmap], [0xf8]);
  assert.equal(seeded.progress.sent, data.length);
  assert.deepEqual([content.peers, seeded.peers], [[], []]); // both are complete, so they parted
});

test("a file of no bytes is a file", async () => {
  const net = new Net();
  const { content: seeded } = await net.seeder(new Uint8Array());
  const content = net.client().get(seeded.link() as string);
  await net.complete(content, new Uint8Array());
});

test("progress and peers are told while it goes on", async () => {
  const net = new Net();
  net.network.bandwidth = 100; // 100 KB/s
  const data = randomBytes(2, 512 * kib);
  const { content: seeded } = await net.seeder(data);
  const content = net.client().get(seeded.link() as string);
  const seen: number[] = [];
  let rtt: number | undefined;
  let speed = 0;
  content.on("progress", ({ bytes, receiveSpeed }) => {
    seen.push(bytes);
    speed = Math.max(speed, receiveSpeed);
  });
  content.on("peers", (peers) => (rtt = peers[0]?.rtt ?? rtt));
  await net.complete(content, data);
  assert.ok(seen.length > 8 && seen.length <= 70, `${seen.length} times in six seconds`);
  assert.deepEqual(seen, [...seen].sort((a, b) => a - b));
  assert.equal(seen.at(-1), data.length);
  assert.ok(speed > 50_000 && speed < 400_000, `${speed} bytes per second over a line of 100,000`);
  assert.equal(rtt, 10);
  await net.clock.pass(10_000);
  assert.deepEqual([content.progress.receiveSpeed, seeded.progress.sendSpeed], [0, 0]);
});

test("contents share one connection, and one that nobody uses is closed", async () => {
  const net = new Net();
  const datas = Array.from({ length: 12 }, (_, i) => randomBytes(i, 100_000 + i));
  const seeder = net.client();
  const seeded = datas.map((data) => seeder.seed(new Blob([data])));
  await net.clock.pass(1000);
  const leecher = net.client();
  const contents = seeded.map((content) => leecher.get(content.link() as string));
  for (const [i, content] of contents.entries()) await net.complete(content, datas[i] as Bytes);
  assert.equal(net.network.connections.length, 2);
  await net.clock.pass(29_000);
  assert.equal(net.open, 2);
  await net.clock.pass(2_000);
  assert.equal(net.open, 0);
});

test("a leecher announces with its first piece, and serves others when the seeder is gone", async () => {
  const net = new Net();
  const data = randomBytes(3, 400_000);
  const { client: seeder, content: seeded } = await net.seeder(data);
  const link = seeded.link() as string;
  const near = net.client().get(link);
  await net.complete(near, data);
  assert.ok(near.timeline.announced !== undefined);
  await Promise.all([seeder.close(), net.clock.pass(5_000)]);
  const far = net.client().get(link);
  await net.complete(far, data);
});

test("a leecher that waits is told of a seeder that comes later", async () => {
  const net = new Net();
  const data = randomBytes(4, 100_000);
  const content = net.client().get(dictionary(infoOf(data, 64 * kib)));
  await net.clock.pass(5 * minute);
  assert.equal(content.state, "searching");
  await net.seeder(data);
  await net.complete(content, data);
});

test("a seeder is called beside strangers who come with nothing", async () => {
  const net = new Net();
  const data = randomBytes(23, 100_000);
  const info = infoOf(data, 64 * kib);
  const leecher = net.client();
  const content = leecher.get(dictionary(info));
  await net.clock.pass(1000);
  for (let i = 0; i < 8; i++) {
    const stranger = Puppet.idle(net, info, { type: "have_none", number: 9 });
    await net.clock.pass(100);
    stranger.call(info.fullHash, leecher.peerID as PeerID);
  }
  await net.clock.pass(5_000);
  assert.equal(content.peers.filter(({ state }) => state === "open").length, 8);
  await net.seeder(data);
  await net.complete(content, data);
});

test("peers that were found and are of no use make room for one that comes later", async () => {
  for (const greeting of ["have_none", "have_all"] as const) {
    const net = new Net();
    const data = randomBytes(24, 100_000);
    const info = infoOf(data, 64 * kib);
    for (let i = 0; i < 10; i++) Puppet.idle(net, info, { type: greeting, number: 9 }).signaling.announce(info.fullHash);
    await net.clock.pass(1000);
    const content = net.client().get(dictionary(info));
    await net.clock.pass(5_000);
    assert.equal(content.peers.filter(({ state }) => state === "open").length, 8);
    await net.seeder(data);
    await net.complete(content, data, 10 * minute);
  }
});

test("a seeder is not said to be found while another mediator has not stored its announce", async () => {
  const net = new Net();
  const { content } = await net.seeder(randomBytes(25, 1000), { mediators: [mediator, "ws://second/mediation"] });
  const heard = states(content);
  let refusals = 1;
  net.mediators.intercept = (line, message) => {
    if (message.type !== "announce" || refusals-- <= 0) return false;
    net.mediators.refuse(line, "rate_limited", { fullHash: message.fullHash });
    return true;
  };
  net.mediators.stop(mediator);
  await net.clock.pass(4_000);
  assert.equal(content.state, "connecting");
  await net.clock.pass(minute);
  assert.deepEqual(heard, ["seeding", "connecting", "seeding"]);
});

test("two leechers that call each other at once get one connection", async () => {
  const net = new Net();
  const data = randomBytes(5, 128 * kib);
  const info = infoOf(data, 64 * kib);
  const [a, b] = [net.client().get(dictionary(info)), net.client().get(dictionary(info))];
  await net.clock.pass(1000);
  const [one, two] = net.mediators.open;
  assert.ok(one?.peerID && two?.peerID);
  net.mediators.send(one, { type: "peers", fullHash: info.fullHash, peers: [two.peerID] });
  net.mediators.send(two, { type: "peers", fullHash: info.fullHash, peers: [one.peerID] });
  await net.clock.pass(5_000);
  assert.equal(net.open, 2);
  for (const content of [a, b]) {
    assert.equal(content.state, "downloading");
    assert.deepEqual(content.peers.map(({ state }) => state), ["open"]);
    assert.equal(content.error, null);
  }
});

describe("a peer that does not do what it should", () => {
  const data = randomBytes(6, 10 * 64 * kib);
  const info = infoOf(data, 64 * kib);
  const truth = ({ piece, begin, length }: Block): Frame & { data: Bytes } => {
    const offset = piece * info.pieceLength + begin;
    return { type: "piece", number: 9, piece, begin, data: data.slice(offset, offset + length) };
  };
  const lies: [string, string[], (request: Block) => Frame[]][] = [
    ["wrong data", ["bad_peer"], (request) => [{ ...truth(request), data: new Uint8Array(request.length) }]],
    ["a wrong index", [], (request) => [{ ...truth(request), piece: 77 } as Frame]],
    ["a wrong begin", [], (request) => [{ ...truth(request), begin: request.begin + 7 } as Frame]],
    ["a wrong length", [], (request) => [{ ...truth(request), data: truth(request).data.subarray(1) }]],
    ["no answer", [], () => []],
    ["only refusals", [], (request) => [{ ...request, type: "reject", number: 9 }]],
    ["a number without a handshake", ["bad_peer"], () => [{ type: "have_all", number: 10 }]],
    ["a second handshake", ["bad_peer"], () => [{ type: "handshake", number: 9, fullHash: info.fullHash, totalLength: info.totalLength, pieceLength: info.pieceLength, maxFrame: MinFrame }]],
  ];
  for (const [name, told, answer] of lies) {
    test(`${name}: another one finishes`, async () => {
      const net = new Net();
      const liar = Puppet.seeding(net, info, answer);
      await net.clock.pass(1000);
      const content = net.client().get(dictionary(info));
      const heard = errors(content);
      await net.clock.pass(2_000);
      assert.ok(liar.types().includes("request"), "the liar was not asked");
      await net.seeder(data);
      await net.complete(content, data, 3 * minute);
      assert.deepEqual([...new Set(heard)], told);
      if (name === "wrong data") assert.ok(liar.received.some((frame) => frame.type === "goodbye" && frame.reason === Reason.Poisoned));
      if (told.length > 0 && name !== "wrong data") assert.deepEqual(liar.closed, ["closed_by_peer"]);
    });
  }

  test("a frame of a type to come is ignored, bytes that are no frame are not", async () => {
    const net = new Net();
    const puppet = Puppet.seeding(net, info, (request) => [truth(request)]);
    await net.clock.pass(1000);
    const content = net.client().get(dictionary(info));
    assert.ok(await net.clock.pass(10_000, () => content.state === "downloading"));
    const [conn] = puppet.conns.values();
    conn?.send(Uint8Array.of(200, 0, 9, 1, 2, 3));
    await net.complete(content, data);
    conn?.send(Uint8Array.of(4, 0, 9));
    await net.clock.pass(1000);
    assert.deepEqual(puppet.closed, ["closed_by_peer"]);
  });
});

test("a bare link's wrong piece hashes are found out", async () => {
  const net = new Net();
  const data = randomBytes(7, 5 * 64 * kib);
  const info = infoOf(data, 64 * kib);
  const liar = Puppet.seeding(net, info, () => []);
  const script = liar.answer;
  liar.answer = (frame, send) => {
    if (frame.type !== "hash_request") return script(frame, send);
    const hashes = (info.pieceHashes ?? []).map(() => new Uint8Array(32));
    send({ type: "hashes", number: 9, index: frame.index, hashes, proof: [] });
  };
  await net.clock.pass(1000);
  const content = net.client().get(formatLink(linkTo(info)));
  const heard = errors(content);
  await net.clock.pass(2_000);
  assert.deepEqual(heard, ["bad_peer"]);
  await net.seeder(data);
  await net.complete(content, data, 2 * minute);
  assert.deepEqual(content.info, { ...toDictionary(info), file_name: "", content_type: "" });
});

test("an offer for a content that is not here is ignored, a handshake for it is answered by goodbye", async () => {
  const net = new Net();
  const data = randomBytes(8, 100_000);
  const { client, content } = await net.seeder(data);
  const puppet = new Puppet(net);
  await net.clock.pass(100);
  const seederID = client.peerID as PeerID;
  const unknown = "e".repeat(64) as FullHash;
  puppet.call(unknown, seederID);
  await net.clock.pass(10_000);
  assert.equal(net.network.connections.length, 1, "the offer was answered");
  await net.clock.pass(15_000);

  puppet.opened = (send) => {
    send({ type: "handshake", number: 1, fullHash: unknown, totalLength: 5, pieceLength: 65536, maxFrame: MinFrame });
    send({ type: "have_none", number: 1 });
    send({ type: "request", number: 1, blocks: [{ piece: 0, begin: 0, length: 5 }] });
  };
  puppet.call(content.info?.full_hash as FullHash, seederID);
  await net.clock.pass(1000);
  assert.deepEqual(puppet.received.filter(({ type }) => type === "goodbye"), [
    { type: "goodbye", fullHash: unknown, reason: Reason.NotHere, message: "" },
  ]);
  assert.equal(puppet.conns.size, 1, "the connection stays for other contents");
});

test("requests wait as the channel drains, up to a bound; cancelled and voided ones are not served", async () => {
  const net = new Net();
  net.network.bandwidth = 1000;
  const data = randomBytes(9, 64 * 64 * kib);
  const { client, content } = await net.seeder(data);
  const info = infoOf(data, 64 * kib);
  const puppet = new Puppet(net);
  await net.clock.pass(100);
  const block = (i: number): { piece: number; begin: number; length: number } => ({ piece: i % 64, begin: 0, length: 64 * kib });
  puppet.opened = (send) => {
    send({ type: "handshake", number: 1, fullHash: info.fullHash, totalLength: info.totalLength, pieceLength: info.pieceLength, maxFrame: MaxFrame });
    send({ type: "have_none", number: 1 });
    for (let i = 0; i < MaxRequests + 100; i++) send({ type: "request", number: 1, blocks: [block(i)] });
    send({ type: "cancel", number: 1, ...block(63) });
  };
  puppet.call(info.fullHash, client.peerID as PeerID);
  await net.clock.pass(2_000); // the answers stand behind a second of pieces
  const rejects = puppet.types().filter((type) => type === "reject").length;
  assert.ok(rejects > 50 && rejects <= 101, `${rejects} rejects`);
  assert.ok(puppet.received.some((frame) => frame.type === "reject" && frame.piece === 63), "the cancel was not answered");
  assert.ok(net.network.mostBuffered <= HighWater + MaxBlock + kib, `${net.network.mostBuffered} bytes waited`);
  const [conn] = puppet.conns.values();
  conn?.send(encode({ type: "goodbye", fullHash: info.fullHash, reason: Reason.Finished, message: "" }));
  await net.clock.pass(3_000);
  const pieces = puppet.types().filter((type) => type === "piece").length;
  assert.ok(pieces < 60, `${pieces} pieces after a goodbye`);
  assert.deepEqual(content.peers, []);
  const sent = content.progress.sent;
  await net.clock.pass(minute);
  assert.equal(content.progress.sent, sent);
});

test("a mediator that is lost is replaced, connections live on, and everything is announced anew", async () => {
  const net = new Net();
  net.network.bandwidth = 100;
  const data = randomBytes(10, 10 * 64 * kib);
  const options = { mediators: [mediator, "ws://second/mediation"] };
  const { client: seeder, content: seeded } = await net.seeder(data, options);
  const leecher = net.client(options);
  const lost: string[] = [];
  leecher.on("mediator", ({ state }) => lost.push(state));
  leecher.on("error", ({ code }) => lost.push(code));
  const content = leecher.get(seeded.link() as string);
  assert.ok(await net.clock.pass(minute, () => content.progress.verified > 2));
  const id = seeder.peerID;
  net.mediators.stop(mediator);
  await net.complete(content, data);
  assert.deepEqual(lost, ["connecting", "established", "waiting", "mediator_unreachable", "connecting", "established"]);
  assert.notEqual(seeder.peerID, id);
  const late = net.client(options).get(seeded.link() as string);
  await net.complete(late, data);
});

test("a transfer does not notice that its mediator goes away, and one that was only named takes over", async () => {
  const net = new Net();
  net.network.bandwidth = 100;
  const second = "ws://second/mediation";
  net.mediators.mediators = [second];
  const data = randomBytes(10, 40 * 64 * kib);
  const { client: seeder, content: seeded } = await net.seeder(data);
  const leecher = net.client();
  const content = leecher.get(seeded.link() as string);
  assert.ok(await net.clock.pass(minute, () => content.progress.verified > 2));
  const heard = states(content);
  const failed = errors(content);
  net.mediators.down.add(second); // so for a while there is no mediator at all
  for (const line of net.mediators.open) net.mediators.refuse(line, "going_away");
  await net.clock.pass(2_000);
  net.mediators.stop(mediator);
  const before = content.progress.verified;
  await net.clock.pass(5_000);
  assert.ok(content.progress.verified > before + 2, "it stands still");
  assert.deepEqual([seeder.peerID, leecher.peerID, net.mediators.open.length], [null, null, 0]);
  net.mediators.down.delete(second);
  await net.complete(content, data);
  assert.deepEqual(heard, ["downloading", "complete"]);
  assert.deepEqual(failed, []);
  assert.deepEqual(net.mediators.open.map(({ url }) => url), [second, second]);
  const late = net.client({ mediators: [second] }).get(seeded.link() as string);
  await net.complete(late, data);
});

test("a seeder that vanishes while it is called is left at once, and asked for again", async () => {
  const net = new Net();
  const data = randomBytes(11, 100_000);
  const info = infoOf(data, 64 * kib);
  const content = net.client().get(dictionary(info));
  const heard = errors(content);
  await net.clock.pass(100);
  const line = net.mediators.lines[0];
  assert.ok(line !== undefined);
  net.mediators.send(line, { type: "peers", fullHash: info.fullHash, peers: ["d".repeat(40) as PeerID] });
  await net.clock.pass(1000);
  assert.deepEqual(heard, ["connection_failed"]);
  assert.equal(content.state, "searching");
  const asked = (): number => line.types().filter((type) => type === "get_peers").length;
  assert.equal(asked(), 1);
  await net.clock.pass(10 * minute);
  assert.ok(asked() >= 8 && asked() <= 20, `asked ${asked()} times in ten minutes`);
});

test("a peer that cannot be reached is tried again when it is named again", async () => {
  const net = new Net();
  const data = randomBytes(12, 100_000);
  const { content: seeded } = await net.seeder(data);
  // The first answers get lost on their way.
  let lost = 0;
  net.mediators.intercept = (_, message) => message.type === "signal" && message.signalData.includes('"answer"') && lost++ < 2;
  const content = net.client().get(seeded.link() as string);
  const heard = errors(content);
  await net.complete(content, data, 5 * minute);
  assert.ok(heard.length >= 1 && heard.every((code) => code === "connection_failed"), String(heard));
});

test("caps: peers served, peers called, connections of a page", async () => {
  const net = new Net();
  net.network.bandwidth = 100;
  const data = randomBytes(13, 10 * 64 * kib);
  const { content: seeded } = await net.seeder(data, { maxPeersServing: 2, maxConnections: 3 });
  const link = seeded.link() as string;
  const leechers = Array.from({ length: 5 }, () => net.client({ maxPeersDownloading: 1 }).get(link));
  await net.clock.pass(4_000);
  assert.equal(seeded.peers.length, 2);
  for (const leecher of leechers) assert.ok(leecher.peers.filter(({ state }) => state === "open").length <= 3);
  for (const leecher of leechers) await net.complete(leecher, data, 20 * minute);
});

test("a file that cannot be read any more fails, and its peers are told", async () => {
  const net = new Net();
  const data = randomBytes(14, 5 * 64 * kib);
  let broken = false;
  const blob = new Blob([data]);
  const file = (part: Blob): Blob =>
    ({
      size: part.size,
      type: "",
      slice: (begin: number, end: number) => file(part.slice(begin, end)),
      arrayBuffer: () => (broken ? Promise.reject(new Error("the file changed")) : part.arrayBuffer()),
    }) as unknown as Blob;
  const client = net.client();
  const seeded = client.seed(file(blob), { name: "a", pieceLength: 64 * kib });
  await net.clock.pass(1000);
  assert.equal(seeded.state, "seeding");
  broken = true;
  const content = net.client().get(seeded.link() as string);
  await net.clock.pass(5_000);
  assert.equal(seeded.state, "failed");
  assert.equal(seeded.error?.code, "content_unreadable");
  assert.deepEqual(client.contents, []);
  assert.equal(content.state, "searching");
  assert.ok(net.mediators.lines[0]?.types().includes("finish"));
  await net.seeder(data); // somebody else has it
  await net.complete(content, data, 3 * minute);
});

test("a file that cannot be hashed fails", async () => {
  const net = new Net();
  const unreadable = { size: 10, type: "", slice: () => ({ arrayBuffer: () => Promise.reject(new Error("no")) }) } as unknown as Blob;
  const content = net.client().seed(unreadable);
  await net.clock.pass(1000);
  assert.equal(await rejection(content.ready), "content_unreadable");
  assert.equal(await rejection(content.done), "content_unreadable");
  assert.equal(content.state, "failed");
  const named = net.client().seed(new Blob(["x"]), { name: "a/b" });
  await net.clock.pass(1000);
  assert.equal(await rejection(named.ready), "bad_file_name");
  const cut = net.client().seed(new Blob(["x"]), { pieceLength: 0 });
  await net.clock.pass(1000);
  assert.equal(await rejection(cut.ready), "bad_piece_length");
});

test("stopping tells peers and mediator, and rejects what is not complete", async () => {
  const net = new Net();
  net.network.bandwidth = 100;
  const data = randomBytes(15, 20 * 64 * kib);
  const { client, content: seeded } = await net.seeder(data);
  const leecher = net.client();
  const content = leecher.get(seeded.link() as string);
  assert.ok(await net.clock.pass(minute, () => content.progress.verified > 2));
  content.stop();
  content.stop();
  assert.equal(await rejection(content.done), "stopped");
  assert.deepEqual([content.state, content.peers, leecher.contents], ["idle", [], []]);
  await net.clock.pass(8_000); // what was under way arrives, and is ignored
  assert.deepEqual(seeded.peers, []);
  assert.equal(net.open, 2, "the connection stays for other contents");
  const again = leecher.get(seeded.link() as string);
  assert.notEqual(again, content);
  await net.complete(again, data);
  assert.equal(net.network.connections.length, 2);
  seeded.stop();
  assert.equal(seeded.state, "idle");
  assert.deepEqual(client.contents, []);
  const hashing = client.seed(new Blob([data]));
  hashing.stop();
  assert.equal(await rejection(hashing.ready), "stopped");
});

test("seeding what is there already takes its place", async () => {
  const net = new Net();
  const data = randomBytes(16, 100_000);
  const { client, content: first } = await net.seeder(data);
  const second = client.seed(new Blob([data]), { name: "other", pieceLength: 64 * kib });
  await net.clock.pass(1000);
  assert.deepEqual([first.state, second.state], ["idle", "seeding"]);
  assert.deepEqual(client.contents, [second]);
  const content = net.client().get(second.link() as string);
  await net.complete(content, data);
});

test("closing a client leaves nothing behind", async () => {
  const net = new Net();
  net.network.bandwidth = 100;
  const data = randomBytes(17, 20 * 64 * kib);
  const { client: seeder, content: seeded } = await net.seeder(data);
  const leecher = net.client();
  const content = leecher.get(seeded.link() as string);
  assert.ok(await net.clock.pass(minute, () => content.progress.verified > 2));
  let closed = 0;
  for (const client of [leecher, leecher, seeder]) client.close().then(() => closed++);
  await net.clock.pass(1000);
  assert.equal(closed, 3);
  assert.deepEqual([net.open, net.mediators.open.length], [0, 0]);
  await net.clock.pass(5 * minute);
  assert.equal(net.clock.waiting, 0);
  assert.throws(() => leecher.get(seeded.link() as string), { code: "stopped" });
  await leecher.close();
});

test("what cannot work is said at once", async () => {
  const net = new Net();
  const info = infoOf(randomBytes(18, 10), 64 * kib);
  const none = net.client({ mediators: [] });
  assert.throws(() => none.get(dictionary(info)), { code: "no_mediator" });
  assert.throws(() => none.seed(new Blob([])), { code: "no_mediator" });
  none.get(formatLink(linkTo(info, [mediator]))); // the link names one
  await net.clock.pass(100);
  assert.equal(net.mediators.open[0]?.url, mediator);

  const malformed = net.client({ mediators: ["http://no"] });
  const told: string[] = [];
  malformed.on("error", ({ code }) => told.push(code));
  await net.clock.pass(100);
  assert.deepEqual(told, ["bad_mediator_url"]);

  const old = new Client({ mediators: [mediator] }, { ...net.seams, transport: null });
  assert.throws(() => old.get(dictionary(info)), { code: "unsupported" });
  const client = net.client();
  assert.throws(() => client.get("nonsense"), { code: "bad_link" });
  assert.throws(() => client.get("{}"), { code: "bad_full_hash" });
  assert.throws(() => client.get(info.fullHash), { code: "link_without_length" });
});

test("what the mediator refuses is told where it belongs", async () => {
  const net = new Net();
  const info = infoOf(randomBytes(19, 10), 64 * kib);
  const client = net.client();
  const content = client.get(toDictionary(info));
  const heard: string[] = [];
  content.on("error", ({ code }) => heard.push(`content ${code}`));
  client.on("error", ({ code }) => heard.push(`client ${code}`));
  await net.clock.pass(100);
  const line = net.mediators.lines[0];
  assert.ok(line !== undefined);
  net.mediators.refuse(line, "too_many_lookups", { fullHash: info.fullHash });
  net.mediators.refuse(line, "something_new");
  await net.clock.pass(100);
  assert.deepEqual(heard, ["content too_many_lookups", "client something_new"]);
  assert.equal(content.state, "searching");
});

test("ICE servers are the mediator's, unless the page names its own", async () => {
  const net = new Net();
  net.mediators.iceServers = [
    { urls: ["stun:192.0.2.1:3478"] },
    { urls: ["turn:192.0.2.1"] }, // without a password no browser takes it
    { urls: ["http://192.0.2.1"] },
  ];
  const info = infoOf(randomBytes(20, 10), 64 * kib);
  const client = net.client();
  client.get(dictionary(info));
  await net.clock.pass(100);
  const name = (digit: string): void => {
    const line = net.mediators.lines[0];
    assert.ok(line !== undefined);
    net.mediators.send(line, { type: "peers", fullHash: info.fullHash, peers: [digit.repeat(40) as PeerID] });
  };
  name("a");
  await net.clock.pass(100);
  client.overrideICEServers([]);
  name("b");
  await net.clock.pass(100);
  // What is prepared cannot know them: it guesses that the mediator serves STUN at its own port.
  const guess = [{ urls: ["stun:first:80"] }];
  assert.deepEqual(net.network.connections.map(({ configuration }) => configuration.iceServers), [guess, [{ urls: ["stun:192.0.2.1:3478"] }], []]);
});

test("a listener that throws harms nobody", async () => {
  const net = new Net();
  const data = randomBytes(21, 100_000);
  const { content: seeded } = await net.seeder(data);
  const content = net.client().get(seeded.link() as string);
  let heard = 0;
  const off = content.on("state", () => {
    throw new Error("a bug of the page");
  });
  content.on("state", () => heard++);
  await net.complete(content, data);
  off();
  assert.equal(heard, 3);
  assert.equal(content.error?.code, "callback_failed");
});

test("the mediators of a page", () => {
  const hash = "a".repeat(64);
  assert.deepEqual(defaultMediators({ href: "http://localhost:8080/preview/" }), ["ws://localhost:8080/mediation"]);
  assert.deepEqual(defaultMediators({ href: "https://example.org/x?y" }), ["wss://example.org/mediation"]);
  assert.deepEqual(defaultMediators({ href: "file:///x.html" }), []);
  assert.deepEqual(defaultMediators({ href: "http://a/?mediator=ws://b/mediation&mediator=ws://c/mediation" }), [
    "ws://b/mediation",
    "ws://c/mediation",
  ]);
  assert.deepEqual(defaultMediators({ href: `http://a/#${hash}?xl=5&m=ws%3A%2F%2Fb%2Fmediation&m=ws%3A%2F%2Fa%2Fmediation` }), [
    "ws://a/mediation",
    "ws://b/mediation",
  ]);
  assert.deepEqual(defaultMediators({ href: "http://a/#chapter" }), ["ws://a/mediation"]);
});

test("a bitfield of some pieces is followed", async () => {
  const net = new Net();
  const data = randomBytes(22, 10 * 64 * kib);
  const info = infoOf(data, 64 * kib);
  const some = new Bits(10);
  some.add(2);
  some.add(7);
  const partial = Puppet.seeding(net, info, ({ piece, begin, length }) =>
    some.has(piece)
      ? [{ type: "piece", number: 9, piece, begin, data: data.slice(piece * 64 * kib + begin, piece * 64 * kib + begin + length) }]
      : [{ type: "reject", number: 9, piece, begin, length }],
  );
  partial.opened = (send) => {
    const { fullHash, totalLength, pieceLength } = info;
    send({ type: "handshake", number: 9, fullHash, totalLength, pieceLength, maxFrame: MaxFrame });
    send(some.frame(9));
  };
  await net.clock.pass(1000);
  const content = net.client().get(dictionary(info));
  await net.clock.pass(5_000);
  assert.equal(content.progress.verified, 2);
  assert.deepEqual([...content.progress.bitmap], [0x21, 0]);
  assert.equal(content.peers[0]?.pieces, 2);
  const [early, ...later] = partial.received.flatMap((frame) => (frame.type === "request" ? [frame.blocks] : []));
  assert.deepEqual(early?.map(({ length }) => length), [1, 2, 3, 4].map(() => 16 * kib)); // before it said what it has
  assert.ok(later.flat().every(({ piece }) => some.has(piece)));
});

test("limits hold what is sent and what is asked for", async () => {
  const data = randomBytes(30, 20 * 64 * kib);
  for (const [seederOptions, leecherOptions] of [
    [{ uploadLimit: 200_000 }, {}],
    [{ peerUploadLimit: 200_000 }, {}],
    [{}, { downloadLimit: 200_000 }],
  ] as const) {
    const net = new Net();
    const { content: seeded } = await net.seeder(data, seederOptions);
    const content = net.client(leecherOptions).get(seeded.link() as string);
    await net.complete(content, data);
    const { channel_open: began = 0, complete = 0 } = content.timeline;
    const took = complete - began;
    assert.ok(took > 5_500 && took < 8_500, `${took} ms for 6.5 s`);
  }
});

test("a limit is shared by those who ask, and the rate of each peer is told", async () => {
  const net = new Net();
  const data = randomBytes(31, 40 * 64 * kib);
  const { content: seeded } = await net.seeder(data, { uploadLimit: 400_000 });
  const link = seeded.link() as string;
  const leechers = [1, 2, 3].map(() => net.client({ uploadLimit: 1 }).get(link)); // who send nothing on, but for a block
  await net.clock.pass(6_000);
  const received = leechers.map(({ progress }) => progress.received);
  for (const bytes of received) assert.ok(bytes > 500_000 && bytes < 1_200_000, `${received} bytes`);
  const [peer] = leechers[0]?.peers.filter(({ pieces }) => pieces === 40) ?? [];
  assert.ok(peer !== undefined && peer.rate > 50_000, `${peer?.rate} bytes/s`); // at best, of late
});

describe("streams", () => {
  test("what a reader waits for comes first, before the content is complete", async () => {
    const net = new Net();
    net.network.bandwidth = 200;
    const data = randomBytes(32, 100 * 64 * kib);
    const { content: seeded } = await net.seeder(data);
    const content = net.client().get(seeded.link() as string);
    await net.clock.pass(3_000);
    const reader = content.stream(90 * 64 * kib + 5, 92 * 64 * kib).getReader();
    const got: Uint8Array[] = [];
    let over = false;
    void (async () => {
      for (let part = await reader.read(); !part.done; part = await reader.read()) got.push(part.value);
      over = true;
    })();
    const began = net.clock.now();
    assert.ok(await net.clock.pass(10_000, () => over), "the stream did not end");
    assert.ok(net.clock.now() - began < 8_000, `it took ${net.clock.now() - began} ms`);
    assert.deepEqual(new Uint8Array(Buffer.concat(got)), data.slice(90 * 64 * kib + 5, 92 * 64 * kib));
    assert.equal(content.state, "downloading");
    await net.complete(content, data);
    assert.deepEqual(new Uint8Array(await new Response(content.stream()).arrayBuffer()), data);
  });

  test("of a seeded file, also while it is hashed", async () => {
    const net = new Net();
    const data = randomBytes(33, 300_000);
    const content = net.client().seed(new Blob([data]));
    const stream = content.stream(1, 299_999);
    assert.equal(content.state, "hashing");
    let got: ArrayBuffer | null = null;
    void new Response(stream).arrayBuffer().then((all) => (got = all));
    assert.ok(await net.clock.pass(2_000, () => got !== null));
    assert.deepEqual(new Uint8Array(got as unknown as ArrayBuffer), data.slice(1, 299_999));
  });

  test("fail with what ended the content, and refuse what is not in it", async () => {
    const net = new Net();
    const data = randomBytes(34, 100_000);
    const content = net.client().get(dictionary(infoOf(data, 64 * kib)));
    for (const [begin, end] of [[-1, 5], [6, 5], [0, 100_001], [Number.NaN, 5]] as const) {
      assert.throws(() => content.stream(begin, end), RangeError);
    }
    const waiting = rejection(content.stream().getReader().read());
    await net.clock.pass(1_000);
    content.stop();
    await net.clock.pass(10);
    assert.equal(await waiting, "stopped");
    assert.equal(await rejection(content.stream().getReader().read()), "stopped");
  });
});

/** A store that keeps what it has from visit to visit. */
class KeptStore implements Store {
  readonly geometry: Geometry;
  readonly data: Bytes;
  readonly settled: Bits;
  readonly closed: boolean[] = []; // whether each visit discarded it

  constructor(info: Info) {
    this.geometry = geometryOf(info);
    this.data = new Uint8Array(info.totalLength);
    this.settled = new Bits(this.geometry.pieces);
  }

  async check(): Promise<Bits> {
    return Bits.parse(this.settled.bytes(), this.settled.pieces) as Bits;
  }

  async keep(piece: number, begin: number, data: Bytes): Promise<readonly Hash[]> {
    this.data.set(data, this.geometry.pieceOffset(piece) + begin);
    return hashLeaves(data);
  }

  settle(piece: number): void {
    this.settled.add(piece);
  }

  async read(piece: number, begin: number, length: number): Promise<Bytes> {
    const at = this.geometry.pieceOffset(piece) + begin;
    return this.data.slice(at, at + length);
  }

  async complete(): Promise<Blob> {
    return new Blob([this.data]);
  }

  async close(discard: boolean): Promise<void> {
    this.closed.push(discard);
  }
}

describe("a download on the disk", () => {
  const data = randomBytes(35, 40 * 64 * kib);
  const info = infoOf(data, 64 * kib);

  /** A network whose clients have this disk. */
  function onDisk(store: Store, opening: Promise<void> = Promise.resolve()): Net {
    const net = new Net();
    net.disk = { keeps: async () => false, open: () => opening.then(() => ({ store, info })) } as unknown as Disk;
    return net;
  }

  test("goes on where it was stopped, and fetches nothing twice", async () => {
    const store = new KeptStore(info);
    const net = onDisk(store);
    net.network.bandwidth = 200;
    await net.seeder(data);
    const client = net.client({ storage: "disk" });
    const first = client.get(dictionary(info));
    assert.ok(await net.clock.pass(minute, () => first.progress.verified >= 20));
    first.stop();
    await net.clock.pass(100);
    assert.deepEqual(store.closed, [false]);
    const there = store.settled.count;
    const second = client.get({ ...toDictionary(info) });
    await net.clock.pass(100);
    assert.equal(second.progress.verified, there);
    assert.ok(second.timeline.announced !== undefined, "what is there can be served at once");
    await net.complete(second, data);
    assert.ok(second.progress.received <= data.length - there * 64 * kib, `${second.progress.received} bytes came`);
    second.discard();
    second.stop();
    await net.clock.pass(100);
    assert.deepEqual([store.closed, second.state], [[false, true], "idle"]);
    assert.deepEqual(client.contents, []);
  });

  test("is complete at once where everything is there", async () => {
    const store = new KeptStore(info);
    store.data.set(data);
    for (let piece = 0; piece < 40; piece++) store.settle(piece);
    const net = onDisk(store);
    const content = net.client({ storage: "disk" }).get(dictionary(info));
    await net.complete(content, data, 1_000);
    const other = net.client().get(dictionary(info));
    await net.complete(other, data);
  });

  test("is closed again where it was left while it opened, and awaited by close and by the next get", async () => {
    const store = new KeptStore(info);
    let open: () => void = () => {};
    const net = onDisk(store, new Promise((resolve) => (open = resolve)));
    const client = net.client({ storage: "disk" });
    const first = client.get(dictionary(info));
    await net.clock.pass(100);
    first.discard();
    const second = client.get(dictionary(info));
    assert.notEqual(first, second);
    await net.clock.pass(100);
    second.stop();
    let closed = false;
    void client.close().then(() => (closed = true));
    await net.clock.pass(1_000);
    assert.deepEqual([store.closed, closed], [[], false]);
    open();
    await net.clock.pass(1_000);
    assert.deepEqual([store.closed, closed], [[true, false], true]);
  });

  test("fails where there is no disk and it was asked for; a large one is kept in memory, and that is said", async () => {
    const net = new Net();
    const large = { ...toDictionary(info), total_length: 65 << 20, piece_length: 1 << 20 };
    delete (large as { piece_hashes?: unknown }).piece_hashes;
    const strict = net.client({ storage: "disk" }).get(large);
    const lenient = net.client().get(large);
    const [no, yes] = [errors(strict), errors(lenient)];
    await net.clock.pass(1_000);
    assert.deepEqual([strict.state, no], ["failed", ["store_failed"]]);
    assert.deepEqual([lenient.state, yes], ["searching", ["store_failed"]]);
    assert.equal(await rejection(strict.done), "store_failed");
  });

  test("is begun where those in memory leave no room, and not before; stopped ones leave theirs", async () => {
    // A 64th of a quarter of a GiB: 4 MiB, where each has 2.5.
    for (const [deviceMemory, onDisk] of [[0.25, 1], [0.5, 0]] as const) {
      const net = new Net();
      const opened: string[] = [];
      net.disk = {
        keeps: async () => false,
        open: async (wanted: Info) => {
          opened.push(wanted.fullHash);
          return { store: new KeptStore(wanted), info: wanted };
        },
      } as unknown as Disk;
      net.deviceMemory = deviceMemory;
      const client = net.client();
      const infos = [info, ...[38, 39].map((seed) => infoOf(randomBytes(seed, data.length), 64 * kib))];
      const [first, , third] = infos as [Info, Info, Info];
      const content = client.get(dictionary(first));
      client.get(dictionary(infos[1] as Info));
      await net.clock.pass(100);
      assert.deepEqual(opened, infos.slice(1, 1 + onDisk).map(({ fullHash }) => fullHash));
      content.stop();
      await net.clock.pass(100);
      client.get(dictionary(third));
      await net.clock.pass(100);
      assert.equal(opened.length, onDisk);
      await Promise.all([client.close(), net.clock.pass(100)]);
    }
  });

  test("fails where it cannot be written, and its peers are told", async () => {
    const store = new KeptStore(info);
    store.keep = () => Promise.reject(new Error("the disk is full"));
    const net = onDisk(store);
    const { content: seeded } = await net.seeder(data);
    const content = net.client({ storage: "disk" }).get(dictionary(info));
    await net.clock.pass(5_000);
    assert.deepEqual([content.state, content.error?.code], ["failed", "store_failed"]);
    assert.deepEqual([store.closed, seeded.peers], [[false], []]);
  });
});

test("when the last peer is lost, the mediator is asked at once, then less and less", async () => {
  const net = new Net();
  net.network.bandwidth = 100;
  const data = randomBytes(36, 40 * 64 * kib);
  const { client: seeder, content: seeded } = await net.seeder(data);
  const content = net.client().get(seeded.link() as string);
  assert.ok(await net.clock.pass(minute, () => content.progress.verified > 2));
  const line = net.mediators.lines.at(-1);
  const asked = (): number => line?.types().filter((type) => type === "get_peers").length ?? 0;
  const before = asked();
  await Promise.all([seeder.close(), net.clock.pass(2_500)]);
  assert.equal(content.state, "searching");
  assert.ok(asked() > before, "nobody was asked for");
  await net.clock.pass(10 * minute);
  assert.ok(asked() - before < 20, `asked ${asked() - before} times in ten minutes`);
  await net.seeder(data);
  await net.complete(content, data, 3 * minute);
});

test("offers do not take all connections: some are for those that we need", async () => {
  const net = new Net();
  const data = randomBytes(37, 100_000);
  const info = infoOf(data, 64 * kib);
  const leecher = net.client({ maxConnections: 6, maxPeersDownloading: 2 });
  const content = leecher.get(dictionary(info));
  await net.clock.pass(1_000);
  for (let i = 0; i < 10; i++) {
    const stranger = Puppet.idle(net, info, { type: "have_none", number: 9 });
    await net.clock.pass(100);
    stranger.call(info.fullHash, leecher.peerID as PeerID);
  }
  await net.clock.pass(2_000);
  assert.equal(content.peers.filter(({ state }) => state === "open").length, 4);
  await net.seeder(data);
  await net.complete(content, data);
});
