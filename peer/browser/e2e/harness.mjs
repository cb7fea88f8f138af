// What the browser tests share: real mediators and peers as processes, real
// browsers, a plain web server, and waiting with a deadline.
//
// Whatever is started belongs to a stage, which ends it: the stage of one test,
// or that of a whole file of tests.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTCPServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import puppeteer from "puppeteer-core";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");

/** Where the pages are seen by people: a folder that git ignores. */
const screenshots = join(root, ".cache/screenshots");

/** How long anything may take: a search in the DHT, a WebRTC connection, 5 MiB on a busy machine with two cores. */
const patience = 60_000; // ms

/** How often is looked where nothing tells: processes that come up, files that grow. */
const interval = 50; // ms

/** The names of the browsers, as the tests use them. */
export const browserNames = ["chromium", "firefox"];

/** What was started, to be ended in the reverse order. */
export class Stage {
  #endings = [];
  /** The pages that were opened, for a picture of each where the test fails. */
  opened = [];

  after(ending) {
    this.#endings.push(ending);
  }

  /** Ends everything, also where an ending fails; throws the first failure. */
  async end() {
    const failures = [];
    while (this.#endings.length > 0) {
      try {
        await this.#endings.pop()();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** Makes a test of a body that is given a stage of its own. */
export function scene(body) {
  return async (test) => {
    const stage = new Stage();
    try {
      await body(stage);
    } catch (error) {
      for (const opened of stage.opened) await snap(opened, `failed_${test.name.replace(/\W+/g, "_")}`).catch(() => {});
      throw error;
    } finally {
      await stage.end();
    }
  };
}

/** Waits until the probe returns something; the name says what was waited for in vain. */
export async function until(name, probe) {
  for (const deadline = Date.now() + patience; Date.now() < deadline; await delay(interval)) {
    const found = await probe();
    if (found) return found;
  }
  assert.fail(`waited ${patience / 1000} s for ${name}`);
}

/** A folder that goes with the test. */
export function folder(t) {
  const path = mkdtempSync(join(tmpdir(), "p2pcdn-e2e-"));
  t.after(() => rmSync(path, { recursive: true, force: true, maxRetries: 5 }));
  return path;
}

/** A file of random bytes, or of the given ones. */
export function makeFile(t, name, content) {
  const bytes = typeof content === "number" ? randomBytes(content) : Buffer.from(content);
  const path = join(folder(t), name);
  writeFileSync(path, bytes);
  return { path, name, bytes, sha256: sha256(bytes) };
}

/** A picture as PNG, 1440 pixels wide: the one of the demonstration. */
export function drawSample() {
  return execFileSync("go", ["run", "./scripts/sample"], { cwd: root, maxBuffer: 16 << 20 });
}

export function sha256(bytes) {
  return createHash("sha256").update(bytes).digest("hex");
}

/**
 * A TCP port that nobody has, on any address. It is below those that systems give to connections
 * (from 32768 on): one of them could be taken before it is listened on.
 */
export async function freePort() {
  for (;;) {
    const server = createTCPServer().listen(20_000 + randomInt(12_000));
    const taken = await once(server, "listening").then(() => false, () => true);
    if (taken) continue;
    const { port } = server.address();
    server.close();
    await once(server, "close");
    return port;
  }
}

/** Where programs run and are reached, unless a test makes another network (network.mjs). */
const here = { host: "localhost", command: [] };

/** Starts a program of bin/, which ends with the test. Its output is kept, and shown where the test fails. */
function start(t, place, program, ...args) {
  const path = join(root, "bin", program);
  assert.ok(existsSync(path), `${path} is not there: run ./compile.sh`);
  const [first, ...rest] = [...place.command, path, ...args];
  const child = spawn(first, rest, { stdio: ["ignore", "pipe", "pipe"] });
  const running = { child, output: "", exited: once(child, "exit").then(([code]) => code) };
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (running.output += text));
  t.after(async () => {
    child.kill("SIGTERM");
    await running.exited;
  });
  return running;
}

/**
 * A mediator, joined to the DHT of the others. One that is named has a public URL, which others tell
 * their peers: one on this machine only where they reach it by a loopback address, so it has no other.
 */
export async function startMediator(t, { bootstrap = [], port, place = here, named = false, flags = [] } = {}) {
  port ??= await freePort();
  const http = `http://${place.host}:${port}`;
  const webSocket = `ws://${place.host}:${port}/mediation`;
  const publicly = named ? ["--public-url", webSocket, "--listen", "127.0.0.1"] : [];
  const running = start(t, place, "mediator", "--data-dir", folder(t), String(port), "0", ...publicly, ...flags, ...bootstrap.map(({ http }) => http));
  await until(`the mediator at ${http}\n${running.output}`, async () => {
    assert.equal(running.child.exitCode, null, `the mediator ended:\n${running.output}`);
    const answer = await fetch(`${http}/healthz`).catch(() => null);
    return answer?.ok;
  });
  return {
    http,
    port,
    place,
    webSocket,
    page: (name, suffix = "") => `${http}/preview/${name}_preview.html${suffix}`,
    /** What it says of itself. */
    status: async () => (await fetch(`${http}/status.json`)).json(),
    async stop(signal = "SIGTERM") {
      running.child.kill(signal);
      await running.exited;
    },
    /** It says and hears nothing, and its connections stay open, until the end of the stage. */
    freeze(stage) {
      running.child.kill("SIGSTOP");
      stage.after(() => running.child.kill("SIGCONT"));
    },
  };
}

/** Two mediators that find each other by DHT. */
export async function startMediators(t) {
  const first = await startMediator(t);
  return [first, await startMediator(t, { bootstrap: [first] })];
}

/** `peer seed`, beside the mediator: returns the link that it prints, without the mediator that it names: others find the content by DHT alone. */
export async function seedWithGo(t, file, mediator, ...options) {
  const running = start(t, mediator.place, "peer", "seed", file.path, "--mediator", mediator.webSocket, ...options);
  return until(`the link of peer seed`, () => {
    assert.equal(running.child.exitCode, null, `peer seed ended:\n${running.output}`);
    return running.output.includes("announced") && /p2pcdn:[0-9a-f]{64}\?\S+/.exec(running.output)?.[0].replace(/&m=.*/, "");
  });
}

/** `peer get`: returns the bytes that it wrote. */
export async function getWithGo(t, link, mediator, ...options) {
  const out = join(folder(t), "out");
  const running = start(t, here, "peer", "get", link, "-o", out, "--mediator", mediator.webSocket, ...options);
  const code = await Promise.race([running.exited, delay(patience, "too late", { ref: false })]);
  assert.equal(code, 0, `peer get:\n${running.output}`);
  return readFileSync(out);
}

// Headless, in a container: no sandbox, no GPU, nothing sent home.
const chromiumArguments = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

const browserPrograms = { chromium: "/usr/bin/chromium", firefox: "/usr/bin/firefox-esr" };

/** What starts a browser in another network. The test talks to Chromium by pipes, which need none; to Firefox through a bridge. */
function programAt(t, name, place) {
  if (place === here) return browserPrograms[name];
  const program = join(folder(t), name);
  const bridge = name === "firefox" ? [process.execPath, join(root, "peer/browser/e2e/bridge.mjs")] : [];
  writeFileSync(program, `#!/bin/sh\nexec ${[...bridge, ...place.command, browserPrograms[name]].join(" ")} "$@"\n`, { mode: 0o700 });
  return program;
}

/** A browser; files that it saves are found in its `downloads`. The preferences are for Firefox, the flags for Chromium. */
export async function startBrowser(t, name, { preferences = {}, flags = [], place = here } = {}) {
  const downloads = folder(t);
  const executablePath = programAt(t, name, place);
  const browser = await (name === "chromium"
    ? puppeteer.launch({
        executablePath, headless: true, pipe: place !== here, protocolTimeout: patience, args: [...chromiumArguments, ...flags],
        downloadBehavior: { policy: "allow", downloadPath: downloads },
      })
    : puppeteer.launch({
        browser: "firefox", executablePath, headless: true, protocolTimeout: patience,
        extraPrefsFirefox: { "browser.download.dir": downloads, "browser.download.folderList": 2, "browser.download.useDownloadDir": true, ...preferences },
      }));
  // What a browser says must be read, though nobody wants it: Chromium's WebRTC
  // thread stops for good when it cannot write to a full pipe.
  browser.process().stdout?.resume();
  browser.process().stderr?.resume();
  t.after(() => browser.close());
  return { browser, name, downloads };
}

/**
 * Opens a page; what goes wrong in its scripts fails the test. What it asks of servers, and what
 * it or the browser complains of in the console, is in its `requests` and `complaints`.
 */
export async function open(t, { browser, name, downloads }, address) {
  const page = await browser.newPage();
  const opened = { page, name, downloads, requests: [], complaints: [] };
  page.on("request", (request) => opened.requests.push(request.url()));
  page.on("console", (message) => {
    if (["error", "warn"].includes(message.type())) opened.complaints.push(message.text());
  });
  t.opened.push(opened);
  const wrong = [];
  page.on("pageerror", ({ message }) => {
    // Firefox reports like an error of a script a WebSocket or a peer that does not connect, and a
    // film that leaves a service worker's response for another place.
    if (!/^(Firefox can’t establish a connection|The connection to wss?:|WebRTC: ICE failed|Failed to load ‘’\. A ServiceWorker intercepted)/.test(message)) wrong.push(message);
  });
  t.after(async () => {
    await page.close();
    assert.deepEqual(wrong, [], `errors in ${address} in ${name}`);
  });
  await page.evaluateOnNewDocument(recordStates);
  await page.goto(address);
  return opened;
}

/** Runs in the page, before its own scripts: keeps every data-state that "status" had, in order. */
function recordStates() {
  window.states = [];
  const keep = (state) => {
    if (state && window.states.at(-1) !== state) window.states.push(state);
  };
  new MutationObserver((records) => {
    for (const { target, oldValue } of records) if (target.id === "status") keep(oldValue);
    keep(document.getElementById("status")?.dataset.state);
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeOldValue: true, attributeFilter: ["data-state"] });
}

/** Every data-state that the page's status had so far. */
export function states({ page }) {
  return page.evaluate(() => window.states);
}

/** What the status says now. */
export function said({ page }) {
  return page.$eval("#status", (status) => status.textContent);
}

/** Waits for the state; a page that fails instead fails the test with its own words. */
export async function reach(opened, state) {
  const { page } = opened;
  const now = () => page.$eval("#status", (status) => status.dataset.state);
  await until(`the state ${state} (${await said(opened)})`, async () => {
    const present = await now();
    if (present === "failed" && state !== "failed") assert.fail(`the page failed: ${await said(opened)}`);
    return present === state;
  });
}

/** Chooses a file on a seeder page and waits until it is found by others; returns the page's link. */
export async function seed(opened, file) {
  const input = await opened.page.$("#file-input");
  await input.uploadFile(file.path);
  await reach(opened, "seeding");
  return opened.page.$eval("#share-link", (link) => link.href);
}

/** Clicks as a person does, for whom the page must be in front of the others. */
async function click(page, selector) {
  await page.bringToFront();
  await page.click(selector);
}

/** Pastes a link or a dictionary into a leecher page and starts. */
export async function paste({ page }, text) {
  await page.$eval("#info-dictionary", (field, value) => (field.value = value), text);
  await click(page, "#start");
}

/** Saves what a page fetched, as a person does by a click on its link, and returns the name and the bytes. */
export async function save({ page, downloads }, link = "#save") {
  const before = new Set(readdirSync(downloads));
  await page.waitForSelector(`${link}[href]`, { visible: true, timeout: patience });
  await click(page, link);
  let size = -1;
  const name = await until("the saved file", () => {
    const files = readdirSync(downloads).filter((file) => !before.has(file));
    if (files.length !== 1 || /\.(part|crdownload|tmp)$/.test(files[0])) return false;
    const last = size;
    size = statSync(join(downloads, files[0])).size;
    return size > 0 && size === last && files[0];
  });
  const bytes = readFileSync(join(downloads, name));
  rmSync(join(downloads, name)); // or the next one of this name would get another
  return { name, bytes };
}

/** Runs in a page, as a peer of its own: returns what the mediator answers to the request, or to the handshake. */
export function ask(mediator, request = null) {
  const peer_id = [...crypto.getRandomValues(new Uint8Array(20))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(mediator);
    const say = (message) => socket.send(JSON.stringify(message));
    let asked = request === null;
    socket.onopen = () => say({ type: "handshake", peer_id, connection_type: "mediation" });
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "established" && !asked) {
        asked = true;
        return say(request);
      }
      socket.close();
      if (message.type === "error") reject(new Error(`the mediator said ${data}`));
      else resolve(message);
    };
    socket.onclose = () => reject(new Error("the mediator closed the connection"));
  });
}

