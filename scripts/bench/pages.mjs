// The pages of the benchmark: in a browser of its own that has a disk, as people have it,
// or in two contexts of one browser, which share nothing and keep what they store in memory.

import { startBrowser, startWebServer } from "../../peer/browser/e2e/harness.mjs";
import { rate } from "./children.mjs";

/** How often a page is asked how far it is, in ms. */
const interval = 250;

const html = `<!doctype html><title>bench</title><link rel="icon" href="data:,"><input type="file" id="file">`;

/** Starts a browser. */
export async function startVisitor(bench) {
  const { browser } = await startBrowser(bench.stage, "chromium");
  return browser;
}

/** A web server for the scripts of a folder and a page that can load them; returns its address. */
export function startSite(bench, folder) {
  return startWebServer(bench.stage, folder, { "/": html });
}

/** Two contexts of one browser. */
export async function startContexts(bench) {
  const browser = await startVisitor(bench);
  return [await browser.createBrowserContext(), await browser.createBrowserContext()];
}

/** Opens the page of a site in a browser or context. */
export async function open(where, site) {
  const page = await where.newPage();
  await page.goto(`${site}/`);
  return page;
}

/** Chooses the file on the page, as a person does: it stays on disk. */
export async function choose(page, file) {
  const input = await page.$("#file");
  await input.uploadFile(file.path);
}

/** Seeds the file with our client; returns the link once the content can be found. */
export async function seed(page, file, mediator) {
  await choose(page, file);
  return page.evaluate(async (mediator) => {
    const { Client } = await import("/cdn.mjs");
    window.client = new Client({ mediators: [mediator] });
    const content = window.client.seed(document.getElementById("file").files[0]);
    await new Promise((resolve, reject) => {
      const look = () => {
        if (content.state === "seeding") resolve();
        if (content.state === "failed") reject(new Error(content.error.message));
      };
      content.on("state", look);
      look();
    });
    return content.link();
  }, mediator.webSocket);
}

/** Fetches a link with our client; look is called with the page each quarter of a second. Returns the timeline, in ms. */
export async function get(page, link, mediator, look = async () => {}) {
  await page.evaluate(async (link, mediator) => {
    const { Client } = await import("/cdn.mjs");
    window.client = new Client({ mediators: [mediator] });
    window.content = window.client.get(link);
    window.content.done.catch(() => {}); // the state tells
  }, link, mediator.webSocket);
  for (;;) {
    const { state, error, timeline } = await page.evaluate(() => ({
      state: window.content.state, error: window.content.error?.message, timeline: { ...window.content.timeline },
    }));
    if (state === "failed") throw new Error(`the page failed: ${error}`);
    await look(page);
    if (state === "complete") return timeline;
    await new Promise((resolve) => setTimeout(resolve, interval));
  }
}

/** Ends what seed or get began, and throws away what came. */
export async function leave(page) {
  await page.evaluate(async () => {
    window.content?.discard();
    await window.client.close();
    window.client = window.content = undefined;
  });
}

/** MB/s of a timeline, from the opening of the first channel to the last verified byte. */
export function rateOf(file, { channel_open, complete }) {
  return rate(file.bytes, complete - channel_open);
}

/** Throws unless the blob that an expression (a function of the page) resolves to is the file. */
export async function verify(page, expression, file) {
  const handle = await page.evaluateHandle(expression);
  const sha256 = await handle.evaluate(async (blob) => {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
    return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  });
  if (sha256 !== file.sha256) throw new Error("what came is not what was sent");
}
