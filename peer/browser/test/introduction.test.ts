// How a page comes to its peers, in as few round trips as possible. Every trip from a page to the mediator
// and between two pages takes the same here, so that a stamp is a number of trips: one that is lost fails a test.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Client } from "../src/client.ts";
import type { Content, Phase } from "../src/api.ts";
import type { FullHash } from "../src/content.ts";
import type { PeerID } from "../src/ident.ts";
import type { Message } from "../src/mediation.ts";
import { parseSignal } from "../src/rtc.ts";
import { Disk } from "../src/store.ts";
import { MaxFrame, Reason } from "../src/wire.ts";
import { withoutThreads } from "./clock.ts";
import { dictionary, errors, kib, minute, Net, Puppet, states } from "./net.ts";
import { describe as infoOf, randomBytes } from "./world.ts";

withoutThreads();

const trip = 25; // ms, one way

/** A network in which everything but a trip takes no time, and with mediators that hand offers out. */
function net(offers = true): Net {
  const made = new Net();
  made.mediators.latency = made.network.latency = trip;
  made.mediators.offers = offers;
  made.network.gathering = [0, 0];
  made.network.bandwidth = 1e9;
  return made;
}

/** After how many trips a phase was reached, from another one on. */
function trips({ timeline }: Content, from: Phase, to: Phase): number {
  const [begin, end] = [timeline[from], timeline[to]];
  assert.ok(begin !== undefined && end !== undefined, `${from} or ${to} was not reached: ${Object.keys(timeline).join()}`);
  return Math.round((100 * (end - begin)) / trip) / 100;
}

/** What the mediator was told over a client's present line. */
function told({ mediators }: Net, client: Client): Message[] {
  const line = mediators.lines.find(({ peerID }) => peerID === client.peerID);
  assert.ok(line !== undefined);
  return line.received;
}

/** The lookups of a client, and whether each had an offer. */
function lookups(made: Net, client: Client): boolean[] {
  return told(made, client).flatMap((message) => (message.type === "get_peers" ? [message.offer !== undefined] : []));
}

/** What was signalled about a content over a client's line, by kind. */
function signals(made: Net, client: Client): string[] {
  return told(made, client).flatMap((message) => (message.type === "signal" ? [parseSignal(message.signalData)?.type ?? "nonsense"] : []));
}

/** Names peers of a content to the client. */
function name(made: Net, client: Client, fullHash: FullHash, peers: PeerID[], offered?: PeerID): void {
  const line = made.mediators.open.find(({ peerID }) => peerID === client.peerID);
  assert.ok(line !== undefined);
  made.mediators.send(line, { type: "peers", fullHash, peers, ...(offered !== undefined && { offered }) });
}

