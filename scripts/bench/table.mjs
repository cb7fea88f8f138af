// What is measured, and what it must reach: the table of the benchmark.
//
// A measurement is a file of rows/ that exports round(bench), and fills one row or more.
// A round measures the yardstick and ours once, in turn, and has so many seconds.
//
// Of a row:
//   judged    what must reach the bounds: the "ratio" of ours to the yardstick, or "ours"
//   better    "higher" or "lower"
//   must, moonshot   the bounds; null where there is none
//   of        how the rounds become one figure: "median", or "max" for memory

const speed = { unit: "MB/s", judged: "ratio", better: "higher", of: "median" };
const cost = { judged: "ratio", better: "lower", of: "median" };
const memory = { unit: "MiB", yardstick: null, judged: "ours", better: "lower", of: "max" };

export const measurements = [
  {
    name: "go-go", seconds: 300,
    rows: [
      { name: "go-go", what: "Go → Go, 1 GiB", yardstick: "raw pion channel", must: 0.9, moonshot: 0.97, ...speed },
      { name: "rss-go", what: "resident memory of a Go peer, 1 GiB", must: 80, moonshot: 48, ...memory },
    ],
  },
  {
    name: "chromium-chromium", seconds: 300,
    rows: [
      { name: "chromium-chromium", what: "Chromium → Chromium, 100 MiB", yardstick: "raw RTCDataChannel", must: 0.85, moonshot: 0.95, ...speed },
      { name: "webtorrent", what: "the same, against WebTorrent", yardstick: "WebTorrent", must: null, moonshot: null, ...speed },
    ],
  },
  {
    name: "go-chromium", seconds: 240,
    rows: [{ name: "go-chromium", what: "Go → Chromium, 100 MiB", yardstick: "raw pion → RTCDataChannel", must: 0.85, moonshot: 0.95, ...speed }],
  },
  {
    name: "chromium-go", seconds: 240,
    rows: [{ name: "chromium-go", what: "Chromium → Go, 100 MiB", yardstick: "raw RTCDataChannel → pion", must: 0.85, moonshot: 0.95, ...speed }],
  },
  {
    name: "four-seeders", seconds: 120,
    rows: [{ name: "four-seeders", what: "4 seeders at 2 MB/s → 1 leecher", yardstick: "their caps", must: 0.9, moonshot: 0.97, ...speed }],
  },
  {
    name: "flash-crowd", seconds: 120,
    rows: [{
      name: "flash-crowd", what: "1 seeder, 8 leechers at 4 MB/s, 16 MiB", yardstick: "fluid bound",
      unit: "s", judged: "ratio", better: "lower", of: "median", must: 1.5, moonshot: 1.2,
    }],
  },
  {
    name: "heap", seconds: 300,
    rows: [{ name: "heap", what: "JS heap of a page that downloads 1 GiB", must: 150, moonshot: 80, ...memory }],
  },
  {
    name: "rendezvous", seconds: 300,
    rows: [
      { name: "introduction", what: "server's CPU per introduction, 50 pairs", yardstick: "bittorrent-tracker", must: 0.7, moonshot: 0.4, ...cost, unit: "µs" },
      { name: "introduction-across", what: "the same across two mediators", yardstick: "bittorrent-tracker", must: 1.5, moonshot: 1, ...cost, unit: "µs" },
      { name: "introduction-p99", what: "p99 of an introduction, 200 pairs", yardstick: "bittorrent-tracker", must: 1, moonshot: 0.5, ...cost, unit: "ms" },
      { name: "idle-peer", what: "resident memory per idle peer", must: 14, moonshot: 6.9, ...memory, unit: "KiB" },
      { name: "idle-goroutines", what: "goroutines per idle peer", must: 2, moonshot: 1, ...memory, unit: "" },
    ],
  },
  {
    name: "hashing", seconds: 180,
    rows: [
      { name: "hashing-go", what: "hashing for seeding, Go", yardstick: "cores × crypto/sha256", must: 0.85, moonshot: 0.95, ...speed },
      { name: "hashing-browser", what: "hashing for seeding, Chromium", yardstick: "WebCrypto, 16 KiB leaves", must: 0.85, moonshot: 0.95, ...speed },
    ],
  },
];
