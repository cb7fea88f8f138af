// How fast a raw data channel is by the size of its messages, in each browser: two
// connections of one page to each other on this machine, 64 MiB each way of
// measuring, sizes in turn so that a noisy machine disturbs all alike.
//
//   node peer/browser/e2e/frames.bench.mjs [rounds]
//
// This is what the block length of common/wire was chosen by: a piece frame is a
// block and 11 bytes.

import { browserNames, Stage, startBrowser, startWebServer } from "./harness.mjs";

const rounds = Number(process.argv[2] ?? 3);
const blocks = [16, 32, 48, 64, 128, 192].map((kib) => kib * 1024);
const head = 11; // bytes of a piece frame before its data
const total = 64 << 20;

/** Runs in the page: the bytes per second of messages of this length. */
async function measure(length, total) {
  const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
  from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate);
  to.onicecandidate = ({ candidate }) => candidate && from.addIceCandidate(candidate);
  const channel = from.createDataChannel("bench");
  const far = new Promise((resolve) => (to.ondatachannel = (event) => resolve(event.channel)));
  await from.setLocalDescription(await from.createOffer());
  await to.setRemoteDescription(from.localDescription);
  await to.setLocalDescription(await to.createAnswer());
  await from.setRemoteDescription(to.localDescription);
  if (channel.readyState !== "open") await new Promise((resolve) => (channel.onopen = resolve));
  const receiver = await far;
  receiver.binaryType = "arraybuffer";
  let received = 0;
  const count = Math.ceil(total / length);
  const done = new Promise((resolve) => {
    receiver.onmessage = ({ data }) => {
      received += data.byteLength;
      if (received === count * length) resolve();
    };
  });
  const started = performance.now();
  const message = new Uint8Array(length);
  channel.bufferedAmountLowThreshold = 256 << 10;
  for (let sent = 0; sent < count; sent++) {
    if (channel.bufferedAmount > 1 << 20) await new Promise((resolve) => (channel.onbufferedamountlow = resolve));
    channel.send(message);
  }
  await done;
  const seconds = (performance.now() - started) / 1000;
  from.close();
  to.close();
  return (count * length) / seconds;
}

const stage = new Stage();
try {
  const site = await startWebServer(stage, "preview", { "/": "<!doctype html><title>bench</title>" });
  for (const name of browserNames) {
    const { browser } = await startBrowser(stage, name);
    const page = await browser.newPage();
    await page.goto(`${site}/`);
    const rates = new Map(blocks.map((block) => [block, []]));
    for (let round = 0; round < rounds; round++) {
      for (const block of blocks) rates.get(block).push(await page.evaluate(measure, block + head, total));
    }
    for (const [block, all] of rates) {
      const median = all.sort((a, b) => a - b)[all.length >> 1];
      console.log(`${name.padEnd(9)} block ${String(block / 1024).padStart(4)} KiB  ${(median / 1e6).toFixed(1).padStart(6)} MB/s`);
    }
  }
} finally {
  await stage.end();
}