/** A function that tells what the scripts of a page and its workers hold, buffers included, in bytes. Chromium alone tells. */
export async function memoryOf(page) {
  const session = await page.createCDPSession();
  return async () => {
    let held = 0;
    for (const client of [session, ...page.workers().map((worker) => worker.client)]) {
      const usage = await client.send("Runtime.getHeapUsage").catch(() => null); // a worker may just have ended
      held += (usage?.usedSize ?? 0) + (usage?.embedderHeapUsedSize ?? 0) + (usage?.backingStorageSize ?? 0);
    }
    return held;
  };
}

/** Keeps a picture of the page for people to look at. */
export async function snap({ page, name }, what) {
  mkdirSync(screenshots, { recursive: true });
  await page.bringToFront(); // behind others it is not drawn
  await page.screenshot({ path: join(screenshots, `${what}_${name}.png`), fullPage: true });
}

const mediaTypes = {
  ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
  ".svg": "image/svg+xml", ".map": "application/json",
};

/** A plain web server for the files of a folder of the project, and for pages of the test's own. */
export function startWebServer(t, folderOfProject, pages = {}) {
  return startServer(t, (request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    const file = join(root, folderOfProject, path);
    const own = pages[path];
    if (own === undefined && !(existsSync(file) && statSync(file).isFile())) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "content-type": mediaTypes[own === undefined ? extname(path) : ".html"] ?? "application/octet-stream" });
    response.end(own ?? readFileSync(file));
  });
}

/** A web server that ends with the test; answer is that of node:http. Returns its address, without a slash behind it. */
export async function startServer(t, answer) {
  const server = createServer(answer).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, "close");
  });
  return `http://localhost:${server.address().port}`;
}
