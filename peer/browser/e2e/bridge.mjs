// Starts Firefox in another network, for a test in this one: bridge.mjs <command> [argument ...]
//
// Firefox takes WebDriver BiDi at a TCP port of its own network alone, and only from who calls it by
// that port. So a port of this network is taken first, and Firefox is given the one of the same
// number over there; each connection is carried by a process that runs there.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";

const command = process.argv.slice(2);
const program = command.findIndex((word) => word.endsWith("/firefox-esr"));
const enter = [...command.slice(0, program), process.execPath];

/** Runs in the other network: its standard input and output are the connection. */
const carry = `
  const far = require("node:net").connect(process.argv[1], "127.0.0.1").on("error", () => process.exit(1));
  process.stdin.pipe(far).pipe(process.stdout);
`;

const server = createServer((near) => {
  const carrier = spawn(enter[0], [...enter.slice(1), "-e", carry, port], { stdio: ["pipe", "pipe", "inherit"] });
  near.pipe(carrier.stdin);
  carrier.stdout.pipe(near);
  // Either end goes with the other, at any time.
  for (const stream of [near, carrier.stdin, carrier.stdout]) stream.on("error", () => near.destroy());
  near.on("close", () => carrier.kill());
}).listen(0, "127.0.0.1");
await once(server, "listening");
const port = String(server.address().port);

const told = command.map((word) => (word.startsWith("--remote-debugging-port") ? `--remote-debugging-port=${port}` : word));
const firefox = spawn(told[0], told.slice(1), { stdio: "inherit" });
firefox.on("exit", (code) => process.exit(code ?? 1));
