import assert from "node:assert/strict";
import { test } from "node:test";
import type { FullHash } from "../src/content.ts";
import type { PeerID } from "../src/ident.ts";
import { Signaling } from "../src/signaling.ts";
import { FakeClock } from "./clock.ts";
import { FakeMediators, type Line } from "./mediator.ts";
import { below, seeded } from "./world.ts";

const hash = "a".repeat(64) as FullHash;
const other = "b".repeat(64) as FullHash;
const stranger = "c".repeat(40) as PeerID;
const [first, second] = ["ws://first/mediation", "ws://second/mediation"];

interface Setup {
  clock: FakeClock;
  mediators: FakeMediators;
  signaling: Signaling;
  heard: string[];
  /** The offer of each lookup. */
  offers: Map<FullHash, string | "later">;
  line(): Line;
}

function setup(urls: string[] = [first, second], securePage = false): Setup {
  const clock = new FakeClock();
  const mediators = new FakeMediators(clock);
  const random = seeded(1);
  const heard: string[] = [];
  const offers = new Map<FullHash, string>();
  const signaling = new Signaling({
    openSocket: mediators.openSocket,
    offer: (about) => offers.get(about) ?? null,
    clock,
    random,
    securePage,
    randomBytes: (into) => into.forEach((_, i) => (into[i] = below(random, 256))),
    events: {
      state: (url, state) => heard.push(`${state} ${url.slice(5, -10)}`.trim()),
      opened: () => heard.push("opened"),
      established: (servers) => heard.push(`ice ${servers.length}`),
      announced: (about) => heard.push(`announced ${about[0]}`),
      asked: (about, offering) => heard.push(`asked ${about[0]}${offering ? " offering" : ""}`),
      peers: (about, peers, offered) => heard.push(`peers ${about[0]} ${peers.length}${offered === null ? "" : ` ${offered[0]}`}`),
      signal: (about, from, data) => heard.push(`signal ${about[0]} ${from[0]} ${data}`),
      refused: ({ code }) => heard.push(`refused ${code}`),
      trouble: (message) => heard.push(`trouble ${message}`),
    },
  });
  signaling.addMediators(urls);
  return { clock, mediators, signaling, heard, offers, line: () => mediators.lines.at(-1) as Line };
}

test("it shakes hands, announces, asks and signals", async () => {
  const { clock, mediators, signaling, heard, line } = setup();
  mediators.iceServers = [{ urls: ["stun:192.0.2.1"] }];
  signaling.announce(hash); // remembered until there is a mediator
  signaling.announce(hash);
  signaling.start();
  signaling.start();
  await clock.pass(100);
  assert.deepEqual(heard, ["connecting first", "opened", "established first", "ice 1", "announced a"]);
  assert.deepEqual(line().types(), ["handshake", "announce"]);
  assert.equal(signaling.peerID, line().peerID);
  signaling.getPeers(hash);
  signaling.getPeers(other);
  await clock.pass(100);
  assert.equal(heard.at(-1), "peers b 0"); // the other answer names but ourselves: nothing to tell
  mediators.send(line(), { type: "peers", fullHash: hash, peers: [stranger, line().peerID as PeerID] });
  mediators.send(line(), { type: "signal", fullHash: hash, peerID: stranger, signalData: "hello" });
  await clock.pass(100);
  assert.deepEqual(heard.slice(-2), ["peers a 1", "signal a c hello"]);
  assert.ok(signaling.signal(hash, stranger, "x"));
  signaling.finish(hash);
  signaling.finish(hash);
  signaling.found(other);
  mediators.send(line(), { type: "peers", fullHash: other, peers: [stranger] });
  mediators.send(line(), { type: "announced", fullHash: other }); // never asked for
  await clock.pass(100);
  assert.deepEqual(line().types().slice(-2), ["signal", "finish"]);
  assert.equal(heard.at(-1), "refused peer_not_found");
});

