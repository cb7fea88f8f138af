// Chromium → Chromium: two browsers with a disk each, as two visitors have them. And WebTorrent,
// between two private contexts of a browser, where it is fastest.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { get, leave, open, rateOf, seed, startContexts, startSite, startVisitor, verify } from "../pages.mjs";
import { inTurn, pageEnd, pageMessages } from "../raw.mjs";
import * as webtorrent from "../webtorrent.mjs";

export async function round(bench) {
  const file = await bench.file(bench.size(100, 16));
  const site = await startSite(bench, "preview/dist");
  const [from, to] = [await open(await startVisitor(bench), site), await open(await startVisitor(bench), site)];

  const mediator = await startMediator(bench.stage);
  const ours = async () => {
    const timeline = await get(to, await seed(from, file, mediator), mediator);
    await verify(to, () => window.content.done, file);
    await Promise.all([leave(to), leave(from)]);
    return rateOf(file, timeline);
  };

  // Once before it counts, as the raw channel runs several times: so nobody waits for the compiler.
  await ours();
  const sample = await inTurn(file.bytes, pageMessages, { sender: (size) => pageEnd(from, size), receiver: (size) => pageEnd(to, size), ours });
  bench.report("chromium-chromium", sample);
  await Promise.all([from.close(), to.close()]);

  const other = await webtorrent.transfer(bench, ...(await startContexts(bench)), file);
  bench.report("webtorrent", { ours: sample.ours, yardstick: other.rate, details: other.details });
}
