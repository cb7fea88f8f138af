/** Draws the network as an SVG: the mediator, its peers as a crowd around it, and the other mediators further out. */

import { setText } from "./dom.ts";
import * as format from "./format.ts";
import { arrange, crowdRadius, inWords, middleRadius, type Network, type Place, type Point } from "./network.ts";
import { nameOf, type Report } from "./report.ts";

/** Radius of a point of the crowd, in px. */
const pointRadius = 2.2;

/** Sets attributes where they changed. */
function set(node: Element, attributes: Readonly<Record<string, string | number>>): void {
  for (const [name, value] of Object.entries(attributes)) {
    const text = typeof value === "number" ? String(Math.round(value * 10) / 10) : value;
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

function draw<K extends keyof SVGElementTagNameMap>(tag: K, attributes: Readonly<Record<string, string | number>> = {}): SVGElementTagNameMap[K] {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(node, attributes);
  return node;
}

/** Brings the group's children in line with the list; those that are there already stay, and what points at them keeps doing so. */
function fit<T>(group: SVGGElement, list: readonly T[], make: () => SVGElement, update: (node: SVGElement, item: T) => void): void {
  while (group.children.length > list.length) group.lastElementChild?.remove();
  while (group.children.length < list.length) group.append(make());
  list.forEach((item, index) => update(group.children[index] as SVGElement, item));
}

/** The picture in the SVG; it is as wide as the page lets it be. */
export class Picture {
  readonly #svg: SVGSVGElement;
  readonly #rings = draw("g", { class: "rings" });
  readonly #labels = draw("g", { class: "ring-labels" });
  readonly #links = draw("g", { class: "links" });
  readonly #ground = draw("circle", { class: "crowd-ground", r: crowdRadius });
  readonly #crowd = draw("g", { class: "crowd" });
  readonly #middle = draw("image", { href: "/preview/icon.svg", width: 2 * middleRadius, height: 2 * middleRadius });
  readonly #places = draw("g", { class: "places" });
  readonly #changed: (network: Network) => void;
  #report: Report | null = null;
  #drawn: ReadonlySet<string> = new Set();

  /** Tells `changed` of each picture that is drawn, also when only its width changed. */
  constructor(svg: SVGSVGElement, changed: (network: Network) => void) {
    this.#svg = svg;
    this.#changed = changed;
    svg.replaceChildren(this.#rings, this.#links, this.#labels, this.#ground, this.#crowd, this.#middle, this.#places);
    new ResizeObserver(() => this.#draw()).observe(svg);
  }

  show(report: Report): void {
    this.#report = report;
    this.#draw();
  }

  #draw(): void {
    const width = this.#svg.clientWidth;
    if (this.#report === null || width === 0) return;
    const network = arrange(this.#report, width, this.#drawn);
    this.#drawn = new Set(network.places.map(({ neighbour }) => neighbour.id));
    const { middle } = network;
    set(this.#svg, { viewBox: `0 0 ${width} ${network.height}`, height: network.height, "aria-label": inWords(this.#report) });
    set(this.#ground, { cx: middle.x, cy: middle.y });
    set(this.#middle, { x: middle.x - middleRadius, y: middle.y - middleRadius });
    fit(this.#crowd, network.crowd, () => draw("circle", { r: pointRadius }), (node, { x, y }) => set(node, { cx: x, cy: y }));
    fit(this.#rings, network.rings, () => draw("ellipse"), (node, { rx, ry }) => set(node, { cx: middle.x, cy: middle.y, rx, ry }));
    fit(this.#labels, network.rings, () => draw("text"), (node, { roundTrip, ry }) => {
      set(node, { x: middle.x, y: middle.y - ry });
      setText(node, format.duration(roundTrip));
    });
    fit(this.#links, network.places, () => draw("line"), (node, place) => drawLink(node, middle, place));
    fit(this.#places, network.places, makePlace, drawPlace);
    [...this.#places.children].forEach((place, index) => setText(place.children[1] as Element, String(index + 1)));
    this.#changed(network);
  }
}

function drawLink(node: SVGElement, middle: Point, { x, y, neighbour }: Place): void {
  set(node, { x1: middle.x, y1: middle.y, x2: x, y2: y, class: neighbour.roundTrip === null ? "guess" : "" });
}

/** A disc with its number, and what a mouse that rests on it is told. */
function makePlace(): SVGGElement {
  const group = draw("g");
  group.append(draw("circle"), draw("text"), draw("title"));
  return group;
}

function drawPlace(node: SVGElement, { x, y, radius, neighbour }: Place): void {
  const [disc, number, title] = node.children;
  if (disc === undefined || number === undefined || title === undefined) return;
  set(disc, { cx: x, cy: y, r: radius });
  set(number, { x, y });
  const away = neighbour.roundTrip === null ? "" : `, ${format.duration(neighbour.roundTrip)} away`;
  setText(title, `${nameOf(neighbour)}: ${format.counted(neighbour.peers, "person", "people")}${away}`);
}