test("what there is to say stands right behind the handshake; only signals wait", async () => {
  const { clock, mediators, signaling, heard, offers, line } = setup();
  const arrived: number[] = [];
  mediators.intercept = () => {
    arrived.push(clock.now());
    return false;
  };
  offers.set(hash, "an offer");
  signaling.getPeers(hash);
  signaling.announce(other);
  signaling.start();
  await clock.pass(4); // the socket is open
  assert.ok(!signaling.signal(hash, stranger, "x"));
  signaling.getPeers(other);
  signaling.getPeers("d".repeat(64) as FullHash);
  signaling.finish("d".repeat(64) as FullHash);
  await clock.pass(100);
  assert.deepEqual(line().received.slice(1), [
    { type: "get_peers", fullHash: hash, offer: "an offer" },
    { type: "announce", fullHash: other },
    { type: "get_peers", fullHash: other },
    { type: "get_peers", fullHash: "d".repeat(64) },
    { type: "finish", fullHash: "d".repeat(64) },
  ]);
  assert.deepEqual(arrived, [6, 6, 6, 7, 7, 7]); // one way takes 3 ms
  assert.deepEqual(heard.slice(0, 6), ["connecting first", "opened", "asked a offering", "asked b", "asked d", "established first"]);
});

test("a lookup waits for its offer, and carries the present one each time", async () => {
  const { clock, mediators, signaling, offers, line } = setup();
  offers.set(hash, "later");
  signaling.start();
  signaling.getPeers(hash);
  signaling.getPeers(other);
  await clock.pass(100);
  assert.deepEqual(line().types(), ["handshake", "get_peers"]);
  offers.set(hash, "an offer");
  signaling.release();
  signaling.release();
  await clock.pass(100);
  const asked = { type: "get_peers", fullHash: hash };
  assert.deepEqual(line().received.slice(2), [{ ...asked, offer: "an offer" }]);
  offers.set(hash, "a new one");
  mediators.stop(first);
  await clock.pass(1_500);
  assert.deepEqual(line().received[1], { ...asked, offer: "a new one" });
  offers.delete(hash);
  signaling.getPeers(hash);
  await clock.pass(100);
  assert.deepEqual(line().received.at(-1), asked);
  signaling.finish(hash);
  signaling.release();
  await clock.pass(100);
  assert.deepEqual(line().types().slice(-2), ["get_peers", "finish"]);
});

test("who was handed the offer is one of the peers, and never ourselves", async () => {
  const { clock, mediators, signaling, heard, line } = setup();
  signaling.getPeers(hash);
  signaling.start();
  await clock.pass(100);
  const self = line().peerID as PeerID;
  const name = (peers: PeerID[], offered: PeerID): void => mediators.send(line(), { type: "peers", fullHash: hash, peers, offered });
  name([self, stranger], stranger);
  name([self, stranger], self);
  name([stranger], "d".repeat(40) as PeerID);
  name([self], self);
  await clock.pass(100);
  assert.deepEqual(heard.slice(-3), ["peers a 1 c", "peers a 1", "peers a 1"]);
});

test("a lost mediator is replaced by the next one, which is told everything anew", async () => {
  const { clock, mediators, signaling, heard, line } = setup();
  signaling.announce(hash);
  signaling.getPeers(other);
  signaling.start();
  await clock.pass(20_000);
  const before = signaling.peerID;
  heard.length = 0;
  mediators.stop(first);
  assert.equal(signaling.peerID, null);
  assert.ok(!signaling.signal(hash, stranger, "x"), "a signal without a mediator");
  await clock.pass(1_500);
  assert.equal(heard.join("; "), "waiting first; trouble the mediator ws://first/mediation: stopped; connecting second; opened; asked b; established second; ice 0; peers b 0; announced a");
  assert.deepEqual(line().types(), ["handshake", "get_peers", "announce"]);
  assert.notEqual(signaling.peerID, before);
  // The id that we had: a mediator that has not forgotten it may name it.
  mediators.send(line(), { type: "peers", fullHash: other, peers: [before as PeerID] });
  await clock.pass(100);
  assert.equal(heard.at(-1), "announced a");
});

test("what was found is only announced anew", async () => {
  const { clock, mediators, signaling, line } = setup();
  signaling.announce(hash);
  signaling.getPeers(hash);
  signaling.getPeers(other);
  signaling.start();
  await clock.pass(1_000);
  signaling.found(hash);
  mediators.stop(first);
  await clock.pass(5_000);
  assert.deepEqual(line().received.slice(1), [
    { type: "get_peers", fullHash: other },
    { type: "announce", fullHash: hash },
  ]);
});

