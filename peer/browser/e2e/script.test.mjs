// A site of its own that uses the scripts: its files come from other visitors.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import * as e2e from "./harness.mjs";

for (const name of e2e.browserNames) {
  describe(`scripts in ${name}`, () => {
    const shared = new e2e.Stage();
    let near, far, browser;

    before(async () => {
      [near, far] = await e2e.startMediators(shared);
      browser = await e2e.startBrowser(shared, name);
    });
    after(() => shared.end());

    test("the classic script: a visitor seeds, another one's page is filled", e2e.scene(async (t) => {
      const site = await e2e.startWebServer(t, "preview/dist", {
        "/seed": page(`<input type="file" id="file">`),
        "/visit": page(`
          <img class="logo"><img class="logo"><a id="manual">The manual</a><p id="note"></p>
        `),
      });
      const logo = e2e.makeFile(t, "logo.png", e2e.drawSample());
      const manual = e2e.makeFile(t, "manual.pdf", 100_000);
      const note = e2e.makeFile(t, "note.txt", "Grüße");

      const owner = await e2e.open(t, browser, `${site}/seed`);
      await owner.page.evaluate((mediator) => void cdn.initialize([], [mediator]), near.webSocket);
      const dictionaries = [];
      for (const file of [logo, manual, note]) {
        await (await owner.page.$("#file")).uploadFile(file.path);
        dictionaries.push(await owner.page.evaluate(() => cdn.seedFile(document.getElementById("file").files[0])));
      }
      assert.deepEqual(dictionaries.map((info) => info.file_name), ["logo.png", "manual.pdf", "note.txt"]);

      const visitor = await e2e.open(t, browser, `${site}/visit`);
      await visitor.page.evaluate((infos, mediator) => {
        cdn.overrideICECandidates([]);
        cdn.initialize([infos[0], JSON.stringify(infos[1]), infos[2]], mediator);
        cdn.includeImages(["logo.png"], [".logo"]);
        cdn.includeDownloads("manual.pdf", "#manual");
        cdn.onFileDownloaded("note.txt", async (file, info) => {
          document.getElementById("note").textContent = `${info.file_name}: ${await file.text()}`;
        });
      }, dictionaries, far.webSocket);
      await e2e.until("the images", () => visitor.page.$$eval(".logo", (images) => images.length === 2 && images.every(({ naturalWidth }) => naturalWidth === 1440)));
      await e2e.until("the note", () => visitor.page.$eval("#note", ({ textContent }) => textContent === "note.txt: Grüße"));
      await e2e.until("the manual", () => visitor.page.$eval("#manual", ({ href }) => href !== ""));
      const saved = await e2e.save(visitor, "#manual[href]");
      assert.equal(saved.name, manual.name);
      assert.equal(e2e.sha256(saved.bytes), manual.sha256);

      const refused = await visitor.page.evaluate(() => {
        try {
          cdn.includeImages("unknown.png", ".logo");
          return null;
        } catch (error) {
          return error.code;
        }
      });
      assert.equal(refused, "unknown_file");
    }));

    test("the module: the class underneath, from a mediator to any site", e2e.scene(async (t) => {
      const site = await e2e.startWebServer(t, "preview/dist", { "/": "<!doctype html><title>A site</title><link rel=icon href=data:,>" });
      const opened = await e2e.open(t, browser, `${site}/`);
      const text = await opened.page.evaluate(async (script, mediators) => {
        const { Client } = await import(script);
        const [seeder, leecher] = mediators.map((mediator) => new Client({ mediators: [mediator] }));
        const seeded = seeder.seed(new File(["straight across"], "a.txt", { type: "text/plain" }));
        await seeded.ready;
        const content = leecher.get(seeded.link());
        const blob = await content.done;
        const phases = Object.keys(content.timeline);
        await Promise.all([seeder.close(), leecher.close()]);
        return [await blob.text(), blob.type, phases.includes("channel_open"), phases.at(-1)];
      }, `${near.http}/preview/dist/cdn.mjs`, [near.webSocket, far.webSocket]);
      assert.deepEqual(text, ["straight across", "text/plain", true, "complete"]);
    }));
  });
}

function page(body) {
  return `<!doctype html><meta charset="utf-8"><title>A site</title><link rel="icon" href="data:,"><script src="/cdn.js"></script>${body}`;
}
