// Hashing for seeding: the benchmarks of the two rooms that hash, each of which measures
// its yardstick in turn with itself.

import { Child, root } from "../children.mjs";

/** The pieces that are measured, in KiB: neither many small ones nor a single large one. */
const piece = 1024;

export async function round(bench) {
  bench.report("hashing-go", await go(bench));
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