describe("trips from an open socket to the first piece", () => {
  for (const [what, offers, answered] of [
    ["the mediator hands the offer out", true, 4],
    ["a mediator of before, which names peers alone", false, 6],
  ] as const) {
    test(what, async () => {
      const made = net(offers);
      const data = randomBytes(1, 10_000);
      const { client: seeder, content: seeded } = await made.seeder(data);
      const client = made.client();
      const content = client.get(seeded.link() as string);
      const heard = errors(content);
      await made.complete(content, data);
      assert.equal(trips(content, "started", "mediator_open"), 1);
      assert.equal(trips(content, "mediator_open", "lookup_sent"), 0);
      assert.equal(trips(content, "mediator_open", "offer_sent"), 0);
      assert.equal(trips(content, "mediator_open", "established"), 2);
      assert.equal(trips(content, "mediator_open", "peers_named"), 2);
      assert.equal(trips(content, "mediator_open", "answer_received"), answered);
      assert.equal(trips(content, "answer_received", "channel_open"), 1); // ICE and DTLS take one in all here
      assert.equal(trips(content, "channel_open", "complete"), 2); // one block: asked for with the handshake, and answered
      assert.deepEqual(told(made, client).slice(0, 2).map(({ type }) => type), ["handshake", "get_peers"]);
      assert.deepEqual(lookups(made, client), [true]);
      assert.deepEqual(signals(made, client), offers ? ["candidate"] : ["offer", "candidate"]); // that there are no more
      assert.deepEqual(signals(made, seeder)[0], "answer");
      assert.equal(made.network.connections.length, 2);
      assert.deepEqual(heard, []);
    });
  }

  test("the second content of the same peers", async () => {
    const made = net();
    const [first, second] = [randomBytes(1, 10_000), randomBytes(2, 10_000)];
    const { client: seeder, content: seeded } = await made.seeder(first);
    const also = seeder.seed(new Blob([second]));
    await made.clock.pass(1000);
    const client = made.client();
    await made.complete(client.get(seeded.link() as string), first);
    await made.clock.pass(1000);
    const content = client.get(also.link() as string);
    await made.complete(content, second);
    assert.equal(trips(content, "started", "complete"), 2);
    const left = ["offer_sent", "answer_received", "ice_connected", "dtls_connected", "channel_open"].filter((phase) => phase in content.timeline);
    assert.deepEqual(left, []); // there was nothing of that to do
    assert.deepEqual(lookups(made, client), [true, false]); // the mediator is asked all the same
    assert.equal(made.network.connections.length, 2);
  });

  test("a socket that is open already", async () => {
    const made = net();
    const data = randomBytes(1, 10_000);
    const { content: seeded } = await made.seeder(data);
    const client = made.client();
    await made.clock.pass(1000);
    made.network.gathering = [3, 5];
    const content = client.get(seeded.link() as string);
    await made.complete(content, data);
    assert.equal((content.timeline.lookup_sent ?? 0) - (content.timeline.started ?? 0), 5); // its candidates were waited for
    assert.equal(trips(content, "lookup_sent", "answer_received"), 4);
    assert.deepEqual(lookups(made, client), [true]);
  });
});

test("the store is opened meanwhile, and who is found before is kept for it", async () => {
  for (const takes of [30, 400]) {
    const made = net();
    const data = randomBytes(1, 10_000);
    const { content: seeded } = await made.seeder(data);
    made.disk = new Disk({
      unavailable: null,
      start: () => assert.fail("nothing is there, and it fits into memory"),
      root: () => new Promise((_, reject) => made.clock.after(takes, reject)),
      clock: made.clock,
    });
    const client = made.client();
    const content = client.get(seeded.link() as string);
    await made.complete(content, data);
    assert.equal(trips(content, "started", "lookup_sent"), 1);
    assert.equal(trips(content, "mediator_open", "channel_open"), 5);
    assert.equal(trips(content, "started", "complete"), takes === 30 ? 8 : (takes + 2 * trip) / trip);
    assert.deepEqual(lookups(made, client), [true]);
  }
});

test("candidates that are found late reach whoever was handed the offer", async () => {
  const made = net();
  made.network.gathering = [70, 90];
  const data = randomBytes(1, 10_000);
  const { content: seeded } = await made.seeder(data);
  const client = made.client();
  const content = client.get(seeded.link() as string);
  await made.complete(content, data);
  assert.equal(trips(content, "mediator_open", "answer_received"), 4);
  assert.deepEqual(signals(made, client), ["candidate", "candidate"]);
  assert.equal(made.network.connections.length, 2);
});

test("a lookup does not wait for an offer that does not come, and shares the connection that comes of it", async () => {
  const made = net();
  const data = randomBytes(1, 10_000);
  const { content: seeded } = await made.seeder(data);
  const client = made.client();
  await made.clock.pass(1000);
  made.network.describing = 400;
  const content = client.get(seeded.link() as string);
  await made.complete(content, data);
  assert.equal((content.timeline.lookup_sent ?? 0) - (content.timeline.started ?? 0), 100);
  assert.deepEqual(lookups(made, client), [false]);
  assert.equal(made.network.connections.length, 2); // the one that was prepared is the one that is used
});

