// A network of its own, behind a firewall that drops UDP, for some of a test's
// processes: a network namespace of Linux, which needs root.

import { execFileSync } from "node:child_process";

/** Where names and addresses of namespaces come from: several runs at a time must not meet. */
let made = 0;

/**
 * 198.18.0.0/15 is for tests of networks (RFC 2544), so that nothing real is there:
 * room for 32768 networks of two addresses each.
 */
function addresses() {
  const first = ((process.pid + 7919 * made) % 32768) * 4;
  const address = (n) => `198.${18 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
  return { outer: address(first + 1), inner: address(first + 2) };
}

/** Why no network can be made here; "" where it can. */
export function hindrance() {
  if (process.getuid() !== 0) return "a network namespace can only be made by root";
  try {
    const name = `p2pcdn-try-${process.pid}`;
    run("ip", "netns", "add", name);
    try {
      run("ip", "netns", "exec", name, "nft", "add", "table", "inet", "filter");
    } finally {
      run("ip", "netns", "del", name);
    }
    return "";
  } catch (error) {
    return `a network namespace with a firewall cannot be made (ip and nft, of iproute2 and nftables, are needed): ${error.message}`;
  }
}

/**
 * Makes a network that reaches this one, and is reached from it, by everything but UDP.
 * What runs in it is started with `command` before it, and reached at `host`.
 */
export function withoutUDP(t) {
  made++;
  const name = `p2pcdn-${process.pid}-${made}`;
  const [outside, inside] = [`pc${process.pid}o${made}`, `pc${process.pid}i${made}`]; // 15 characters at most
  const { outer, inner } = addresses();
  let gone = false;
  const end = () => {
    if (gone) return;
    gone = true;
    run("ip", "netns", "del", name); // the link goes with it
  };
  t.after(end);
  process.once("exit", end); // a run that is interrupted ends no stage
  run("ip", "netns", "add", name);
  run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name);
  run("ip", "address", "add", `${outer}/30`, "dev", outside);
  run("ip", "link", "set", outside, "up");
  run("ip", "-n", name, "address", "add", `${inner}/30`, "dev", inside);
  run("ip", "-n", name, "link", "set", "lo", "up");
  run("ip", "-n", name, "link", "set", inside, "up");
  run("ip", "-n", name, "route", "add", "default", "via", outer); // this machine has other addresses too
  const command = ["ip", "netns", "exec", name];
  run(...command, "nft", `
    table inet filter {
      counter dropped {}
      chain input { type filter hook input priority 0; meta l4proto udp counter name dropped drop; }
      chain output { type filter hook output priority 0; meta l4proto udp counter name dropped drop; }
    }`);
  return {
    host: inner,
    command,
    /** How many packets of UDP were dropped so far. */
    dropped: () => Number(/packets (\d+)/.exec(run(...command, "nft", "list", "counters"))[1]),
  };
}

function run(program, ...args) {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
