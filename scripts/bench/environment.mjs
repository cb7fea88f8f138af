// On what is measured, before it is: figures of two machines, or of two versions, are not
// comparable, nor are those of a machine that did something else.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";

export function environment(root) {
  const output = (command, ...args) => spawnSync(command, args, { cwd: root, encoding: "utf8" }).stdout?.trim() ?? "";
  const version = (name) => JSON.parse(readFileSync(join(root, "scripts/bench/node_modules", name, "package.json"), "utf8")).version;
  const module = (name) => output("go", "list", "-m", "-f", "{{.Version}}", name);
  return {
    date: new Date().toISOString(),
    commit: output("git", "describe", "--tags", "--always", "--dirty"),
    cpu: cpus()[0].model, cores: cpus().length, memory_mib: Math.round(totalmem() / 2 ** 20),
    kernel: release(), load_average: loadavg(),
    versions: {
      go: output("go", "env", "GOVERSION"), node: process.version, chromium: output("/usr/bin/chromium", "--version"),
      pion_webrtc: module("github.com/pion/webrtc/v3"), pion_sctp: module("github.com/pion/sctp"), webtorrent: version("webtorrent"),
    },
  };
}