test("of many contents one has an offer; the others ask behind it, and share its connection", async () => {
  for (const opensFirst of [false, true]) {
    const made = net();
    const datas = Array.from({ length: 20 }, (_, i) => randomBytes(i, 10_000 + i));
    const seeder = made.client();
    const seeded = datas.map((data) => seeder.seed(new Blob([data])));
    await made.clock.pass(1000);
    const client = made.client();
    if (opensFirst) await made.clock.pass(1000);
    made.network.gathering = [4, 400];
    const contents = seeded.map((content) => client.get(content.link() as string));
    for (const [i, content] of contents.entries()) await made.complete(content, datas[i] as Uint8Array<ArrayBuffer>);
    assert.deepEqual(lookups(made, client), contents.map((_, i) => i === 0));
    assert.equal(made.network.connections.length, 2);
  }
});

describe("what is prepared is closed", () => {
  test("when the search ends with nobody, and the content is found all the same when somebody comes", async () => {
    const made = net();
    const data = randomBytes(1, 10_000);
    const content = made.client().get(dictionary(infoOf(data, 64 * kib)));
    await made.clock.pass(2 * trip);
    assert.equal(made.open, 1);
    await made.clock.pass(2 * trip);
    assert.equal(made.open, 0);
    await made.seeder(data);
    await made.complete(content, data);
  });

  test("when the download is stopped, or the client is closed", async () => {
    for (const end of [(content: Content) => content.stop(), (_: Content, client: Client) => void client.close()]) {
      const made = net();
      const client = made.client();
      const content = client.get(dictionary(infoOf(randomBytes(1, 10_000), 64 * kib)));
      await made.clock.pass(10);
      assert.equal(made.open, 1);
      end(content, client);
      assert.equal(made.open, 0);
      await made.clock.pass(minute);
      await client.close();
      assert.equal(made.network.connections.length, 1);
    }
  });

  test("when a while has passed, and another content may prepare one then", async () => {
    const made = net();
    made.mediators.intercept = (_, { type }) => type === "get_peers"; // its search never ends
    const client = made.client();
    const other = randomBytes(2, 10_000);
    client.get(dictionary(infoOf(randomBytes(1, 10_000), 64 * kib)));
    await made.clock.pass(19_000);
    client.get(dictionary(infoOf(other, 64 * kib)));
    assert.equal(made.network.connections.length, 1);
    await made.clock.pass(2_000);
    assert.equal(made.open, 0);
    const own = infoOf(randomBytes(1, 10_000), 64 * kib).fullHash;
    const asked = told(made, client).flatMap((message) => (message.type === "get_peers" && message.fullHash === own ? [message] : []));
    const last = asked.at(-1);
    assert.ok(asked.length > 1 && last?.type === "get_peers" && last.offer === undefined); // nobody is to get it any more
    client.get(dictionary(infoOf(randomBytes(3, 10_000), 64 * kib)));
    assert.deepEqual([made.open, made.network.connections.length], [1, 2]);
    await client.close();
  });

  test("when somebody is connected, or lied; and nobody is to get it then", async () => {
    for (const lies of [false, true]) {
      const made = net();
      const data = randomBytes(1, 100_000);
      const info = infoOf(data, 64 * kib);
      const client = made.client();
      made.mediators.intercept = (_, { type }) => type === "get_peers"; // its search does not end
      const content = client.get(dictionary(info));
      await made.clock.pass(10 * trip);
      assert.equal(made.open, 1);
      const puppet = Puppet.seeding(made, info, ({ piece, begin, length }) =>
        lies ? [{ type: "piece", number: 9, piece, begin, data: new Uint8Array(length) }] : [],
      );
      await made.clock.pass(10 * trip);
      puppet.call(info.fullHash, client.peerID as PeerID);
      await made.clock.pass(1000);
      assert.deepEqual([made.open, content.error?.code], [2, lies ? "bad_peer" : undefined]);
      assert.deepEqual(lookups(made, client).slice(0, 2), [true, false]);
      const id = puppet.signaling.peerID as PeerID;
      name(made, client, info.fullHash, [id], id);
      await made.clock.pass(1000);
      assert.equal(made.open, 2);
      assert.deepEqual(content.peers.map(({ state }) => state), lies ? [] : ["open"]);
    }
  });
});