test("a wait lasts at most as long as is said, and at least half of it", async () => {
  const { clock, mediators, signaling } = setup([first]);
  mediators.down.add(first);
  const attempts: number[] = [];
  signaling.start();
  for (let seen = 0; attempts.length < 30; ) {
    assert.ok(await clock.pass(60_000, () => mediators.lines.length > seen));
    seen = mediators.lines.length;
    attempts.push(clock.now());
  }
  const waits = attempts.slice(1).map((at, i) => at - (attempts[i] as number));
  for (const [i, wait] of waits.entries()) {
    const longest = Math.min(30_000, 500 * 2 ** i);
    assert.ok(wait >= longest / 2 && wait <= longest + 10, `${wait} ms instead of ${longest}`);
  }
});

test("attempts get rarer, up to a limit, and go round the list", async () => {
  const { clock, mediators, signaling } = setup();
  mediators.down.add(first);
  mediators.down.add(second);
  signaling.start();
  await clock.pass(10 * 60_000);
  const attempts = mediators.lines.length;
  assert.ok(attempts > 40 && attempts < 80, `${attempts} attempts in ten minutes`); // at two mediators
  assert.deepEqual(mediators.lines.slice(0, 4).map(({ url }) => url), [first, second, first, second]);
  mediators.down.delete(second);
  await clock.pass(2 * 60_000);
  assert.equal(signaling.state, "established");
});

test("a mediator that accepts and breaks again and again is not stormed", async () => {
  const { clock, mediators, signaling } = setup([first]);
  mediators.intercept = (line, message) => {
    if (message.type === "handshake") return false;
    mediators.cut(line);
    return true;
  };
  signaling.announce(hash);
  signaling.start();
  await clock.pass(5 * 60_000);
  assert.ok(mediators.lines.length < 30, `${mediators.lines.length} connections in five minutes`);
});

test("an id in use is replaced on the same connection, and all is said again", async () => {
  const { clock, mediators, signaling, heard, offers, line } = setup();
  let refusals = 2;
  mediators.intercept = (l, message) => {
    if (message.type !== "handshake" || refusals-- <= 0) return false;
    mediators.refuse(l, "peer_id_in_use", { peerID: message.peerID });
    return true;
  };
  signaling.announce(hash);
  offers.set(other, "an offer");
  signaling.getPeers(other);
  signaling.start();
  await clock.pass(100);
  assert.equal(mediators.lines.length, 1);
  const ids = line().received.flatMap((message) => (message.type === "handshake" ? [message.peerID] : []));
  assert.equal(new Set(ids).size, 3);
  assert.equal(signaling.peerID, ids[2]);
  // What stood behind the others was refused with handshake_required, and is said again.
  const all = ["handshake", "get_peers", "announce"];
  assert.deepEqual(line().types(), [...all, ...all, ...all]);
  assert.deepEqual(line().received.at(-2), { type: "get_peers", fullHash: other, offer: "an offer" });
  assert.ok(heard.includes("announced a") && !heard.some((what) => what.startsWith("refused")), String(heard));
});

test("a mediator that refuses every id, or the handshake, is left", async () => {
  for (const code of ["peer_id_in_use", "overloaded"]) {
    const { clock, mediators, signaling } = setup();
    mediators.intercept = (line, message) => {
      if (message.type !== "handshake" || line.url !== first) return false;
      mediators.refuse(line, code);
      return true;
    };
    signaling.start();
    await clock.pass(5_000);
    assert.equal(signaling.state, "established");
    assert.equal(signaling.mediator, second);
  }
});

test("a mediator that does not answer, or talks nonsense, is left", async () => {
  for (const nonsense of [null, "nonsense", new ArrayBuffer(3), '{"type":"peers"}']) {
    const { clock, mediators, signaling, heard } = setup();
    mediators.intercept = (line, message) => {
      if (message.type !== "handshake" || line.url !== first) return false;
      if (nonsense !== null) mediators.sendText(line, nonsense);
      return true;
    };
    signaling.start();
    await clock.pass(15_000);
    assert.equal(signaling.mediator, second, String(heard));
    assert.equal(mediators.open.length, 1);
  }
});

test("a message of a type to come is ignored", async () => {
  const { clock, mediators, signaling, line } = setup();
  signaling.start();
  await clock.pass(100);
  mediators.sendText(line(), '{"type":"weather","sun":true}');
  await clock.pass(100);
  assert.equal(signaling.state, "established");
});

