// One run of the benchmark: the rounds of every measurement, each on a stage of its own
// that is cleared whatever happens, within its time.

import { createCipheriv, createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { Stage, folder } from "../../peer/browser/e2e/harness.mjs";

/** How long the ending of a round may take, in s: each process is killed after a few seconds, one after the other. */
const endingSeconds = 60;

/** A stage of a round that may be left behind: what it still starts after the end is ended at once. */
class RoundStage extends Stage {
  #over = false;
  #late = []; // promises

  after(ending) {
    if (this.#over) this.#late.push(Promise.resolve().then(ending).catch(() => {}));
    else super.after(ending);
  }

  /** Ends everything; the round, which notices that, is waited for. */
  async endAfter(round) {
    this.#over = true;
    await super.end();
    await round.catch(() => {});
    await Promise.all(this.#late);
  }
}

export class Run {
  interrupted = false;
  #stage = new Stage(); // of the contents, which all rounds share
  #files = new Map(); // by their length

  /** interrupted resolves when the run is to end; say tells people how it goes. */
  constructor({ quick, repeat, seed }, interrupted, say) {
    Object.assign(this, { quick, repeat, seed, say });
    this.end = interrupted.then(() => {
      this.interrupted = true;
      throw new Error("interrupted");
    });
    this.end.catch(() => {});
  }

  /** Measures everything; returns a { row, samples, error } for each row. */
  async all(measurements) {
    const results = [];
    try {
      for (const measurement of measurements) {
        if (!this.interrupted) results.push(...(await this.#measure(measurement)));
      }
    } finally {
      await this.#stage.end();
    }
    return results;
  }

  async #measure({ name, seconds, rows }) {
    const results = new Map(rows.map((row) => [row.name, { row, samples: [], error: null }]));
    const report = (row, sample) => {
      results.get(row).samples.push(sample);
      this.say(`  ${row}: ${JSON.stringify(sample)}`);
    };
    const { round } = await import(`./rows/${name}.mjs`);
    for (let i = 1; i <= this.repeat; i++) {
      this.say(`${name}, round ${i} of ${this.repeat}`);
      try {
        await this.#onStage(seconds, (stage) => round(this.#bench(stage, report)));
        if ([...results.values()].some(({ samples }) => samples.length < i)) throw new Error("the round did not report it");
      } catch (failure) {
        const error = this.interrupted ? new Error("interrupted") : failure; // Ctrl-C ends the processes, too
        this.say(`  failed: ${error.message}`);
        // A row that got its figure in this round is none the worse for what came after.
        for (const result of results.values()) if (result.samples.length < i) result.error = error.message;
        break; // it would fail again, and cost as much time
      }
    }
    return [...results.values()];
  }

  /** Runs the body with a stage, which is cleared afterwards; a body that takes too long is left behind. */
  async #onStage(seconds, body) {
    const stage = new RoundStage();
    const late = new AbortController();
    const limit = delay(seconds * 1000, null, { signal: late.signal }).then(() => {
      throw new Error(`it took longer than ${seconds} s`);
    });
    limit.catch(() => {});
    const round = body(stage);
    try {
      await Promise.race([round, limit, this.end]);
    } finally {
      late.abort();
      await Promise.race([stage.endAfter(round), delay(endingSeconds * 1000, null, { ref: false })]).catch((error) => this.say(`  ending: ${error.message}`));
    }
  }

  /** What a round is given. */
  #bench(stage, report) {
    return {
      stage, report, quick: this.quick, say: (text) => this.say(`  ${text}`),
      /** The size that is measured: the first, or with --quick the second. In MiB. */
      size: (full, quick) => (this.quick ? quick : full) << 20,
      file: (bytes) => this.#file(bytes),
    };
  }

  /** A file of random bytes that only depend on the seed: { path, bytes, sha256 }. */
  async #file(bytes) {
    if (!this.#files.has(bytes)) {
      const path = join(folder(this.#stage), `content-${bytes >> 20}MiB.bin`);
      const key = createHash("sha256").update(`${this.seed}`).digest();
      const cipher = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
      const hash = createHash("sha256");
      const out = createWriteStream(path);
      const zeros = Buffer.alloc(1 << 20);
      for (let left = bytes; left > 0; left -= zeros.length) {
        const chunk = cipher.update(left < zeros.length ? zeros.subarray(0, left) : zeros);
        hash.update(chunk);
        if (!out.write(chunk)) await once(out, "drain");
      }
      out.end();
      await once(out, "close");
      this.#files.set(bytes, { path, bytes, sha256: hash.digest("hex") });
    }
    return this.#files.get(bytes);
  }
}
