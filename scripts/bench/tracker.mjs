// The competitor of the rows about rendezvous, as a process of its own: bittorrent-tracker's
// WebSocket server alone, on loopback or at the address and port of its arguments. Prints its port.

import Tracker from "bittorrent-tracker/server";

const server = new Tracker({ udp: false, http: false, ws: true, stats: false });
const [address = "127.0.0.1", port = "0"] = process.argv.slice(2);
server.listen(Number(port), address, () => console.log(`port ${server.ws.address().port}`));
process.once("SIGTERM", () => server.close(() => process.exit(0)));
