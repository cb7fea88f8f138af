// The competitor of the rows about rendezvous, as a process of its own: bittorrent-tracker's
// WebSocket server alone. Prints its port.

import Tracker from "bittorrent-tracker/server";

const server = new Tracker({ udp: false, http: false, ws: true, stats: false });
server.listen(0, "127.0.0.1", () => console.log(`port ${server.ws.address().port}`));
process.once("SIGTERM", () => server.close(() => process.exit(0)));
