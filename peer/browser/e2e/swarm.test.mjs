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
    const [, full_hash] = /^p2pcdn:([0-9a-f]{64})/.exec(link);
    const { peers: [seeder, ...others] } = await pages[0].page.evaluate(e2e.ask, near.webSocket, { type: "get_peers", full_hash });
    assert.ok(seeder !== undefined && others.length === 0, "the first mediator knows one seeder");
    const [bytes, ...fetched] = await Promise.all([
      e2e.getWithGo(t, link, far, "--seed-after=false"),
      ...pages.map(({ page }) => page.evaluate(fetchContent, link)),
    ]);
    assert.equal(e2e.sha256(bytes), file.sha256);
    for (const { sha256 } of fetched) assert.equal(sha256, file.sha256);

    const names = new Map([[seeder, "the seeder"], ...fetched.map(({ self }, i) => [self, `page ${i + 1}`])]);
    const sent = {}; // by peer id, to all pages
    for (const { received } of fetched) for (const [id, n] of Object.entries(received)) sent[id] = (sent[id] ?? 0) + n;
    const strangers = Object.keys(sent).filter((id) => !names.has(id));
    assert.ok(strangers.length <= 1, `only peer get has an id that nobody told: ${strangers}`);
    const [busiest] = Object.keys(sent).sort((a, b) => sent[b] - sent[a]);
    const told = [
      `the peer that sent most, ${busiest.slice(0, 8)}, is ${busiest === seeder ? "" : "not "}the seeder`,
      `to all pages: ${tell(sent, names)}`,
      ...fetched.map(({ received }, i) => `to page ${i + 1}, in ${pages[i].name}: ${tell(received, names)}`),
    ].join("\n");
    const fromSeeder = sent[seeder] ?? 0;
    // Had nobody passed anything on, each page would have had everything from the seeder.
    assert.ok(fromSeeder < 2.5 * size, `${mib(fromSeeder)} of ${mib(3 * size)} came from the seeder, too little from others;\n${told}`);
    assert.ok(fetched.some(({ received }) => Object.values(received).filter((n) => n > 0).length > 1), `no page had it from more than one peer;\n${told}`);
  }));
});

function mib(bytes) {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

/** Who sent how much, most first. The one without a name is the Go leecher. */
function tell(received, names) {
  const senders = Object.entries(received).sort(([, a], [, b]) => b - a);
  return senders.map(([id, bytes]) => `${mib(bytes)} by ${names.get(id) ?? "peer get"} (${id.slice(0, 8)})`).join(", ");
}

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
  return { sha256: [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join(""), self: client.peerID, received };
}
