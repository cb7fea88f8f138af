import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Phases, type Timeline } from "../src/api.ts";
import type { FullHash } from "../src/content.ts";
import { endpointOf, formatTable, maxMeasures, pageMeasures, type Row, sinceStart } from "../src/timeline.ts";
import { withoutThreads } from "./clock.ts";
import { dictionary, kib, Net } from "./net.ts";
import { vectors } from "./vectors.ts";
import { describe as infoOf, randomBytes } from "./world.ts";

withoutThreads();

interface Record {
  scenario: string;
  seed: number;
  index: number;
  flow: string;
  endpoint: string;
  role: Row["role"];
  mediators: number;
  content_bytes: number;
  content: number;
  peer: string;
  outcome: Row["outcome"];
  error_code: string;
  error: string;
  phases: Timeline;
}

const { columns, valid } = vectors<{ columns: string; valid: { name: string; row: string; record: Record }[] }>("timeline", "csv.json");

describe("csv.json", () => {
  for (const { name, row, record } of valid) {
    test(name, () => {
      const { content_bytes: contentBytes, error_code: errorCode, ...rest } = record;
      assert.equal(formatTable([{ ...rest, contentBytes, errorCode }]), `${columns}\n${row}\n`);
    });
  }

  test("a table without rows", () => assert.equal(formatTable([]), `${columns}\n`));
});

test("stamps count from the start, and those that the table has no room for are left out", () => {
  assert.deepEqual(sinceStart({ started: 1000, established: 1002.5, announced: 1_001_000 }), { started: 0, established: 2.5, announced: 1_000_000 });
  assert.deepEqual(sinceStart({ started: 5, announced: 50, offer_received: 10_000_005 }), { started: 0, announced: 45 });
  assert.deepEqual(sinceStart({ announced: 50 }), {});
});

test("a browser is known by what it says of itself", () => {
  const mozilla = "Mozilla/5.0 (X11; Linux x86_64";
  assert.equal(endpointOf(`${mozilla}; rv:140.0) Gecko/20100101 Firefox/140.0`), "firefox");
  assert.equal(endpointOf(`${mozilla}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36`), "chromium");
  assert.equal(endpointOf(`${mozilla}) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36`), "chromium");
  assert.equal(endpointOf("Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15"), null);
});

describe("entries of User Timing", () => {
  const hash = "a".repeat(64) as FullHash;

  test("have a name, a span and the full hash, and are bounded", () => {
    const made: { name: string; options: PerformanceMeasureOptions }[] = [];
    const measure = pageMeasures({
      performance: {
        measure: (name: string, options: PerformanceMeasureOptions) => void made.push({ name, options }),
        clearMeasures: (name: string) => void made.splice(0, Infinity, ...made.filter((one) => one.name !== name)),
      } as unknown as Performance,
    });
    measure("established", hash, 100, 150.5);
    assert.deepEqual(made, [{ name: "p2pcdn:established", options: { start: 100, end: 150.5, detail: { fullHash: hash } } }]);
    for (let i = 0; i < 3 * maxMeasures; i++) {
      measure(Phases[i % Phases.length] ?? "complete", hash, 0, i);
      assert.ok(made.length <= maxMeasures);
    }
    assert.equal(made.at(-1)?.options.end, 3 * maxMeasures - 1);
  });

  test("an older browser has none", () => {
    const refuse = (): never => {
      throw new SyntaxError("there is no mark [object Object]");
    };
    pageMeasures({ performance: { measure: refuse, clearMeasures: refuse } })("complete", hash, 1, 2);
  });

  test("are made for each phase, those before the hash is known included", async () => {
    const net = new Net();
    const noted = new Map<string, string[]>();
    net.measure = (phase, fullHash, started, at) => {
      assert.ok(at >= started);
      noted.set(fullHash, [...(noted.get(fullHash) ?? []), phase]);
    };
    const data = randomBytes(1, 100_000);
    const { content: seeded } = await net.seeder(data);
    const hash = infoOf(data, 64 * kib).fullHash;
    assert.deepEqual(noted.get(hash), ["mediator_open", "established", "announced"]);
    noted.clear();
    const content = net.client().get(seeded.link() as string);
    await net.complete(content, data);
    const [, ...phases] = Object.keys(content.timeline);
    for (const phase of phases) assert.ok(noted.get(hash)?.includes(phase), phase);
    assert.equal(noted.size, 1);
  });
});

test("a client writes down its contents", async () => {
  const net = new Net();
  const [first, second] = [randomBytes(1, 100_000), randomBytes(2, 10_000)];
  const { client: seeder, content: seeded } = await net.seeder(first);
  const also = seeder.seed(new Blob([second]));
  await net.clock.pass(1000);
  const client = net.client();
  await net.complete(client.get(seeded.link() as string), first);
  await net.complete(client.get(also.link() as string), second);
  client.get(dictionary(infoOf(randomBytes(3, 10), 64 * kib)));
  await net.clock.pass(1000);
  const fields = (csv: string): string[][] => csv.trimEnd().split("\n").slice(1).map((row) => row.split(","));
  const peer = client.peerID?.slice(0, 8) ?? "";
  assert.equal(peer.length, 8);
  const head = (csv: string): string[][] => fields(csv).map((row) => row.slice(0, 14));
  assert.deepEqual(head(client.timelineCSV({ endpoint: "firefox", scenario: "a test", seed: 7, mediators: 2 })), [
    ["1", "a test", "7", "1", "fast", "firefox", "leecher", "2", "100000", "1", peer, "complete", "", ""],
    ["1", "a test", "7", "2", "fast", "firefox", "leecher", "2", "10000", "2", peer, "complete", "", ""],
    ["1", "a test", "7", "3", "fast", "firefox", "leecher", "2", "10", "1", peer, "failed", "unfinished", "it is searching"],
  ]);
  const table = seeder.timelineCSV({ endpoint: "chromium" });
  assert.deepEqual(head(table).map((row) => [row[6], row[9], row[11]]), [["seeder", "1", "complete"], ["seeder", "1", "complete"]]);
  assert.ok(table.startsWith(`${columns}\n`));
  for (const row of fields(table)) assert.equal(row[14], "0.000");
  assert.throws(() => client.timelineCSV(), { code: "unsupported" }); // Node
});
