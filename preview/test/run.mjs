// Bundles the tests with the Go tool that builds the pages, and runs them with Node.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = dirname(fileURLToPath(import.meta.url));
const out = mkdtempSync(join(tmpdir(), "p2pcdn-preview-tests-"));

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: folder, stdio: "inherit" });
  if (error) throw error;
  return status ?? 1;
}

const tests = readdirSync(folder).filter((name) => name.endsWith(".test.ts"));
let status = run(
  "go", "tool", "esbuild", ...tests, "--bundle", "--platform=node", "--format=esm", "--sourcemap=inline",
  "--log-level=warning", "--out-extension:.js=.mjs", `--outdir=${out}`,
);
if (status === 0) {
  status = run(
    process.execPath, "--enable-source-maps", "--test", "--test-reporter=tap",
    ...tests.map((name) => join(out, name.replace(/\.ts$/, ".mjs"))),
  );
}
rmSync(out, { recursive: true });
process.exitCode = status;
