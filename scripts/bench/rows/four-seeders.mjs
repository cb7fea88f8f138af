// Four capped seeders, one leecher: how much of what they may send arrives.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { get, rate, seed, verify } from "../children.mjs";

const seeders = 4;
const cap = 2; // MB/s of each

export async function round(bench) {
  const file = await bench.file(bench.size(96, 32)); // 12 s, or 4
  const mediator = await startMediator(bench.stage);
  const all = await Promise.all(Array.from({ length: seeders }, () => seed(bench, file, mediator, "--upload-limit", `${cap}M`)));
  const leecher = get(bench, all[0].link, mediator);
  const [opened, complete] = [await leecher.opened, await leecher.complete];
  await verify(leecher.path, file);
  bench.report("four-seeders", { ours: rate(file.bytes, complete - opened), yardstick: seeders * cap });
}
