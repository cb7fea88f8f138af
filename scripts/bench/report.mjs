// From the samples of a row to its figures, and to the table that people read.

/** The middle one, or the mean of the two in the middle. */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * The figures of a row. A sample is { ours, yardstick?, details? }; a yardstick is a number,
 * or several by name, of which the one counts that is best over all rounds. The ratio is
 * that of each round, and of these the median: what disturbs a round disturbs both.
 */
export function summarize(row, samples, error) {
  const result = { ...row, yardstick: null, against: row.yardstick, ours: null, ratio: null, reached: null, error, samples };
  if (samples.length === 0) return result;
  const all = (numbers) => (row.of === "max" ? Math.max(...numbers) : median(numbers));
  result.ours = all(samples.map(({ ours }) => ours));
  if (row.yardstick !== null) {
    const name = best(row, samples);
    const yards = samples.map(({ yardstick }) => (name === null ? yardstick : yardstick[name]));
    if (name !== null) result.against = `${row.yardstick}, ${name}`;
    result.yardstick = median(yards);
    result.ratio = median(samples.map(({ ours }, i) => ours / yards[i]));
  }
  result.reached = reached(row, row.judged === "ratio" ? result.ratio : result.ours);
  return result;
}

/** The name of the yardstick that is hardest to beat; null where there is only one. */
function best({ better }, samples) {
  if (typeof samples[0].yardstick === "number") return null;
  const value = (name) => median(samples.map(({ yardstick }) => yardstick[name])) * (better === "higher" ? 1 : -1);
  return Object.keys(samples[0].yardstick).reduce((a, b) => (value(b) > value(a) ? b : a));
}

function reached({ better, must, moonshot }, figure) {
  const beats = (bound) => bound !== null && (better === "higher" ? figure >= bound : figure <= bound);
  return must === null ? null : beats(moonshot) ? "moonshot" : beats(must) ? "yes" : "no";
}

/** The table, for people. Failures follow it, since they are long. */
export function table(rows) {
  const sign = ({ better }) => (better === "higher" ? "≥" : "≤");
  const unit = ({ judged, unit }) => (judged === "ours" ? ` ${unit}` : "");
  const bound = (row, value) => (value === null ? "–" : `${sign(row)} ${value}${unit(row)}`);
  const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));
  const lines = [
    ["name", "what", "ours", "yardstick", "ratio", "must reach", "moonshot", "reached"],
    ...rows.map((row) => [
      row.name, row.what,
      row.ours === null ? "–" : `${number(row.ours, 1)} ${row.unit}`,
      row.yardstick === null ? "–" : `${number(row.yardstick, 1)} ${row.unit} (${row.against})`,
      number(row.ratio, 3), bound(row, row.must), bound(row, row.moonshot),
      row.error !== null ? "FAILED" : (row.reached ?? "–"),
    ]),
  ];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  const text = lines.map((line) => line.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd());
  text.splice(1, 0, widths.map((width) => "-".repeat(width)).join("  "));
  const failures = rows.filter(({ error }) => error !== null).map(({ name, error }) => `\n${name} failed: ${error}`);
  return `${[...text, ...failures].join("\n")}\n`;
}
