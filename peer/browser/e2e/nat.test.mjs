// Two visitors, each at home behind a NAT, with nothing but a mediator between them: it tells them
// where they come from (STUN), and relays for them (TURN) where that does not help.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import * as e2e from "./harness.mjs";
import * as network from "./network.mjs";

const size = 2 * 1024 * 1024;

/** The addresses of these networks are for tests, to which nobody relays otherwise. */
const relaying = ["--turn", "--turn-allow-private", "--max-relay-rate", "0", "--max-relay-total-rate", "0"];

const hindrance = network.hindrance();

describe("behind NATs", { skip: hindrance || false }, () => {
  const stun = { name: "STUN is enough where NATs keep ports", kind: "cone", udp: true, relayed: false };
  const turn = { name: "TURN relays where they do not", kind: "symmetric", udp: true, relayed: true };
  const turnByTCP = { name: "TURN relays over TCP where UDP is dropped", kind: "cone", udp: false, relayed: true };

  for (const [from, to, { name, kind, udp, relayed }] of [
    ["chromium", "chromium", stun],
    ["chromium", "chromium", turn],
    ["chromium", "chromium", turnByTCP],
    ["firefox", "chromium", stun],
    ["chromium", "firefox", turn],
    ["firefox", "chromium", turnByTCP],
  ]) {
    test(`${name}, from ${from} to ${to}`, e2e.scene(async (t) => {
      const { core, homes } = network.internet(t, { homes: 2, kind, udp });
      const mediator = await e2e.startMediator(t, { place: core, flags: relayed ? relaying : [] });
      const [one, other] = [await e2e.startBrowser(t, from, { place: homes[0] }), await e2e.startBrowser(t, to, { place: homes[1] })];
      const file = e2e.makeFile(t, "from-home.bin", size);
      const seeder = await e2e.open(t, one, mediator.page("seeder"));
      const link = await e2e.seed(seeder, file);
      const leecher = await e2e.open(t, other, mediator.page("leecher"));
      await e2e.paste(leecher, link);
      await e2e.reach(leecher, "complete");
      assert.equal(e2e.sha256((await e2e.save(leecher)).bytes), file.sha256);
      const { turn } = await mediator.status();
      if (relayed) assert.ok(turn.bytes > size, `of ${size} bytes ${turn.bytes} were relayed`);
      else assert.equal(turn, undefined, "nobody relays, so that they sent it directly");
    }));
  }
});
