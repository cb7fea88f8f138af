// Where the network drops UDP, WebRTC goes by TCP to a Go peer that takes it, and
// nowhere otherwise. The mediator and the seeder are behind a firewall.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import * as e2e from "./harness.mjs";
import * as network from "./network.mjs";

const size = 5 * 1024 * 1024;

/** Where the seeder takes WebRTC over TCP: nobody else is in its network. */
const port = 7000;

/** How long nothing must come by: several times what a connection takes by TCP, the wait for UDP included. */
const bound = 8_000; // ms

const hindrance = network.hindrance();

describe("without UDP", { skip: hindrance || false }, () => {
  const shared = new e2e.Stage();
  const browsers = {};
  let place, mediator;

  before(async () => {
    place = network.withoutUDP(shared);
    mediator = await e2e.startMediator(shared, { place });
    for (const name of e2e.browserNames) browsers[name] = await e2e.startBrowser(shared, name);
  });
  after(() => shared.end());

  for (const name of e2e.browserNames) {
    test(`${name} gets content over TCP`, e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "over-tcp.bin", size);
      const link = await e2e.seedWithGo(t, file, mediator, "--ice-tcp", String(port));
      const before = place.dropped();
      const leecher = await e2e.open(t, browsers[name], mediator.page("leecher"));
      await e2e.paste(leecher, link);
      await e2e.reach(leecher, "complete");
      assert.equal(e2e.sha256((await e2e.save(leecher)).bytes), file.sha256);
      assert.ok(place.dropped() > before, "UDP was tried, and dropped");
    }));

    test(`${name} gets nothing where nobody takes TCP`, e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "over-nothing.bin", size);
      const link = await e2e.seedWithGo(t, file, mediator);
      const leecher = await e2e.open(t, browsers[name], mediator.page("leecher"));
      await e2e.paste(leecher, link);
      await e2e.reach(leecher, "connecting");
      await delay(bound); // nothing tells that nothing comes
      const states = new Set(await e2e.states(leecher));
      assert.ok(!states.has("downloading") && !states.has("complete"), [...states].join());
    }));
  }

  test("peer get gets content over TCP", e2e.scene(async (t) => {
    const file = e2e.makeFile(t, "go-over-tcp.bin", size);
    const link = await e2e.seedWithGo(t, file, mediator, "--ice-tcp", String(port));
    const before = place.dropped();
    assert.equal(e2e.sha256(await e2e.getWithGo(t, link, mediator)), file.sha256);
    assert.ok(place.dropped() > before, "UDP was tried, and dropped");
  }));

  test("peer get gets nothing where nobody takes TCP", e2e.scene(async (t) => {
    const file = e2e.makeFile(t, "go-over-nothing.bin", size);
    const link = await e2e.seedWithGo(t, file, mediator);
    await assert.rejects(e2e.getWithGo(t, link, mediator, "--timeout", `${bound}ms`), /no piece arrived/);
  }));
});
