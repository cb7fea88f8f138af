// The other one: WebTorrent's browser bundle, between two contexts, by a tracker of its own.

import { once } from "node:events";

import Tracker from "bittorrent-tracker/server";

import { rate } from "./children.mjs";
import { choose, open, startSite, verify } from "./pages.mjs";

/** No STUN servers, as with ours: there is nothing to traverse, and nobody should be asked. */
const rtc = { iceServers: [] };

/** MB/s from the opening of the connection to the verified content: { rate, details }. */
export async function transfer(bench, seeder, leecher, file) {
  const tracker = await startTracker(bench.stage);
  const site = await startSite(bench, "scripts/bench/node_modules/webtorrent/dist");
  const [from, to] = [await open(seeder, site), await open(leecher, site)];
  await choose(from, file);
  let times;
  for (const last of [false, true]) { // once before it counts, as ours
    const magnet = await from.evaluate(pageSeed, tracker, rtc);
    times = await to.evaluate(pageGet, magnet, tracker, rtc);
    if (!last) await Promise.all([from, to].map((page) => page.evaluate(pageLeave)));
  }
  await verify(to, () => window.torrent.files[0].blob(), file);
  await Promise.all([from.close(), to.close()]);
  return { rate: rate(file.bytes, times.done - times.wire), details: { timeline: times } };
}

async function startTracker(stage) {
  const server = new Tracker({ udp: false, http: false, ws: true, stats: false });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  stage.after(() => new Promise((resolve) => server.close(resolve)));
  return `ws://127.0.0.1:${server.ws.address().port}`;
}

/** Runs in the seeder's page: the magnet link. */
async function pageSeed(tracker, rtcConfig) {
  const { default: WebTorrent } = await import("/webtorrent.min.js");
  const client = (window.client = new WebTorrent({ tracker: { rtcConfig } }));
  const file = document.getElementById("file").files[0];
  return new Promise((resolve, reject) => {
    client.on("error", reject);
    const torrent = client.seed(file, { announce: [tracker] });
    torrent.on("trackerAnnounce", () => resolve(torrent.magnetURI));
  });
}

/** Runs in both pages: ends the client, and throws away what came. */
async function pageLeave() {
  const { client } = window;
  await Promise.all(client.torrents.map((torrent) => new Promise((resolve) => torrent.destroy({ destroyStore: true }, resolve))));
  await new Promise((resolve) => client.destroy(resolve));
}

/** Runs in the leecher's page: when (in ms) the connection opened, the first bytes came, and all were verified. */
async function pageGet(magnet, tracker, rtcConfig) {
  const { default: WebTorrent } = await import("/webtorrent.min.js");
  const client = (window.client = new WebTorrent({ tracker: { rtcConfig } }));
  const times = {};
  const keep = (name) => () => (times[name] ??= performance.now());
  return new Promise((resolve, reject) => {
    client.on("error", reject);
    const torrent = (window.torrent = client.add(magnet, { announce: [tracker] }));
    torrent.on("wire", keep("wire"));
    torrent.on("download", keep("download"));
    torrent.on("done", () => {
      keep("done")();
      resolve(times);
    });
  });
}
