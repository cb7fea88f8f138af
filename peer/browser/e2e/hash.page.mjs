// The script of a page that hashes, for its test and its benchmark.

import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const sources = join(dirname(fileURLToPath(import.meta.url)), "../src");

/** The content room with its workers, bundled as compile.sh does, as a script with the global `content`. */
export function bundleContent() {
  const worker = bundle("content/worker.ts");
  return bundle("content.ts", "--global-name=content", `--define:P2PCDN_HASH_WORKER=${JSON.stringify(worker)}`);
}

function bundle(source, ...options) {
  return execFileSync("go", ["tool", "esbuild", source, "--bundle", "--minify", "--target=es2022", "--format=iife", "--log-level=warning", ...options], {
    cwd: sources,
    encoding: "utf8",
  });
}
