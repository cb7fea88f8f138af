// Chromium → Chromium: two contexts of a browser, and WebTorrent between the same two.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { get, open, rateOf, seed, startContexts, startSite, verify } from "../pages.mjs";
import { bySize, pageEnd, pageMessages } from "../raw.mjs";
import * as webtorrent from "../webtorrent.mjs";

export async function round(bench) {
  const file = await bench.file(bench.size(100, 16));
  const site = await startSite(bench, "preview/dist");
  const contexts = await startContexts(bench);
  const [from, to] = [await open(contexts[0], site), await open(contexts[1], site)];

  const raw = await bySize(file.bytes, pageMessages, (size) => pageEnd(from, size), (size) => pageEnd(to, size));

  const mediator = await startMediator(bench.stage);
  const link = await seed(from, file, mediator);
  const timeline = await get(to, link, mediator);
  await verify(to, () => window.content.done, file);
  const ours = rateOf(file, timeline);
  bench.report("chromium-chromium", { ours, yardstick: raw, details: { timeline } });
  await Promise.all([from.close(), to.close()]);

  const other = await webtorrent.transfer(bench, ...contexts, file);
  bench.report("webtorrent", { ours, yardstick: other.rate, details: other.details });
}
