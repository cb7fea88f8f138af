// Drives a browser on a host of the lab: node driver.mjs '{"browser":"chromium","kind":"p2pcdn","mdns":false,"flags":[]}'
//
// It runs on the host itself, with a web server there, so that pages come from localhost, which browsers trust, and only what
// peers and mediators say goes over the lab's links. Commands come on standard input and are answered on standard
// output, one after the other, each a line of JSON:
//
//	{"do":"seed", …}  in a page of a context of its own, seed contents: {"links":[…]}, or {"error_code", "error"}
//	{"do":"get", …}   the same for one content; the page stays for the next one: {"outcome", "phases", "error_code", "error"}
//	{"do":"leave"}    closes the page and the context: {}
//
// What a command is given is told where its function is, in pages.mjs. It ends with its standard input.

import { createInterface } from "node:readline";

import { Stage, startBrowser, startWebServer } from "../../../peer/browser/e2e/harness.mjs";
import { kinds, observe } from "./pages.mjs";

/** How long a page is asked at a time whether it is done, in ms: below what the browser's protocol allows to one call. */
const longest = 20_000;

const options = JSON.parse(process.argv[2]);
const kind = kinds[options.kind];
const stage = new Stage();
/** The page and its context, or null. */
let opened = null;

const answer = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const commands = {
  async seed(browser, site, command) {
    const page = await enter(browser, site);
    return settled(page, command, await page.evaluate(kind.seed, command));
  },

  async get(browser, site, command) {
    const page = await enter(browser, site);
    await page.evaluate(kind.get, command);
    return settled(page, command);
  },

  async leave() {
    const left = opened;
    opened = null; // also where it cannot be closed: nobody uses it again
    await left?.context.close();
    return {};
  },
};

/** The page of this visitor: a new one where there is none. */
async function enter(browser, site) {
  if (opened === null) {
    const context = await browser.createBrowserContext();
    const page = await context.newPage();
    opened = { context, page };
    await page.evaluateOnNewDocument(observe);
    await page.goto(`${site}/`);
    await page.evaluate(kind.load);
  }
  return opened.page;
}

/** Waits until what the page does has an end, for as long as the command says. */
async function settled(page, { timeout }) {
  for (const deadline = Date.now() + timeout; ; ) {
    const left = deadline - Date.now();
    const result = await page.evaluate(kind.result, Math.min(longest, left));
    if (result.outcome !== undefined) return result;
    if (left <= longest) return { ...result, outcome: "failed", error_code: "timeout", error: `it took more than ${timeout / 1000} s` };
  }
}

try {
  const site = await startWebServer(stage, kind.folder, { "/": `<!doctype html><title>lab</title><link rel="icon" href="data:,">` });
  const { browser } = await startBrowser(stage, options.browser, {
    flags: [...options.flags, ...(options.mdns ? [] : ["--disable-features=WebRtcHideLocalIpsWithMdns"])],
    preferences: { "media.peerconnection.ice.obfuscate_host_addresses": options.mdns },
  });
  answer({ ready: await browser.version() });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
      answer(await commands[command.do](browser, site, command));
    } catch (error) {
      answer({ outcome: "failed", error_code: "local_failure", error: `${command.do}: ${error.message}` });
    }
  }
} finally {
  await stage.end();
}
