// Hashing for seeding: the benchmarks of the two rooms that hash. Each takes turns with its
// yardstick, and says the median of the turns' ratios.

import { Child, root } from "../children.mjs";

/** The pieces of Go's that are measured, in KiB: neither many small ones nor a single large one. */
const piece = 1024;

export async function round(bench) {
  bench.report("hashing-go", await go(bench));
  bench.report("hashing-browser", await chromium(bench));
}

/** BenchmarkSum from a file: its metrics stand on one line, a number before each name. */
async function go(bench) {
  const seconds = bench.quick ? 1 : 5;
  const child = new Child(bench.stage, "go test -bench", "go", [
    "test", "-run", "^$", "-bench", `^BenchmarkSum$/^file$/^pieces=${piece}KiB$`, "-benchtime", `${seconds}s`, "./common/content",
  ]);
  const { match } = await child.line(/^BenchmarkSum\S*\s.*MB\/s.*/);
  const metric = (name) => Number(new RegExp(`([\\d.]+) ${name}`).exec(match[0])[1]);
  const [ours, ratio] = [metric("MB/s"), metric("of-cores×sha256")];
  return { ours, yardstick: ours / ratio };
}

/** It prints { chromium: { webcrypto, sum, ratio, read, digest, bound } } on one line, the rates in MB/s. */
async function chromium(bench) {
  const rounds = bench.quick ? 2 : 7;
  const child = new Child(bench.stage, "hash.bench.mjs", process.execPath, [
    "peer/browser/e2e/hash.bench.mjs", "--json", "--rounds", String(rounds), "chromium",
  ]);
  const { match } = await child.line(/^\{.*\}$/);
  const { sum, ratio, read, digest, bound } = JSON.parse(match[0]).chromium;
  return { ours: sum, yardstick: sum / ratio, details: { read, digest, bound } };
}
