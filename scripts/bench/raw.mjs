// The yardstick: a data channel with nothing of ours in its way, between any two of
// processes (pion, see peer/rtc/raw_test.go) and pages. An end is
//
//   offer() → SDP, accept(SDP)      of the sender, which begins once the channel is open
//   answer(SDP) → SDP, result()     of the receiver: { bytes, seconds } from the first message to the last
//   failure()                       rejects when the end fails
//   close()

import { execFileSync } from "node:child_process";
import { join } from "node:path";

import { Child, rate, root } from "./children.mjs";
import { median } from "./report.mjs";

/**
 * The lengths of messages that are tried, in KiB: which is best differs by machine and
 * version. Pion sends at most 64 KiB, which it gives no way to raise; a page does at most 256.
 */
export const pageMessages = [16, 64, 192];
export const pionMessages = [16, 48, 64];

/** How much waits in a page's channel, in bytes: as much as in one of ours (HighWater and LowWater of peer/browser/src/rtc.ts). */
const waiting = { high: 1 << 20, low: 256 << 10 };

/** MB/s between two ends. */
export async function transfer(sender, receiver) {
  try {
    await sender.accept(await receiver.answer(await sender.offer()));
    const { bytes, seconds } = await Promise.race([receiver.result(), sender.failure()]);
    return rate(bytes, seconds * 1000);
  } finally {
    await Promise.all([sender.close(), receiver.close()]);
  }
}

/**
 * One sample of a row: MB/s of each length of messages by its name, and after each of them ours, so that both have
 * the same share of what else the machine does; of ours the median counts. sender and receiver make an
 * end of { total, length }; ours resolves to MB/s.
 */
export async function inTurn(total, messages, { sender, receiver, ours }) {
  const yardstick = {};
  const all = [];
  for (const kib of messages) {
    const size = { total, length: kib * 1024 };
    yardstick[`${kib} KiB`] = await transfer(sender(size), receiver(size));
    all.push(await ours());
  }
  return { ours: median(all), yardstick, details: { ours: all } };
}

/** An end in a process of its own; role is "send" or "receive". */
export function processEnd(bench, role, { total, length }) {
  const child = new Child(bench.stage, `raw ${role}`, binary(), [], {
    RTC_TEST_RAW: role, RTC_TEST_RAW_BYTES: String(total), RTC_TEST_RAW_MESSAGE: String(length),
  });
  const say = (type, sdp) => child.write(`${JSON.stringify({ type, sdp })}\n`);
  const heard = async (pattern) => JSON.parse((await child.line(pattern)).match.input);
  return {
    offer: async () => (await heard(/"type":"offer"/)).sdp,
    accept: async (sdp) => say("answer", sdp),
    async answer(sdp) {
      say("offer", sdp);
      return (await heard(/"type":"answer"/)).sdp;
    },
    result: () => heard(/"seconds":/),
    failure: () => child.failure(),
    close: () => child.end(),
  };
}

let built = null; // the path of the test binary of peer/rtc

function binary() {
  if (built === null) {
    const path = join(root, ".cache/bench/rtc.test");
    // Stripped and without C, as compile.sh builds the peer.
    execFileSync("go", ["test", "-c", "-trimpath", "-ldflags=-s -w", "-o", path, "./peer/rtc"], { cwd: root, env: { ...process.env, CGO_ENABLED: "0" } });
    built = path;
  }
  return built;
}

/** An end in a page. */
export function pageEnd(page, { total, length }) {
  return {
    offer: () => page.evaluate(pageOffer, total, length, waiting),
    accept: (sdp) => page.evaluate((sdp) => window.raw.setRemoteDescription({ type: "answer", sdp }), sdp),
    answer: (sdp) => page.evaluate(pageAnswer, sdp, total),
    result: () => page.evaluate(() => window.rawResult),
    failure: () => page.evaluate(() => window.rawFailure),
    close: () => page.evaluate(() => window.raw.close()),
  };
}

/** Runs in the sender's page. */
async function pageOffer(total, length, waiting) {
  const raw = (window.raw = new RTCPeerConnection());
  const channel = raw.createDataChannel("raw");
  channel.bufferedAmountLowThreshold = waiting.low;
  window.rawFailure = new Promise((_, reject) => {
    channel.onclose = () => reject(new Error("the raw channel closed"));
    channel.onopen = async () => {
      const message = new Uint8Array(length);
      for (let sent = 0; sent < total; sent += length) {
        if (channel.bufferedAmount >= waiting.high) await new Promise((resolve) => (channel.onbufferedamountlow = resolve));
        channel.send(message);
      }
    };
  });
  window.rawFailure.catch(() => {});
  const gathered = new Promise((resolve) => (raw.onicecandidate = ({ candidate }) => candidate === null && resolve()));
  await raw.setLocalDescription();
  await gathered;
  return raw.localDescription.sdp;
}

/** Runs in the receiver's page. */
async function pageAnswer(sdp, total) {
  const raw = (window.raw = new RTCPeerConnection());
  window.rawResult = new Promise((resolve, reject) => {
    raw.ondatachannel = ({ channel }) => {
      channel.binaryType = "arraybuffer";
      let first = 0, received = 0, began = 0;
      channel.onmessage = ({ data }) => {
        if (received === 0) [first, began] = [data.byteLength, performance.now()];
        received += data.byteLength;
        if (received >= total) resolve({ bytes: received - first, seconds: (performance.now() - began) / 1000 });
      };
      channel.onclose = () => reject(new Error(`the raw channel closed after ${received} bytes`));
    };
  });
  window.rawResult.catch(() => {});
  const gathered = new Promise((resolve) => (raw.onicecandidate = ({ candidate }) => candidate === null && resolve()));
  await raw.setRemoteDescription({ type: "offer", sdp });
  await raw.setLocalDescription();
  await gathered;
  return raw.localDescription.sdp;
}
