// Chromium → Go: a page that seeds a file on disk, and a headless leecher.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { get, rate, verify } from "../children.mjs";
import { leave, open, seed, startSite, startVisitor } from "../pages.mjs";
import { bySize, pageEnd, pageMessages, processEnd } from "../raw.mjs";

export async function round(bench) {
  const file = await bench.file(bench.size(100, 16));
  const page = await open(await startVisitor(bench), await startSite(bench, "preview/dist"));

  const mediator = await startMediator(bench.stage);
  const transfer = async () => {
    const leecher = get(bench, await seed(page, file, mediator), mediator);
    const [opened, complete] = [await leecher.opened, await leecher.complete];
    await verify(leecher.path, file);
    await leecher.child.end(); // it would seed, too
    return rate(file.bytes, complete - opened);
  };

  await transfer(); // once before it counts: so nobody waits for the compiler
  await leave(page);

  const raw = await bySize(file.bytes, pageMessages, (size) => pageEnd(page, size), (size) => processEnd(bench, "receive", size));

  bench.report("chromium-go", { ours: await transfer(), yardstick: raw });
}
