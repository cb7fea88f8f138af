// What an introduction and an idle peer cost a mediator, against WebTorrent's tracker. The load is
// introduce/, which speaks both protocols; what the servers used is read from /proc.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { folder } from "../../../peer/browser/e2e/harness.mjs";
import { Child, root } from "../children.mjs";

/** Without limits, as the tracker is. */
const unlimited = [
  "connections", "connections-per-address", "messages", "lookups", "signals", "signal-bytes", "announces", "waiting", "named", "contents",
  "pending", "streams", "streams-per-mediator", "mediator-messages", "mediator-waiting", "records", "records-per-mediator", "records-per-content",
].flatMap((name) => [`--max-${name}`, "0"]);

export async function round(bench) {
  const program = join(root, ".cache/bench/introduce");
  execFileSync("go", ["build", "-trimpath", "-ldflags=-s -w", "-o", program, "./scripts/bench/introduce"], { cwd: root, env: { ...process.env, CGO_ENABLED: "0" } });
  const load = async (what, protocol, servers, ...options) => {
    for (const { child } of servers) await rest(child.process.pid);
    const pids = servers.flatMap(({ child }) => ["--pid", String(child.process.pid)]);
    const child = new Child(bench.stage, `introduce ${what} ${protocol}`, program, [what, protocol, ...options, ...pids, ...servers.map(({ url }) => url)]);
    const { match } = await child.line(/^\{.*\}$/);
    await child.ended;
    return JSON.parse(match[0]);
  };

  const [tracker, mediator] = [await startTracker(bench), await startMediator(bench)];
  /** The middle one of three turns, by the ratio of a figure: yardstick and ours right behind each other, for a machine has its minutes. */
  const paired = async (row, figure, servers, pairs) => {
    const options = ["--pairs", String(pairs), "--count", String(bench.quick ? 400 : 8000)];
    const turns = [];
    for (let n = 0; n < 3; n++) {
      const theirs = await load("pairs", "tracker", [tracker], ...options);
      const ours = await load("pairs", "mediation", servers, ...options);
      turns.push({ ours: ours[figure], yardstick: theirs[figure], details: { ours, theirs } });
    }
    turns.sort((a, b) => a.ours / a.yardstick - b.ours / b.yardstick);
    bench.report(row, turns[1]);
  };
  await paired("introduction", "cpu_us", [mediator], 50);
  await paired("introduction-p99", "p99_ms", [mediator], 200);
  await paired("introduction-across", "cpu_us", [mediator, await startMediator(bench, mediator)], 50);

  const peers = ["--peers", bench.quick ? "500" : "9000"]; // below the usual limit of files of a process that serves them, 10240
  const [idleTracker, idleMediator] = [await startTracker(bench), await startMediator(bench)];
  const theirIdle = await load("idle", "tracker", [idleTracker], ...peers);
  const before = await goroutines(idleMediator);
  let during = before;
  const looking = setInterval(async () => (during = Math.max(during, await goroutines(idleMediator).catch(() => 0))), 1000);
  const ourIdle = await load("idle", "mediation", [idleMediator], ...peers).finally(() => clearInterval(looking));
  bench.report("idle-peer", { ours: ourIdle.kib, details: { ours: ourIdle, theirs: theirIdle } });
  bench.report("idle-goroutines", { ours: (during - before) / ourIdle.peers });
}

async function startTracker(bench) {
  const child = new Child(bench.stage, "bittorrent-tracker", process.execPath, ["scripts/bench/tracker.mjs"]);
  const { match } = await child.line(/^port (\d+)$/);
  return { child, url: `ws://127.0.0.1:${match[1]}` };
}

async function startMediator(bench, other = null) {
  const args = ["0", "0", ...(other === null ? [] : [other.http]), "--listen", "127.0.0.1", "--data-dir", folder(bench.stage), "--log-level", "warn", "--port-map=false", ...unlimited];
  const child = new Child(bench.stage, "mediator", join(root, "bin/mediator"), args);
  const { match } = await child.line(/peers +(ws:\/\/\S+)/);
  const http = match[1].replace("ws:", "http:").replace("/mediation", "");
  if (other !== null) {
    while (!(await fetch(`${http}/readyz`)).ok) await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { child, url: match[1], http };
}

/** Waits, half a minute at the most, until a server does nothing: what it does to start is no introduction's. */
async function rest(pid) {
  const ticks = () => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
    return Number(fields[11]) + Number(fields[12]); // utime and stime
  };
  for (let n = 0; n < 30; n++) {
    const before = ticks();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    if (ticks() - before <= 2) return;
  }
}

async function goroutines({ http }) {
  return Number(/^go_goroutines (\d+)$/m.exec(await (await fetch(`${http}/metrics`)).text())[1]);
}
