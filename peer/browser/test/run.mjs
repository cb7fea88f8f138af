// Runs the unit tests: bundles each with the project's own bundler (a Go tool) into a
// folder that goes afterwards, and hands them to node --test.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const tests = readdirSync(here).filter((name) => name.endsWith(".test.ts"));
if (tests.length === 0) throw new Error(`no tests in ${here}`);

function run(command, args, options) {
  const { status, error } = spawnSync(command, args, { stdio: "inherit", ...options });
  if (error !== undefined) throw error;
  return status ?? 1;
}

const folder = mkdtempSync(join(tmpdir(), "p2pcdn-test-"));
let status;
try {
  const bundle = ["tool", "esbuild", "--bundle", "--platform=node", "--format=esm", "--target=node20", "--sourcemap=inline"];
  const sources = tests.map((name) => join(here, name));
  status = run("go", [...bundle, "--out-extension:.js=.mjs", "--log-level=warning", `--outdir=${folder}`, ...sources], { cwd: here });
  if (status === 0) {
    const bundles = tests.map((name) => join(folder, name.replace(/\.ts$/, ".mjs")));
    // The tests read the vectors, which stay where they are.
    const env = { ...process.env, P2PCDN_ROOT: join(here, "../../..") };
    status = run(process.execPath, ["--enable-source-maps", "--test", `--test-concurrency=${availableParallelism()}`, ...process.argv.slice(2), ...bundles], { env });
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
