// Go and browser peers in one swarm: one slow seeder, and leechers of every kind, which
// have the content much earlier than the seeder alone could serve it to all of them.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import * as e2e from "./harness.mjs";

const size = 12 * 1024 * 1024;

describe("swarm", () => {
  const shared = new e2e.Stage();
  const browsers = {};
  let near, far;

  before(async () => {
    [near, far] = await e2e.startMediators(shared);
    for (const name of e2e.browserNames) browsers[name] = await e2e.startBrowser(shared, name);
  });
  after(() => shared.end());

  test("Go and browser leechers exchange what a slow seeder gives them", e2e.scene(async (t) => {
    const file = e2e.makeFile(t, "swarm.bin", size);
    const link = await e2e.seedWithGo(t, file, near, "--upload-limit", "4M");
    const pages = await Promise.all([
      e2e.open(t, browsers.chromium, near.page("leecher")),
      e2e.open(t, browsers.chromium, far.page("leecher")),
      e2e.open(t, browsers.firefox, far.page("leecher")),
    ]);
    const [bytes, ...fetched] = await Promise.all([
      e2e.getWithGo(t, link, far, "--seed-after=false"),
      ...pages.map(({ page }) => page.evaluate(fetchContent, link)),
    ]);
    assert.equal(e2e.sha256(bytes), file.sha256);
    let fromSeeder = 0;
    for (const { sha256, received } of fetched) {
      assert.equal(sha256, file.sha256);
      // Only the seeder sends to a page more than any other one may have.
      fromSeeder += Math.max(...Object.values(received));
    }
    // Had nobody passed anything on, each would have had everything from the seeder.
    assert.ok(fromSeeder < 2.5 * size, `${fromSeeder} bytes came from the busiest peers: nobody passed anything on`);
    assert.ok(fetched.some(({ received }) => Object.values(received).filter((n) => n > 0).length > 1), "nobody had it from more than one peer");
  }));
});

/** Runs in the page: downloads the content, and says what came from whom. */
async function fetchContent(link) {
  const { Client } = await import("/preview/dist/cdn.mjs");
  const client = new Client();
  const content = client.get(link);
  const received = {}; // by peer id; the most that was seen, as a peer that leaves takes its figures with it
  const look = () => {
    for (const peer of content.peers) received[peer.id] = Math.max(received[peer.id] ?? 0, peer.received);
  };
  content.on("progress", look);
  content.on("peers", look);
  const blob = await content.done;
  look();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return { sha256: [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join(""), received };
}
