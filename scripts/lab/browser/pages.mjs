// What runs in the pages of the lab, for this project's browser peer and for WebTorrent. Each function
// is sent to the page as text, so it knows nothing but its arguments and the page.
//
// A command is { mediators, trackers, stun, contents, bytes, piece, seed, link, timeout }: WebSocket URLs, those of trackers, the URL of a
// STUN server or null, how many contents of how many bytes are seeded, in pieces of how many (none: as the seeder likes), from which seed, or what is fetched, and for how
// long, in ms.

/**
 * Runs in each page before anything else: what both kinds share. window.lab has `reached`, the phases with their
 * performance.now(), and `ending`, which resolves to { outcome, … }.
 */
export function observe() {
  const lab = (window.lab = {
    reached: {},
    ending: null,
    keep: (phase, at = performance.now()) => (lab.reached[phase] ??= at),
    /** The phases in ms since started. */
    phases: () => Object.fromEntries(Object.entries(lab.reached).map(([phase, at]) => [phase, at - lab.reached.started])),
    /** What ended is told after it; what did not end within so many ms, too, without an outcome. */
    result: async (ms) => {
      const late = new Promise((resolve) => setTimeout(resolve, ms, {}));
      return { ...(await Promise.race([lab.ending, late])), phases: lab.phases() };
    },
    /** Random bytes of a seed: the same in every browser (xorshift128, by Marsaglia, seeded by FNV-1a). */
    bytes: (length, seed) => {
      let hash = 0x811c9dc5;
      for (const byte of new TextEncoder().encode(seed)) hash = Math.imul(hash ^ byte, 0x01000193);
      let [x, y, z, w] = [hash, 362436069, 521288629, 88675123];
      const words = new Uint32Array(Math.ceil(length / 4));
      for (let i = -64; i < words.length; i++) { // the first ones of near seeds are alike
        const t = x ^ (x << 11);
        [x, y, z] = [y, z, w];
        w ^= (w >>> 19) ^ t ^ (t >>> 8);
        if (i >= 0) words[i] = w;
      }
      return new Uint8Array(words.buffer, 0, length);
    },
  });
}

/** Runs in a page, for both kinds. */
function result(ms) {
  return window.lab.result(ms);
}

/** This project's browser peer, as the preview pages use it. */
const p2pcdn = {
  folder: "preview/dist",
  result,

  async load() {
    window.lab.Client = (await import("/cdn.mjs")).Client;
  },

  /** Seeds the contents; ends when others can find all of them, with their links. */
  seed({ mediators, stun, contents, bytes, piece, seed }) {
    const { lab } = window;
    lab.keep("started");
    const client = new lab.Client({ mediators, ...(stun === null && { iceServers: [] }) });
    const one = (number) =>
      new Promise((resolve, reject) => {
        const content = client.seed(new Blob([lab.bytes(bytes, `${seed}/${number}`)]), { name: `${number}.bin`, ...(piece && { pieceLength: piece }) });
        content.on("state", (state) => {
          if (state === "seeding") resolve(content.link());
          if (state === "failed") reject(content.error);
        });
      });
    lab.ending = Promise.all(Array.from({ length: contents }, (_, i) => one(i + 1))).then(
      (links) => ({ outcome: "complete", links }),
      ({ code, message }) => ({ outcome: "failed", error_code: code ?? "local_failure", error: message }),
    );
  },

  /** Fetches a content, the second one with the client of the first. */
  get({ mediators, stun, link }) {
    const { lab } = window;
    lab.client ??= new lab.Client({ mediators, ...(stun === null && { iceServers: [] }) });
    const content = lab.client.get(link);
    lab.phases = () => {
      const { started, ...reached } = content.timeline;
      return { started: 0, ...Object.fromEntries(Object.entries(reached).map(([phase, at]) => [phase, at - started])) };
    };
    lab.ending = content.done.then(
      () => ({ outcome: "complete" }),
      ({ code, message }) => ({ outcome: "failed", error_code: code ?? "local_failure", error: message }),
    );
  },
};

