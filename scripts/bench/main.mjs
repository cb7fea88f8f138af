// The benchmark: builds, measures what was asked for, and prints what came out.
// table.mjs says what is measured, rows/ how, README.md what it means.

import { spawnSync } from "node:child_process";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { environment } from "./environment.mjs";
import { summarize, table } from "./report.mjs";
import { measurements } from "./table.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../..");

const usage = `Usage: scripts/bench/run.sh [NAME …] [--quick] [--repeat N] [--json FILE] [--seed N] [--no-build]

Measures speed and memory on this machine, each figure with its yardstick in the same
run, in turn, so that a noisy machine disturbs both alike. Without a NAME: everything.

${measurements.flatMap(({ rows }) => rows).map(({ name, what }) => `  ${name.padEnd(18)} ${what}`).join("\n")}

  --quick       small contents, one round: shows that it works, not how fast it is
  --repeat N    rounds; the figures are medians over them (default 3)
  --json FILE   everything that was measured, and on what
  --seed N      what the contents are made of (default 1)
  --no-build    takes bin/ and preview/dist as they are

The table goes to standard output, progress to standard error. Needs Go, Node, npm
and /usr/bin/chromium. Exit codes: 0 everything was measured (whatever came out), 1 something
could not be, 2 wrong usage, 130 interrupted; what was measured is printed in any case.
`;

/** The command line; ends the process where it is wrong, or asks for help. */
function options() {
  try {
    const { values, positionals: names } = parseArgs({
      allowPositionals: true,
      options: {
        help: { type: "boolean", short: "h" },
        quick: { type: "boolean", default: false },
        repeat: { type: "string" },
        json: { type: "string" },
        seed: { type: "string", default: "1" },
        "no-build": { type: "boolean", default: false },
      },
    });
    if (values.help) {
      process.stdout.write(usage);
      process.exit(0);
    }
    const known = new Set(measurements.flatMap(({ name, rows }) => [name, ...rows.map((row) => row.name)]));
    for (const name of names) if (!known.has(name)) throw new Error(`there is nothing to measure of the name "${name}"`);
    const repeat = Number(values.repeat ?? (values.quick ? 1 : 3));
    if (!(Number.isInteger(repeat) && repeat >= 1 && repeat <= 100)) throw new Error("--repeat is a number from 1 to 100");
    return { names, repeat, quick: values.quick, json: values.json, seed: values.seed, build: !values["no-build"] };
  } catch (error) {
    process.stderr.write(`scripts/bench/run.sh: ${error.message}\nTry -h.\n`);
    process.exit(2);
  }
}

/** Runs a command whose output is nobody's business unless it fails. */
function must(what, command, ...args) {
  say(what);
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`${what} failed: ${error?.message ?? ""}\n${stdout}${stderr}`);
}

/** Development tools, as their lock files say; npm writes the second file at the end of an installation. */
function install(folder, ...flags) {
  const [lock, done] = [join(root, folder, "package-lock.json"), join(root, folder, "node_modules/.package-lock.json")];
  if (existsSync(done) && statSync(done).mtimeMs >= statSync(lock).mtimeMs) return;
  must(`installing the development tools of ${folder}`, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder, ...flags);
}

function say(text) {
  process.stderr.write(`${text}\n`);
}

/** Resolves once somebody wants this to end. */
function interruption() {
  return new Promise((resolve) => {
    const onSignal = () => {
      say("\nEnding.");
      resolve();
    };
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, onSignal);
    // puppeteer listens, too, and would end this process on Ctrl-C at once, with everything else left running.
    process.on("newListener", (event, listener) => {
      if (event === "SIGINT") queueMicrotask(() => process.removeListener(event, listener));
    });
  });
}

const chosen = options();
try {
  install("peer/browser");
  install("scripts/bench", "--omit=optional"); // which are for WebTorrent in Node
  if (chosen.build) must("building", "./compile.sh");
} catch (error) {
  say(error.message);
  process.exit(1);
}
const { Run } = await import("./run.mjs"); // not before its tools are installed
const wanted = measurements.filter(({ name, rows }) =>
  chosen.names.length === 0 || [name, ...rows.map((row) => row.name)].some((own) => chosen.names.includes(own)));
const before = environment(root);
if (before.load_average[0] > before.cores / 2) say(`This machine is busy (load average ${before.load_average[0].toFixed(1)}): the figures will say less.`);
const run = new Run(chosen, interruption(), say);
const results = await run.all(wanted);

const rows = results.map(({ row, samples, error }) => summarize(row, samples, error));
process.stdout.write(table(rows));
if (chosen.quick) process.stdout.write("\n--quick: small contents, so that these are no figures; they only show that it works.\n");
if (chosen.json !== undefined) {
  const report = { environment: before, options: chosen, interrupted: run.interrupted, rows };
  writeFileSync(chosen.json, `${JSON.stringify(report, null, 2)}\n`);
}
process.exit(run.interrupted ? 130 : rows.some(({ error }) => error !== null) ? 1 : 0);