test("what the mediator dropped for want of room is sent again, once", async () => {
  const { clock, mediators, signaling, line } = setup();
  signaling.start();
  await clock.pass(100);
  let refusals = 3;
  mediators.intercept = (l, message) => {
    if (refusals-- <= 0) return false;
    mediators.refuse(l, "rate_limited", { fullHash: "fullHash" in message && message.fullHash ? message.fullHash : hash });
    return true;
  };
  signaling.announce(hash);
  signaling.announce(other);
  signaling.getPeers(other);
  await clock.pass(60_000);
  assert.deepEqual(line().types(), ["handshake", "announce", "announce", "get_peers", "get_peers", "announce", "announce"]);
});

test("a mediator that does not read gets no more signals", async () => {
  const { clock, signaling, line } = setup();
  signaling.start();
  await clock.pass(100);
  line().bufferedAmount = 1 << 20;
  assert.ok(!signaling.signal(hash, stranger, "x"));
});

test("mediators that a mediator names are tried after ours; what is no URL is passed over", async () => {
  const { clock, mediators, signaling } = setup([first, "http://nonsense", first]);
  mediators.mediators = ["ws://third/mediation", "nonsense", first];
  signaling.start();
  await clock.pass(100);
  mediators.stop(first);
  await clock.pass(5_000);
  assert.equal(signaling.mediator, "ws://third/mediation");
  signaling.addMediators(Array.from({ length: 100 }, (_, i) => `ws://m${i}/mediation`));
  mediators.stop("ws://third/mediation");
  for (let i = 0; i < 100; i++) mediators.down.add(`ws://m${i}/mediation`);
  await clock.pass(60 * 60_000);
  assert.equal(new Set(mediators.lines.map(({ url }) => url)).size, 32);
});

test("a mediator that was only named takes over, and is kept", async () => {
  const { clock, mediators, signaling, line } = setup([first]);
  mediators.mediators = ["nonsense", second];
  signaling.announce(hash);
  signaling.getPeers(other);
  signaling.start();
  await clock.pass(60 * 60_000);
  mediators.stop(first);
  await clock.pass(1_100);
  assert.equal(signaling.mediator, second);
  assert.deepEqual(line().types(), ["handshake", "get_peers", "announce"]);
  mediators.down.delete(first);
  await clock.pass(24 * 60 * 60_000);
  assert.equal(mediators.lines.length, 2);
});

test("a mediator that goes away is not waited for", async () => {
  for (const early of [false, true]) {
    const { clock, mediators, signaling, heard, line } = setup([first]);
    const leave = (l: Line): void => mediators.refuse(l, "going_away", { mediators: ["nonsense", second] });
    mediators.intercept = (l, message) => {
      if (!early || l.url !== first || message.type !== "handshake") return false;
      leave(l);
      return true;
    };
    signaling.announce(hash);
    signaling.start();
    if (!early) {
      await clock.pass(100);
      leave(line());
    }
    await clock.pass(1_200);
    assert.equal(signaling.mediator, second, String(heard));
    assert.equal(mediators.open.length, 1);
    assert.deepEqual(line().types(), ["handshake", "announce"]);
    const told = heard.filter((text) => text.startsWith("trouble") || text.startsWith("refused"));
    assert.deepEqual(told, [`trouble the mediator ${first}: it goes away: no`]);
  }
});

test("waits grow only when all were tried", async () => {
  const { clock, mediators, signaling } = setup([first]);
  const others = Array.from({ length: 5 }, (_, i) => `ws://learnt${i}/mediation`);
  mediators.mediators = others;
  signaling.start();
  await clock.pass(60 * 60_000);
  for (const url of others) mediators.down.add(url);
  mediators.stop(first);
  mediators.lines.length = 0;
  let last = clock.now();
  let tried = new Set([first]);
  let longest = 500;
  for (let attempt = 0; attempt < 60; attempt++) {
    assert.ok(await clock.pass(60_000, () => mediators.lines.length > attempt));
    const wait = clock.now() - last;
    last = clock.now();
    const { url } = mediators.lines[attempt] as Line;
    if (tried.size <= others.length) {
      assert.ok(wait <= 1_010 && !tried.has(url), `${url} after ${wait} ms`);
    } else {
      assert.ok(wait >= longest / 2 && wait <= longest + 10 && url === first, `${url} after ${wait} ms instead of ${longest}`);
      tried = new Set();
      longest = Math.min(30_000, 2 * longest);
    }
    tried.add(url);
  }
});

