// A film to watch while it is downloaded: made here, once, as no browser comes with one.
// Chromium encodes it (VP8); the file around it (WebM) is written below, with what a
// player needs to seek.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { open, sha256, startBrowser, startWebServer } from "./harness.mjs";

/** Git ignores it. A film that is made otherwise needs another name. */
const cached = join(dirname(fileURLToPath(import.meta.url)), "../../../.cache/film-2.webm");

const width = 640;
const height = 360;
const framesPerSecond = 12;
const seconds = 24;

/** What makes it some 14 MB: noise, which no encoder makes small. */
const bitrate = 4_700_000;

/** The film, with its place on the disk, its hash and its length in seconds. */
export async function film(t) {
  if (!existsSync(cached)) {
    const frames = await encode(t);
    mkdirSync(dirname(cached), { recursive: true });
    writeFileSync(`${cached}.part`, writeWebM(frames));
    renameSync(`${cached}.part`, cached);
  }
  const bytes = readFileSync(cached);
  assert.ok(bytes.length > 10_000_000, `the film has ${bytes.length} bytes: too few to download slowly`);
  return { path: cached, name: "film-2.webm", bytes, sha256: sha256(bytes), seconds };
}

/** The frames as { time (ms), key, data }, in order. */
async function encode(t) {
  const browser = await startBrowser(t, "chromium");
  const site = await startWebServer(t, "preview", { "/": "<!doctype html><title>Film</title><link rel=icon href=data:,>" });
  const { page } = await open(t, browser, `${site}/`);
  const frames = await page.evaluate(draw, { width, height, framesPerSecond, seconds, bitrate });
  return frames.map(({ time, key, data }) => ({ time, key, data: Buffer.from(data, "base64") }));
}

/** Runs in the page: noise behind a clock, so that a picture of it tells the time. */
async function draw({ width, height, framesPerSecond, seconds, bitrate }) {
  const frames = [];
  const encoder = new VideoEncoder({
    output: (chunk) => {
      const data = new Uint8Array(chunk.byteLength);
      chunk.copyTo(data);
      let binary = "";
      for (let i = 0; i < data.length; i += 8192) binary += String.fromCharCode(...data.subarray(i, i + 8192));
      frames.push({ time: Math.round(chunk.timestamp / 1000), key: chunk.type === "key", data: btoa(binary) });
    },
    error: (error) => {
      throw error;
    },
  });
  encoder.configure({ codec: "vp8", width, height, framerate: framesPerSecond, bitrate, bitrateMode: "constant" });
  const canvas = new OffscreenCanvas(width, height);
  const paint = canvas.getContext("2d", { willReadFrequently: true });
  const noise = paint.createImageData(width, height);
  let random = 1;
  for (let frame = 0; frame < seconds * framesPerSecond; frame++) {
    for (let i = 0; i < noise.data.length; i += 4) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      noise.data.set([40 + (random >>> 25), 60 + (random >>> 25), 90 + (random >>> 25), 255], i);
    }
    paint.putImageData(noise, 0, 0);
    paint.fillStyle = "#fff";
    paint.font = "bold 140px sans-serif";
    paint.textAlign = "center";
    paint.fillText(`${Math.floor(frame / framesPerSecond)} s`, width / 2, height / 2 + 50);
    const picture = new VideoFrame(canvas, { timestamp: (frame * 1e6) / framesPerSecond });
    encoder.encode(picture, { keyFrame: frame % framesPerSecond === 0 });
    picture.close();
    if (encoder.encodeQueueSize > 4) await new Promise((resolve) => encoder.addEventListener("dequeue", resolve, { once: true }));
  }
  await encoder.flush();
  return frames;
}

/**
 * WebM (https://www.webmproject.org/docs/container/), of one VP8 track. A cluster begins with each key frame. The
 * index (Cues) stands before the frames, so that nothing but a seek makes a player read the end.
 */
function writeWebM(frames) {
  const clusters = [];
  for (const frame of frames) {
    if (frame.key) clusters.push({ time: frame.time, blocks: [] });
    const cluster = clusters.at(-1);
    const head = Buffer.from([0x81, 0, 0, frame.key ? 0x80 : 0]);
    head.writeInt16BE(frame.time - cluster.time, 1);
    cluster.blocks.push(element(0xa3, head, frame.data));
  }
  const about = element(
    0x1549a966, element(0x2ad7b1, unsigned(1_000_000)), element(0x4489, float(seconds * 1000)),
    element(0x4d80, Buffer.from("p2pcdn")), element(0x5741, Buffer.from("p2pcdn")),
  );
  const track = element(
    0xae, element(0xd7, unsigned(1)), element(0x73c5, unsigned(1)), element(0x83, unsigned(1)),
    element(0x23e383, unsigned(Math.round(1e9 / framesPerSecond))), // or a player reads far ahead to find out
    element(0x86, Buffer.from("V_VP8")), element(0xe0, element(0xb0, unsigned(width)), element(0xba, unsigned(height))),
  );
  const tracks = element(0x1654ae6b, track);
  const written = clusters.map(({ time, blocks }) => element(0x1f43b675, element(0xe7, unsigned(time)), ...blocks));

  // Positions count from the first byte inside of the segment. All are as long, whatever they say.
  const cues = (first) => {
    let at = first;
    return element(0x1c53bb6b, ...clusters.map(({ time }, i) => {
      const place = element(0xb7, element(0xf7, unsigned(1)), element(0xf1, unsigned(at)));
      at += written[i].length;
      return element(0xbb, element(0xb3, unsigned(time)), place);
    }));
  };
  const seekHead = (place) => element(
    0x114d9b74, element(0x4dbb, element(0x53ab, Buffer.from([0x1c, 0x53, 0xbb, 0x6b])), element(0x53ac, unsigned(place))),
  );
  const cuesAt = seekHead(0).length + about.length + tracks.length;
  const index = cues(cuesAt + cues(0).length);
  const head = element(
    0x1a45dfa3, element(0x4286, unsigned(1)), element(0x42f7, unsigned(1)), element(0x42f2, unsigned(4)), element(0x42f3, unsigned(8)),
    element(0x4282, Buffer.from("webm")), element(0x4287, unsigned(2)), element(0x4285, unsigned(2)),
  );
  return Buffer.concat([head, element(0x18538067, seekHead(cuesAt), about, tracks, index, ...written)]);
}

/** An EBML element: its id, its length in eight bytes, and what is in it. */
function element(id, ...parts) {
  const digits = id.toString(16);
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(BigInt(parts.reduce((sum, part) => sum + part.length, 0)));
  length[0] = 0x01;
  return Buffer.concat([Buffer.from(digits, "hex"), length, ...parts]);
}

function unsigned(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

function float(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleBE(value);
  return bytes;
}
