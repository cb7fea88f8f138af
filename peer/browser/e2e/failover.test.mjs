// A mediator ends in the middle of a transfer, with a word or without one. Nothing of that is felt by the
// peers that are connected to each other; they go to a mediator that the first one named, and are found there.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import * as e2e from "./harness.mjs";

const size = 6 * 1024 * 1024;

/** What the leecher takes in a second: most of it is still to come when both have moved, which takes a second or two. */
const limit = 1024 * 1024;

describe("fail-over", () => {
  const shared = new e2e.Stage();
  const browsers = {};
  /** A page that is no peer by itself. */
  let site;

  before(async () => {
    site = await e2e.startWebServer(shared, "preview/dist", { "/": `<!doctype html><title>A site</title><link rel="icon" href="data:,">` });
    for (const name of e2e.browserNames) browsers[name] = await e2e.startBrowser(shared, name);
  });
  after(() => shared.end());

  /** A mediator that names the next one to its peers, and a visitor's page. */
  async function startBoth(t, browser) {
    const next = await e2e.startMediator(t, { named: true });
    const first = await e2e.startMediator(t, { named: true, bootstrap: [next] });
    const visitor = await e2e.open(t, browser, site);
    await e2e.until("the next mediator to be named", async () => {
      const { mediators = [] } = await visitor.page.evaluate(e2e.ask, first.webSocket);
      return mediators.includes(next.webSocket);
    });
    return { first, next, visitor };
  }

  for (const [signal, from, to] of [
    ["SIGKILL", "chromium", "firefox"],
    ["SIGTERM", "firefox", "chromium"],
  ]) {
    test(`${signal} to the mediator while ${from} serves ${to}`, e2e.scene(async (t) => {
      const { first, next, visitor } = await startBoth(t, browsers[to]);
      const file = e2e.makeFile(t, "moved.bin", size);
      const seeder = await e2e.open(t, browsers[from], first.page("seeder"));
      const link = new URL(await e2e.seed(seeder, file)).hash.slice(1);
      const leecher = await e2e.open(t, browsers[to], site);
      await leecher.page.evaluate(begin, link, first.webSocket, limit);
      const [sender, before] = await e2e.until("a quarter of the transfer", () => leecher.page.evaluate(senderOf, size / 4));
      await first.stop(signal);
      assert.ok(await leecher.page.evaluate(() => content.state === "downloading"), "the mediator was there to the end");

      // Both are on the next mediator, and are found there by whoever asks, while the transfer goes on.
      await e2e.until("both peers at the next mediator", async () => (await next.status()).peers === 2);
      await e2e.until("both pages to know it", async () => {
        const { url, state } = await leecher.page.evaluate(() => mediator);
        const line = await seeder.page.$eval("#mediator", ({ textContent }) => textContent);
        return url === next.webSocket && state === "established" && line === `Mediator: ${next.webSocket}`;
      });
      const request = { type: "get_peers", full_hash: link.slice(0, 64) };
      await e2e.until("both peers to be announced there", async () => (await visitor.page.evaluate(e2e.ask, next.webSocket, request)).peers.length === 2);

      const { sha256, states, troubles, received } = await leecher.page.evaluate(finish);
      assert.equal(sha256, file.sha256);
      assert.deepEqual(states, ["connecting", "downloading", "complete"]);
      assert.deepEqual([...new Set(troubles)], ["mediator_unreachable"]);
      assert.ok(received[sender] > before, `the connection that was there goes on: of ${sender} came ${before}, and then ${JSON.stringify(received)}`);
      // In the DHT, too; that waits some 30 s for a mediator that said nothing, and is not awaited here.
      if (signal === "SIGTERM") await e2e.reach(seeder, "seeding");

      // Who was never on the first mediator gets the content from the seeder alone.
      await leecher.page.goto("about:blank");
      const later = await e2e.open(t, browsers[to], next.page("leecher"));
      await e2e.paste(later, link);
      await e2e.reach(later, "complete");
      assert.equal(e2e.sha256((await e2e.save(later)).bytes), file.sha256);
    }));
  }

  // Its connections stay open, and nobody is told anything: the pages have to find it out.
  test("pages leave a mediator that says nothing any more", e2e.scene(async (t) => {
    const { first, next } = await startBoth(t, browsers.chromium);
    const seeders = [];
    for (const name of e2e.browserNames) {
      const file = e2e.makeFile(t, `from_${name}.bin`, 100_000);
      const seeder = await e2e.open(t, browsers[name], first.page("seeder"));
      seeders.push({ name, file, seeder, link: new URL(await e2e.seed(seeder, file)).hash.slice(1) });
    }
    first.freeze(t);
    for (const { name, seeder } of seeders) {
      await e2e.until(`${name} to be at the next mediator`, () => seeder.page.$eval("#mediator", ({ textContent }, line) => textContent === line, `Mediator: ${next.webSocket}`));
    }
    for (const [index, { file, link }] of seeders.entries()) {
      const leecher = await e2e.open(t, browsers[seeders[1 - index].name], next.page("leecher"));
      await e2e.paste(leecher, link);
      await e2e.reach(leecher, "complete");
      assert.equal(e2e.sha256((await e2e.save(leecher)).bytes), file.sha256);
    }
  }));
});

/** Runs in a page: begins to fetch a content, slowly, and keeps what happens. */
async function begin(link, mediator, downloadLimit) {
  const { Client } = await import("/cdn.mjs");
  const client = new Client({ mediators: [mediator], downloadLimit });
  client.on("mediator", (status) => (globalThis.mediator = status));
  globalThis.happened = { states: [], troubles: [], received: {} }; // by peer id: at the next mediator the seeder has another one
  globalThis.content = client.get(link);
  content.on("state", (state) => happened.states.push(state));
  content.on("error", ({ code }) => happened.troubles.push(code));
  client.on("error", ({ code }) => happened.troubles.push(code));
  content.on("progress", () => {
    for (const { id, received } of content.peers) happened.received[id] = received;
  });
}

/** Runs in that page: who sent so many bytes, and how many by now; null where nobody did. */
function senderOf(least) {
  return Object.entries(happened.received).find(([, received]) => received >= least) ?? null;
}

/** Runs in that page: waits for the content, and tells all of it. */
async function finish() {
  const blob = await content.done;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return { sha256: [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join(""), ...happened };
}