test("of several peers who are said to have the offer the first one counts", async () => {
  const made = net();
  const data = randomBytes(1, 200_000);
  const info = infoOf(data, 64 * kib);
  const client = made.client();
  made.mediators.intercept = (line, { type }) => type === "get_peers" && line.peerID === client.peerID;
  const seeders = [await made.seeder(data), await made.seeder(data)];
  const [first, second] = seeders.map((seeder) => seeder.client.peerID as PeerID) as [PeerID, PeerID];
  const content = client.get(dictionary(info));
  await made.clock.pass(10 * trip);
  const offer = told(made, client).flatMap((message) => (message.type === "get_peers" ? [message.offer as string] : []))[0] as string;
  for (const id of [first, second]) {
    const line = made.mediators.open.find(({ peerID }) => peerID === id);
    assert.ok(line !== undefined);
    made.mediators.send(line, { type: "signal", fullHash: info.fullHash, peerID: client.peerID as PeerID, signalData: offer });
    name(made, client, info.fullHash, [id], id);
  }
  await made.complete(content, data);
  assert.deepEqual(signals(made, client).filter((type) => type === "offer"), ["offer"]); // to the second one, whose answer to the first offer is ignored
  assert.equal(content.error, null);
});

test("two leechers who are handed each other's offers get one connection", async () => {
  const made = net();
  const data = randomBytes(1, 10 * 64 * kib);
  const info = infoOf(data, 64 * kib);
  const [a, b] = [made.client(), made.client()];
  made.mediators.intercept = (_, { type }) => type === "get_peers";
  await made.clock.pass(1000);
  const contents = [a.get(dictionary(info)), b.get(dictionary(info))];
  await made.clock.pass(10 * trip);
  const offerOf = (client: Client): string => told(made, client).flatMap((message) => (message.type === "get_peers" ? [message.offer as string] : []))[0] as string;
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const line = made.mediators.open.find(({ peerID }) => peerID === to.peerID);
    assert.ok(line !== undefined);
    made.mediators.send(line, { type: "signal", fullHash: info.fullHash, peerID: from.peerID as PeerID, signalData: offerOf(from) });
    name(made, from, info.fullHash, [to.peerID as PeerID], to.peerID as PeerID);
  }
  await made.clock.pass(1000);
  assert.equal(made.open, 2);
  for (const content of contents) assert.deepEqual(content.peers.map(({ state }) => state), ["open"]);
  assert.deepEqual(contents.map(({ error }) => error), [null, null]);
});

test("what is prepared counts as a connection", async () => {
  const made = net();
  const data = randomBytes(1, 10_000);
  const { content: seeded } = await made.seeder(data);
  const client = made.client({ maxConnections: 1 });
  const content = client.get(seeded.link() as string);
  client.get(dictionary(infoOf(randomBytes(2, 10), 64 * kib)));
  await made.clock.pass(10);
  assert.equal(made.open, 1);
  await made.complete(content, data);
  assert.equal(made.network.connections.length, 2);
});

test("a connection that does not open is begun anew with the servers that the mediator named meanwhile", async () => {
  const made = net();
  const relay = { urls: ["turn:relay.example"], username: "u", credential: "c" };
  made.mediators.iceServers = [relay];
  made.network.blocked = ({ configuration }) => configuration.iceServers?.[0]?.urls?.[0] !== "turn:relay.example";
  const data = randomBytes(1, 10_000);
  const { content: seeded } = await made.seeder(data);
  const client = made.client();
  const content = client.get(seeded.link() as string);
  await made.complete(content, data);
  const took = (content.timeline.complete ?? 0) - (content.timeline.started ?? 0);
  assert.ok(took > 2_000 && took < 2_500, `it took ${took} ms`);
  // The next time it knows.
  made.mediators.cut(made.mediators.open.find(({ peerID }) => peerID === client.peerID) ?? assert.fail());
  await made.clock.pass(minute); // and the connection is closed, which nobody used
  client.get(dictionary(infoOf(randomBytes(2, 10), 64 * kib)));
  assert.deepEqual(made.network.connections.at(-1)?.configuration.iceServers, [relay]);
});

