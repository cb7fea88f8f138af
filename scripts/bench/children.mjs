// Processes of the benchmark: the headless peer, watched from outside by what it prints.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { folder } from "../../peer/browser/e2e/harness.mjs";

export const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** How long a process may take to end when it is told to; then it is killed. In ms. */
const grace = 5000;

/** How many lines of a process are kept: what is waited for is among the first, and what went wrong among the last. */
const maxLines = 10_000;

/** A process that ends with its stage, and whose lines are waited for. */
export class Child {
  #lines = []; // { text, at }, standard output and standard error
  #waiting = new Set();
  #over = null; // an Error, once it ended

  constructor(stage, name, command, args, env = {}) {
    // In the session of the benchmark, as the processes of a service are in one: Linux shares the processors among
    // sessions (sched_autogroup), and one of its own for the load would have it compete with the servers.
    this.process = spawn(command, args, { cwd: root, stdio: "pipe", env: { ...process.env, ...env } });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      createInterface({ input: stream }).on("line", (text) => this.#heard(text));
    }
    this.process.stdin.on("error", () => {}); // it ended: its waiters are told
    const exited = new Promise((resolve) => {
      this.process.once("error", resolve);
      this.process.once("close", resolve); // its last lines were read
    });
    this.ended = exited.then((how) => {
      const last = this.#lines.slice(-10).map(({ text }) => `    ${text.slice(0, 200)}`);
      this.#over = new Error([`${name} ended (${how?.message ?? how}); its last words:`, ...last].join("\n"));
      for (const waiter of this.#waiting) waiter.reject(this.#over);
    });
    stage.after(() => this.end());
  }

  async end() {
    this.process.kill("SIGTERM");
    const killed = new AbortController();
    delay(grace, null, { signal: killed.signal }).then(() => this.process.kill("SIGKILL"), () => {});
    await this.ended;
    killed.abort();
  }

  #heard(text) {
    const line = { text, at: performance.now() };
    if (this.#lines.length < maxLines) this.#lines.push(line);
    for (const waiter of this.#waiting) waiter.look(line);
  }

  /** Waits for the first line that matches; resolves to { match, at }, at in ms. */
  line(pattern) {
    const found = ({ text, at }) => {
      const match = pattern.exec(text);
      return match === null ? null : { match, at };
    };
    for (const line of this.#lines) {
      const result = found(line);
      if (result !== null) return Promise.resolve(result);
    }
    if (this.#over !== null) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => {
      const waiter = {
        reject,
        look: (line) => {
          const result = found(line);
          if (result === null) return;
          this.#waiting.delete(waiter);
          resolve(result);
        },
      };
      this.#waiting.add(waiter);
    });
  }

  /** Rejects when the process ends. */
  failure() {
    return this.line(/^(?!)/);
  }

  write(text) {
    this.process.stdin.write(text);
  }

  /** The most memory that it had at any time, in MiB. */
  memory() {
    return memoryOf(this.process.pid, "VmHWM");
  }
}

/** A line of /proc/<pid>/status, in MiB. */
export function memoryOf(pid, name) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)[1]) / 1024;
}

/** `peer seed`, once the content can be found: { child, link }. */
export async function seed(bench, file, mediator, ...flags) {
  const child = new Child(bench.stage, "peer seed", join(root, "bin/peer"), ["seed", file.path, "--mediator", mediator.webSocket, ...flags]);
  const { match } = await child.line(/p2pcdn:[0-9a-f]{64}\?\S+/);
  await child.line(/announced/);
  return { child, link: match[0] };
}

/**
 * `peer get`, which stays when it is done: { child, path, opened, complete }. opened and
 * complete resolve to when (in ms) its first connection opened, and its file was there.
 */
export function get(bench, link, mediator, ...flags) {
  const path = join(folder(bench.stage), "out");
  const child = new Child(bench.stage, "peer get", join(root, "bin/peer"), [
    "get", link, "-o", path, "--seed-after", "--mediator", mediator.webSocket, ...flags,
  ]);
  const when = (pattern) => {
    const found = child.line(pattern).then(({ at }) => at);
    found.catch(() => {}); // whoever awaits it is told, too
    return found;
  };
  return { child, path, opened: when(/^downloading/), complete: when(/^complete/) };
}

/** Throws unless the file at the path holds what it should. */
export async function verify(path, file) {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk);
  if (hash.digest("hex") !== file.sha256) throw new Error("what came is not what was sent");
}

/** Megabytes (10^6) per second. */
export function rate(bytes, milliseconds) {
  return bytes / 1e3 / milliseconds;
}
