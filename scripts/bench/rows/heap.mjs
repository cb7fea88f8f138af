// The memory of a page that downloads 1 GiB from a Go seeder: sampled while it does.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { memoryOf, rate, seed } from "../children.mjs";
import { get, open, startSite, startVisitor } from "../pages.mjs";

const mib = (bytes) => bytes / 2 ** 20;

export async function round(bench) {
  const file = await bench.file(bench.size(1024, 192)); // above 128 MiB, more than any page keeps in memory
  const browser = await startVisitor(bench);
  const page = await open(browser, await startSite(bench, "preview/dist"));
  const mediator = await startMediator(bench.stage);
  const { link } = await seed(bench, file, mediator);

  const system = await browser.target().createCDPSession();
  const session = await page.createCDPSession();
  const peak = { heap: 0, buffers: 0, both: 0, renderer: 0, browser: 0 };
  const keep = (name, value) => (peak[name] = Math.max(peak[name], value));
  const look = async () => {
    const { heap, buffers } = await memory(page, session);
    keep("heap", heap);
    keep("buffers", buffers);
    keep("both", heap + buffers);
    const { processInfo } = await system.send("SystemInfo.getProcessInfo");
    keep("renderer", resident(processInfo, "renderer"));
    keep("browser", resident(processInfo, "browser"));
  };
  await look();
  const before = { ...peak };
  const { channel_open, complete } = await get(page, link, mediator, look);
  const length = await page.evaluate(async () => (await window.content.done).size);
  if (length !== file.bytes) throw new Error(`${length} bytes came`);

  await session.send("HeapProfiler.collectGarbage");
  const after = await memory(page, session);
  bench.report("heap", { ours: peak.both, details: { before, peak, after_collection: after, rate: rate(file.bytes, complete - channel_open) } });
}

/**
 * What the JavaScript of a page and its workers holds, garbage that is not collected yet
 * included: the heaps, and the buffers outside of them (ArrayBuffers), in MiB.
 */
async function memory(page, session) {
  const sum = { heap: 0, buffers: 0 };
  for (const client of [session, ...page.workers().map((worker) => worker.client)]) {
    const usage = await client.send("Runtime.getHeapUsage").catch(() => null); // a worker may just have ended
    sum.heap += mib((usage?.usedSize ?? 0) + (usage?.embedderHeapUsedSize ?? 0));
    sum.buffers += mib(usage?.backingStorageSize ?? 0);
  }
  return sum;
}

/** The resident memory of the largest process of a type, in MiB: the largest renderer is that of the page. */
function resident(processes, type) {
  const sizes = processes.filter((process) => process.type === type).map(({ id }) => {
    try {
      return memoryOf(id, "VmRSS");
    } catch {
      return 0; // it just ended
    }
  });
  return Math.max(...sizes);
}