describe("open connections are asked for the next content", () => {
  /** A leecher with an open connection to a peer that answers as the test says; what that one is told about the next content. */
  async function setup(made: Net): Promise<{ client: Client; puppet: Puppet; next: ReturnType<typeof infoOf> }> {
    const data = randomBytes(1, 100_000);
    const [info, next] = [infoOf(data, 64 * kib), infoOf(randomBytes(2, 100_000), 64 * kib)];
    const puppet = Puppet.seeding(made, info, ({ piece, begin, length }) => [
      { type: "piece", number: 9, piece, begin, data: data.slice(64 * kib * piece + begin, 64 * kib * piece + begin + length) },
    ]);
    await made.clock.pass(1000);
    const client = made.client();
    await made.complete(client.get(dictionary(info)), data);
    await made.clock.pass(1000);
    puppet.received.length = 0;
    return { client, puppet, next };
  }

  test("who does not have it is no failure, nor a peer that was found", async () => {
    const made = net();
    const { client, puppet, next } = await setup(made);
    puppet.answer = (frame, send) => {
      if (frame.type === "handshake") send({ type: "goodbye", fullHash: frame.fullHash, reason: Reason.NotHere, message: "" });
    };
    const content = client.get(dictionary(next));
    const [heard, wrong] = [states(content), errors(content)];
    const asked = lookups(made, client).length;
    await made.clock.pass(8_000);
    assert.deepEqual(puppet.types(), ["handshake", "have_none", "request"]);
    assert.deepEqual([heard, wrong], [["searching", "connecting", "searching"], []]);
    assert.deepEqual(content.peers, []);
    assert.equal(lookups(made, client).length, asked + 1, "it is asked for again although nobody was lost");
    assert.equal(made.open, 2);
  });

  test("who will have it rejects at first, to no harm", async () => {
    const made = net();
    const { client, puppet, next } = await setup(made);
    const data = randomBytes(2, 100_000);
    let early = true;
    puppet.answer = (frame, send) => {
      if (frame.type === "handshake") {
        const { fullHash, totalLength, pieceLength } = next;
        send({ type: "handshake", number: 8, fullHash, totalLength, pieceLength, maxFrame: MaxFrame });
        send({ type: "have_none", number: 8 });
      }
      if (frame.type !== "request") return;
      for (const { piece, begin, length } of frame.blocks) {
        if (early) send({ type: "reject", number: 8, piece, begin, length });
        else send({ type: "piece", number: 8, piece, begin, data: data.slice(64 * kib * piece + begin, 64 * kib * piece + begin + length) });
      }
      if (early) for (const piece of [0, 1]) send({ type: "have", number: 8, piece });
      early = false;
    };
    const content = client.get(dictionary(next));
    await made.complete(content, data, 1000);
  });

  test("four of them at most, and first those that we began", async () => {
    const made = net();
    const data = randomBytes(1, 10 * 64 * kib);
    made.network.bandwidth = 20; // so that it lasts
    const seeders = [];
    for (let i = 0; i < 5; i++) seeders.push(await made.seeder(data));
    const client = made.client();
    client.get((seeders[0]?.content.link() as string));
    await made.clock.pass(1000);
    assert.equal(client.contents[0]?.peers.filter(({ state }) => state === "open").length, 5);
    const content = client.get(dictionary(infoOf(randomBytes(2, 10), 64 * kib)));
    assert.ok(await made.clock.pass(10, () => content.peers.length > 0));
    assert.equal(content.peers.length, 4);
    assert.ok(content.peers.every(({ state }) => state === "connecting"));
    assert.equal(made.open, 10); // nothing was prepared
  });
});

test("what was negotiated with a peer is told", async () => {
  const made = net();
  Object.assign(made.network, { tlsVersion: "FEFC", extra: "a=sctp-init:AQAB\r\n", bandwidth: 20 });
  const data = randomBytes(1, 200_000);
  const { content: seeded } = await made.seeder(data);
  const content = made.client().get(seeded.link() as string);
  await made.clock.pass(1000);
  const [peer] = content.peers;
  assert.deepEqual([peer?.rtt, peer?.dtls, peer?.snap], [2 * trip, "1.3", true]);
});

