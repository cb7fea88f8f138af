// Networks of its own for some of a test's processes: behind a firewall that drops UDP, or an
// internet with homes behind NATs. Network namespaces of Linux, which need root.

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
  const end = () => {
    process.off("exit", end);
    run("ip", "netns", "del", name); // the link goes with it
  };
  t.after(end);
  process.on("exit", end); // a run that is interrupted ends no stage
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

/**
 * An internet with homes in it, each behind a NAT of its own. kind: "cone" keeps the port of a
 * connection, as most routers do, so that holes can be punched; "symmetric" gives every connection
 * another port by chance, so that they cannot. What runs in the internet is reached from this machine,
 * too; the homes are not, and do not reach it.
 */
export function internet(t, { homes, kind, udp = true }) {
  const names = [];
  const end = () => {
    process.off("exit", end);
    for (const name of names) run("ip", "netns", "del", name); // the links go with them
  };
  t.after(end);
  process.on("exit", end);
  const add = (what) => {
    const name = `p2pcdn-${process.pid}-${what}-${made}`;
    run("ip", "netns", "add", name);
    names.push(name);
    run("ip", "-n", name, "link", "set", "lo", "up");
    return name;
  };
  /** Joins two namespaces ("": this machine) by a line with these addresses at its ends. */
  const join = (from, fromAddress, to, toAddress, bits) => {
    made++;
    const ends = [`pc${process.pid}a${made}`, `pc${process.pid}b${made}`]; // 15 characters at most
    const where = (name) => (name === "" ? [] : ["-n", name]);
    run("ip", ...where(from), "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", to);
    for (const [name, device, address] of [[from, ends[0], fromAddress], [to, ends[1], toAddress]]) {
      run("ip", ...where(name), "address", "add", `${address}/${bits}`, "dev", device);
      run("ip", ...where(name), "link", "set", device, "up");
    }
    return ends;
  };
  const forward = (name) => run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ip_forward=1");

  made++;
  const core = add("core");
  const { outer, inner: host } = addresses();
  join("", outer, core, host, 30);
  forward(core);
  if (!udp) run("ip", "netns", "exec", core, "nft", "table inet filter { chain everything { type filter hook prerouting priority 0; iifname != \"lo\" meta l4proto udp drop; }; }");
  const places = Array.from({ length: homes }, () => {
    made++;
    const [router, home] = [add("router"), add("home")];
    const line = addresses();
    const [, wan] = join(core, line.outer, router, line.inner, 30);
    join(router, "192.168.7.1", home, "192.168.7.2", 24);
    run("ip", "-n", router, "route", "add", "default", "via", line.outer);
    run("ip", "-n", home, "route", "add", "default", "via", "192.168.7.1");
    forward(router);
    run("ip", "netns", "exec", router, "nft", `
      table ip nat {
        chain leave { type nat hook postrouting priority 100; oifname "${wan}" masquerade ${kind === "symmetric" ? "fully-random" : ""}; }
        chain enter { type filter hook forward priority 0; iifname "${wan}" ct state != { established, related } drop; }
        chain knock { type filter hook input priority 0; iifname "${wan}" ct state != { established, related } drop; }
      }`);
    return { command: ["ip", "netns", "exec", home] };
  });
  return { core: { host, command: ["ip", "netns", "exec", core] }, homes: places };
}

function run(program, ...args) {
  return execFileSync(program, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}