test("peers that lose their mediator do not move together", async () => {
  const clock = new FakeClock();
  const mediators = new FakeMediators(clock);
  mediators.mediators = Array.from({ length: 16 }, (_, i) => `ws://learnt${i}/mediation`);
  for (let seed = 0; seed < 64; seed++) {
    const random = seeded(seed);
    const randomBytes = (into: Uint8Array): void => into.forEach((_, i) => (into[i] = below(random, 256)));
    const nothing = (): void => {};
    const events = {
      state: nothing,
      opened: nothing,
      established: nothing,
      announced: nothing,
      asked: nothing,
      peers: nothing,
      signal: nothing,
      refused: nothing,
      trouble: nothing,
    };
    const signaling = new Signaling({ openSocket: mediators.openSocket, clock, random, randomBytes, securePage: false, events });
    signaling.addMediators([first]);
    signaling.start();
  }
  await clock.pass(60_000);
  const died = clock.now();
  mediators.stop(first);
  const moments = new Set<number>();
  await clock.pass(1_100, () => {
    if (mediators.lines.length > 64) moments.add(Math.floor((clock.now() - died) / 10));
    return false;
  });
  assert.ok(moments.size > 32, `they came at ${moments.size} moments`);
  const chosen = new Map<string, number>();
  for (const { url } of mediators.open) chosen.set(url, (chosen.get(url) ?? 0) + 1);
  assert.equal(mediators.open.length, 64);
  for (const [url, n] of chosen) assert.ok(n <= 16, `${n} of 64 came to ${url}`);
});

test("of the mediators that are named, a page follows those that it may reach", async () => {
  for (const [from, secure, to, follows] of [
    ["ws://first.example", false, "ws://second.example", true],
    ["ws://first.example", false, "ws://localhost", false],
    ["wss://first.example", false, "ws://second.example", false],
    ["ws://localhost", true, "wss://second.example", true],
    ["ws://localhost", true, "ws://127.0.0.1", true],
    ["ws://localhost", true, "ws://second.example", false],
  ] as const) {
    const { clock, mediators, signaling } = setup([from], secure);
    mediators.mediators = [to];
    signaling.start();
    await clock.pass(100);
    mediators.stop(from);
    await clock.pass(5_000);
    assert.equal(signaling.mediator === to, follows, `${from} named ${to}`);
    signaling.close();
  }
});

test("closing is for good", async () => {
  const { clock, mediators, signaling, heard } = setup();
  signaling.start();
  await clock.pass(100);
  signaling.close();
  signaling.close();
  assert.equal(heard.at(-1), "closed");
  assert.equal(mediators.open.length, 0);
  signaling.addMediators([second]);
  signaling.start();
  await clock.pass(60_000);
  assert.equal(mediators.lines.length, 1);
  assert.equal(clock.waiting, 0);
});

test("a mediator that was cut off is left within half a minute, though its connection stays open", async () => {
  const { clock, mediators, signaling, heard, line } = setup();
  signaling.announce(hash);
  signaling.start();
  await clock.pass(60_000);
  const lost = line();
  assert.equal(lost.received.filter(({ type }) => type === "ping").length, 5); // one for each ten seconds of silence, and the answer's way
  assert.equal(mediators.lines.length, 1); // it answers
  mediators.cutOff.add(first);
  await clock.pass(25_000);
  assert.equal(lost.open, false);
  assert.ok(heard.includes(`trouble the mediator ${first}: it does not answer any more`));
  assert.deepEqual([signaling.state, line().url, line().types()], ["established", second, ["handshake", "announce"]]);
});

test("whatever comes counts as an answer, and a mediator that talks is not asked", async () => {
  const { clock, mediators, signaling, line } = setup();
  mediators.intercept = (from, { type }) => {
    if (type === "ping") mediators.refuse(from, "unknown_type"); // one that does not know it yet
    return type === "ping";
  };
  signaling.start();
  await clock.pass(100_000);
  assert.equal(mediators.lines.length, 1);
  const asked = line().received.length;
  for (let n = 0; n < 20; n++) {
    mediators.send(line(), { type: "peers", fullHash: other, peers: [] });
    await clock.pass(5_000);
  }
  assert.equal(line().received.length, asked);
});

test("a page that was asleep asks again before it gives the mediator up", async () => {
  const { clock, mediators, signaling } = setup();
  signaling.start();
  await clock.pass(1_000);
  mediators.cutOff.add(first); // while it sleeps
  await clock.pass(15_000);
  clock.sleep(3_600_000);
  mediators.cutOff.delete(first);
  await clock.pass(60_000);
  assert.equal(mediators.lines.length, 1);
  assert.equal(signaling.state, "established");
});
