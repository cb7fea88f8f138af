// Go → Chromium: a seeder on disk, and a page in a browser with a disk.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { seed } from "../children.mjs";
import { get, leave, open, rateOf, startSite, startVisitor, verify } from "../pages.mjs";
import { bySize, pageEnd, pionMessages, processEnd } from "../raw.mjs";

export async function round(bench) {
  const file = await bench.file(bench.size(100, 16));
  const page = await open(await startVisitor(bench), await startSite(bench, "preview/dist"));

  const mediator = await startMediator(bench.stage);
  const { link } = await seed(bench, file, mediator);
  await get(page, link, mediator); // once before it counts: so nobody waits for the compiler
  await leave(page);

  const raw = await bySize(file.bytes, pionMessages, (size) => processEnd(bench, "send", size), (size) => pageEnd(page, size));

  const timeline = await get(page, link, mediator);
  await verify(page, () => window.content.done, file);
  bench.report("go-chromium", { ours: rateOf(file, timeline), yardstick: raw, details: { timeline } });
}
