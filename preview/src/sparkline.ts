/** A small curve of the last minutes, without axes: the shape and the highest point say enough. */

import { type Sample, type Series, span, together } from "./history.ts";

/** Width and height of a curve's own units; the page stretches it. */
export const box = { width: 300, height: 40 } as const;

/** A curve as paths of an SVG. */
export interface Curve {
  readonly line: string;
  /** What lies below the line. */
  readonly area: string;
  /** The highest value. */
  readonly top: number;
}

/** Draws from the past, at the left, to now. Where nothing is known, the line is broken. */
export function curve(samples: readonly Sample[], series: Series, now: number): Curve {
  const runs: { x: number; value: number }[][] = [];
  let before: Sample | undefined;
  for (const sample of samples) {
    const value = sample[series];
    if (value === null || now - sample.at > span) {
      before = undefined;
      continue;
    }
    const point = { x: box.width * (1 - (now - sample.at) / span), value };
    if (before !== undefined && sample.at - before.at <= together) runs.at(-1)?.push(point);
    else runs.push([point]);
    before = sample;
  }
  const top = runs.flat().reduce((most, { value }) => Math.max(most, value), 0);
  // A pixel above and below for the width of the line; where all is 0, it lies at the bottom.
  const y = (value: number): number => box.height - 1 - (value / (top === 0 ? 1 : top)) * (box.height - 2);
  let line = "";
  let area = "";
  for (const run of runs) {
    const [first, last] = [run[0], run.at(-1)];
    if (first === undefined || last === undefined) continue;
    const path = run.map(({ x, value }) => `${short(x)} ${short(y(value))}`).join("L");
    line += `M${path}${run.length === 1 ? "h1" : ""}`; // a line of one point would not be seen
    area += `M${short(first.x)} ${box.height}L${path}V${box.height}Z`;
  }
  return { line, area, top };
}

function short(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** The curve of an SVG that has a path of the class "area" and one of the class "line". */
export class Sparkline {
  readonly #line: SVGPathElement;
  readonly #area: SVGPathElement;

  constructor(svg: SVGSVGElement) {
    svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    const [area, line] = svg.querySelectorAll("path");
    if (area === undefined || line === undefined) throw new Error("this curve has no paths");
    this.#area = area;
    this.#line = line;
  }

  show({ line, area }: Curve): void {
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", area);
  }
}
