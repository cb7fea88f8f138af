// Chromium → Go: a page that seeds a file on disk, and a headless leecher.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { get, rate, verify } from "../children.mjs";
import { leave, open, seed, startSite, startVisitor } from "../pages.mjs";
import { inTurn, pageEnd, pageMessages, processEnd } from "../raw.mjs";

export async function round(bench) {
  const file = await bench.file(bench.size(100, 16));
  const page = await open(await startVisitor(bench), await startSite(bench, "preview/dist"));

  const mediator = await startMediator(bench.stage);
  const ours = async () => {
    const leecher = get(bench, await seed(page, file, mediator), mediator);
    const [opened, complete] = [await leecher.opened, await leecher.complete];
    await verify(leecher.path, file);
    await leecher.child.end(); // it would seed, too
    await leave(page);
    return rate(file.bytes, complete - opened);
  };

  await ours(); // once before it counts: so nobody waits for the compiler
  const sender = (size) => pageEnd(page, size);
  bench.report("chromium-go", await inTurn(file.bytes, pageMessages, { sender, receiver: (size) => processEnd(bench, "receive", size), ours }));
}