/** WebTorrent. Its phases are what its WebSockets and peer connections do: it tells of none itself. */
const webtorrent = {
  folder: "scripts/bench/node_modules/webtorrent/dist",
  result,

  async load() {
    const { lab } = window;
    const say = (socket, text) => {
      const message = JSON.parse(text);
      if (message.action !== "announce") return;
      if (socket === "sent") {
        lab.keep("lookup_sent");
        if (message.offers?.length > 0) lab.keep("offer_sent");
        if (message.answer) lab.keep("answer_sent");
      } else {
        lab.keep("established");
        if (message.offer) lab.keep("offer_received");
        if (message.answer) lab.keep("answer_received");
      }
    };
    window.WebSocket = class extends WebSocket {
      constructor(...args) {
        super(...args);
        this.addEventListener("open", () => lab.keep("mediator_open"));
        this.addEventListener("message", ({ data }) => say("received", typeof data === "string" ? data : new TextDecoder().decode(data)));
      }
      send(data) {
        super.send(data);
        say("sent", typeof data === "string" ? data : new TextDecoder().decode(data));
      }
    };
    const watch = (channel) => {
      const opened = () => lab.keep("channel_open");
      if (channel.readyState === "open") opened();
      else channel.addEventListener("open", opened);
      return channel;
    };
    window.RTCPeerConnection = class extends RTCPeerConnection {
      constructor(...args) {
        super(...args);
        this.addEventListener("iceconnectionstatechange", () => {
          if (["connected", "completed"].includes(this.iceConnectionState)) lab.keep("ice_connected");
        });
        this.addEventListener("connectionstatechange", () => {
          if (this.connectionState === "connected") lab.keep("dtls_connected");
        });
        this.addEventListener("datachannel", ({ channel }) => watch(channel));
      }
      createDataChannel(...args) {
        return watch(super.createDataChannel(...args));
      }
    };
    lab.WebTorrent = (await import("/webtorrent.min.js")).default;
    // In memory, as this project's peer keeps what is small: its own default here is a file.
    lab.Store = class {
      #chunks = [];
      constructor(chunkLength) {
        this.chunkLength = chunkLength;
      }
      put(index, chunk, done) {
        this.#chunks[index] = chunk.slice();
        queueMicrotask(() => done?.(null));
      }
      get(index, options, done) {
        if (typeof options === "function") [options, done] = [null, options];
        const chunk = this.#chunks[index];
        const { offset = 0, length = (chunk?.length ?? 0) - offset } = options ?? {};
        queueMicrotask(() => (chunk === undefined ? done(new Error("no chunk")) : done(null, chunk.slice(offset, offset + length))));
      }
      close(done) {
        this.#chunks = [];
        queueMicrotask(() => done?.(null));
      }
      destroy(done) {
        this.close(done);
      }
    };
  },

  /** Seeds one content; ends when the tracker has heard of it, and all of it can be sent. */
  seed({ trackers, stun, bytes, piece, seed }) {
    const { lab } = window;
    lab.keep("started");
    const client = new lab.WebTorrent({ tracker: { rtcConfig: { iceServers: stun === null ? [] : [{ urls: stun }] } } });
    lab.ending = new Promise((resolve) => {
      client.on("error", ({ message }) => resolve({ outcome: "failed", error_code: "local_failure", error: message }));
      const file = new File([lab.bytes(bytes, `${seed}/1`)], "1.bin");
      const torrent = client.seed(file, { announce: trackers, store: lab.Store, ...(piece && { pieceLength: piece }) });
      const [found, whole] = ["trackerAnnounce", "seed"].map((event) => new Promise((heard) => torrent.once(event, heard)));
      Promise.all([found, whole]).then(() => resolve({ outcome: "complete", links: [torrent.magnetURI] }));
    });
  },

  /** Fetches one. */
  get({ trackers, stun, link }) {
    const { lab } = window;
    lab.keep("started");
    const client = new lab.WebTorrent({ tracker: { rtcConfig: { iceServers: stun === null ? [] : [{ urls: stun }] } } });
    lab.ending = new Promise((resolve) => {
      client.on("error", ({ message }) => resolve({ outcome: "failed", error_code: "local_failure", error: message }));
      const torrent = client.add(link, { announce: trackers, store: lab.Store });
      torrent.on("verified", () => lab.keep("first_piece"));
      torrent.on("done", () => {
        lab.keep("complete");
        resolve({ outcome: "complete" });
      });
    });
  },
};

export const kinds = { p2pcdn, webtorrent };
