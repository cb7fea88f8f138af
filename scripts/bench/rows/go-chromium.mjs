// Go → Chromium: a seeder on disk, and a page in a browser with a disk.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { seed } from "../children.mjs";
import { get, leave, open, rateOf, startSite, startVisitor, verify } from "../pages.mjs";
import { inTurn, pageEnd, pionMessages, processEnd } from "../raw.mjs";

export async function round(bench) {
  const file = await bench.file(bench.size(100, 16));
  const page = await open(await startVisitor(bench), await startSite(bench, "preview/dist"));

  const mediator = await startMediator(bench.stage);
  const { link } = await seed(bench, file, mediator);
  const ours = async () => {
    const timeline = await get(page, link, mediator);
    await verify(page, () => window.content.done, file);
    await leave(page);
    return rateOf(file, timeline);
  };

  await ours(); // once before it counts: so nobody waits for the compiler
  const sender = (size) => processEnd(bench, "send", size);
  bench.report("go-chromium", await inTurn(file.bytes, pionMessages, { sender, receiver: (size) => pageEnd(page, size), ours }));
}
