// Content goes from one peer to another through two mediators that find each
// other by DHT: between all pairs of browsers, and between a browser and a Go peer.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import * as e2e from "./harness.mjs";

const size = 5 * 1024 * 1024; // many pieces of the smallest default length

describe("exchange", () => {
  const shared = new e2e.Stage();
  const browsers = {};
  let near, far;

  before(async () => {
    [near, far] = await e2e.startMediators(shared);
    for (const name of e2e.browserNames) browsers[name] = await e2e.startBrowser(shared, name);
  });
  after(() => shared.end());

  for (const from of e2e.browserNames) {
    for (const to of e2e.browserNames) {
      test(`${from} to ${to}`, e2e.scene(async (t) => {
        const file = e2e.makeFile(t, "random bytes ü.bin", size);
        const seeder = await e2e.open(t, browsers[from], near.page("seeder"));
        const link = await e2e.seed(seeder, file);
        assert.match(link, new RegExp(`^${near.http}/preview/leecher_preview\\.html#[0-9a-f]{64}\\?xl=${size}&dn=`));

        const leecher = await e2e.open(t, browsers[to], far.page("leecher"));
        await e2e.paste(leecher, link);
        await e2e.reach(leecher, "complete");
        const saved = await e2e.save(leecher);
        assert.equal(e2e.sha256(saved.bytes), file.sha256);
        assert.equal(saved.name, file.name);
        assert.deepEqual(await e2e.states(seeder), ["idle", "hashing", "connecting", "seeding"]);
        assert.deepEqual(await e2e.states(leecher), ["idle", "searching", "connecting", "downloading", "complete"]);
        await e2e.snap(seeder, `exchange_seeding_to_${to}`);
        await e2e.snap(leecher, `exchange_complete_from_${from}`);
      }));
    }
  }

  for (const name of e2e.browserNames) {
    test(`a Go seeder to ${name}`, e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "from-go.bin", size);
      const link = await e2e.seedWithGo(t, file, near);
      const leecher = await e2e.open(t, browsers[name], far.page("leecher"));
      await e2e.paste(leecher, link);
      await e2e.reach(leecher, "complete");
      const saved = await e2e.save(leecher);
      assert.equal(e2e.sha256(saved.bytes), file.sha256);
      assert.equal(saved.name, file.name);
    }));

    test(`${name} to peer get`, e2e.scene(async (t) => {
      const file = e2e.makeFile(t, "to-go.bin", size);
      const seeder = await e2e.open(t, browsers[name], near.page("seeder"));
      const link = await e2e.seed(seeder, file);
      assert.equal(e2e.sha256(await e2e.getWithGo(t, link, far)), file.sha256);
    }));
  }

  test("a leecher passes on what it has when the seeder is gone", e2e.scene(async (t) => {
    const file = e2e.makeFile(t, "passed-on.bin", size);
    const seeder = await e2e.open(t, browsers.chromium, near.page("seeder"));
    const link = await e2e.seed(seeder, file);
    const first = await e2e.open(t, browsers.firefox, far.page("leecher"));
    await e2e.paste(first, link);
    await e2e.reach(first, "complete");
    await seeder.page.goto("about:blank");
    const second = await e2e.open(t, browsers.chromium, near.page("leecher"));
    await e2e.paste(second, link);
    await e2e.reach(second, "complete");
    assert.equal(e2e.sha256((await e2e.save(second)).bytes), file.sha256);
  }));
});
