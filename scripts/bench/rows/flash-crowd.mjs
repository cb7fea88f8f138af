// A flash crowd: one capped seeder, many leechers at once that are capped, too. Nothing
// can be faster than the fluid bound: the seeder sends everything once, and all together
// upload what all together need.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { get, seed, verify } from "../children.mjs";

const leechers = 8;
const cap = 4; // MB/s, up, of the seeder and of each leecher

export async function round(bench) {
  const file = await bench.file(bench.size(16, 4));
  const bound = Math.max(file.bytes / (cap * 1e6), (leechers * file.bytes) / ((1 + leechers) * cap * 1e6));
  const mediator = await startMediator(bench.stage);
  const { link } = await seed(bench, file, mediator, "--upload-limit", `${cap}M`);
  const started = performance.now();
  const crowd = Array.from({ length: leechers }, () => get(bench, link, mediator, "--upload-limit", `${cap}M`));
  const opened = Math.min(...(await Promise.all(crowd.map((leecher) => leecher.opened))));
  const complete = await Promise.all(crowd.map((leecher) => leecher.complete));
  for (const { path } of crowd) await verify(path, file);
  const seconds = (at) => (at - opened) / 1000;
  bench.report("flash-crowd", {
    ours: seconds(Math.max(...complete)), yardstick: bound,
    details: { complete: complete.map(seconds), before_the_first_connection: -seconds(started) },
  });
}
