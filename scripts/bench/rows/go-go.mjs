// Go → Go: two processes over loopback, from disk to disk, and the memory they need.

import { startMediator } from "../../../peer/browser/e2e/harness.mjs";
import { get, rate, seed, verify } from "../children.mjs";
import { processEnd, transfer } from "../raw.mjs";

/** The length of a raw message: that of our piece frames between two Go peers (common/wire, BlockLength of 64 KiB). */
const length = (48 << 10) + 11;

export async function round(bench) {
  const file = await bench.file(bench.size(1024, 64));
  const total = file.bytes;
  const raw = await transfer(processEnd(bench, "send", { total, length }), processEnd(bench, "receive", { total, length }));

  const mediator = await startMediator(bench.stage);
  const seeder = await seed(bench, file, mediator);
  const leecher = get(bench, seeder.link, mediator);
  const [opened, complete] = [await leecher.opened, await leecher.complete];
  await verify(leecher.path, file);
  bench.report("go-go", { ours: rate(file.bytes, complete - opened), yardstick: raw });
  const details = { seeder: seeder.child.memory(), leecher: leecher.child.memory() };
  bench.report("rss-go", { ours: Math.max(details.seeder, details.leecher), details });
}
