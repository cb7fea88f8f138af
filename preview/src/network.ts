/** Where everything stands in the picture of a mediator and those around it. */

import * as format from "./format.ts";
import type { Neighbour, Report } from "./report.ts";

/** A place in the picture, in CSS pixels from its upper left corner. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/** A mediator in the picture: the longer the round trip, the further out; the more peers, the larger. */
export interface Place extends Point {
  readonly radius: number;
  readonly neighbour: Neighbour;
}

/** An ellipse around the middle on which the mediators with that round trip stand. */
export interface Ring {
  /** In ms. */
  readonly roundTrip: number;
  readonly rx: number;
  readonly ry: number;
}

/** A picture. */
export interface Network {
  readonly width: number;
  readonly height: number;
  readonly middle: Point;
  /** The peers of the mediator in the middle. */
  readonly crowd: readonly Point[];
  /** Peers that a point of the crowd stands for. */
  readonly each: number;
  readonly rings: readonly Ring[];
  readonly places: readonly Place[];
  /** Mediators that are known and not in the picture. */
  readonly more: number;
}

/** Mediators in a picture: more cannot be told apart. */
const maxPlaces = 24;

/** Points of the crowd: more are a blot. */
const maxCrowd = 100;

/** Radius of what stands for the mediator in the middle, in px. */
export const middleRadius = 16;

/** Radius of the crowd, the mediator in its middle included, in px. */
export const crowdRadius = 64;

/** Between neighbouring points of the crowd, in px, roughly. */
const crowdGap = 5.4;

/** The angle at which seeds of a sunflower follow each other: they fill a disc evenly, however many they are. */
const goldenAngle = Math.PI * (3 - Math.sqrt(5));

/** Radius of the innermost ring, in px, where there is room: the crowd and the largest mediator fit in. */
const innerRadius = 92;

/** From the outermost ring to the edge, in px: half of the largest mediator, and its line. */
const margin = 16;

/** Radii of a mediator without peers, and with maxPeers or more, in px. */
const [smallest, largest] = [9, 14] as const;
const maxPeers = 1000;

/** Room that a mediator needs on a ring, in px: two digits must be legible in it. */
const placeGap = 21;

/** The part of a turn at the top that stays free, for what is written on the rings. */
const freeTurn = 1 / 12;

/** Round trips at the innermost and the outermost ring, in ms: next door, and the other side of the world. */
const [nearest, furthest] = [1, 500] as const;

/** Round trips of the rings that are drawn, in ms. */
const rings = [10, 100] as const;

/** The height of a picture of other mediators with that width, in px: flat where there is room, square on a narrow page. */
export function heightOf(width: number): number {
  return Math.round(Math.min(360, Math.max(0.58 * width, Math.min(width, 300))));
}

/**
 * Arranges the picture. Mediators that were drawn before stay as long as they are
 * known, and all stand in the order of their ids, so that nothing jumps about;
 * `drawn` holds the ids of the picture before.
 */
export function arrange(report: Report, width: number, drawn: ReadonlySet<string>): Network {
  const height = report.neighbours.length === 0 ? 2 * (crowdRadius + margin) : heightOf(width);
  const middle = { x: width / 2, y: height / 2 };
  const inner = Math.max(crowdRadius + largest, Math.min(innerRadius, 0.3 * height));
  /** Semi-axes of the ring with that round trip. */
  const ring = (roundTrip: number): { rx: number; ry: number } => {
    const out = outwards(roundTrip);
    return { rx: inner + out * (middle.x - margin - inner), ry: inner + out * (middle.y - margin - inner) };
  };

  const turn = 2 * Math.PI * (1 - freeTurn);
  const room = Math.min(maxPlaces, Math.max(1, Math.floor((turn * inner) / placeGap)));
  const chosen = choose(report.neighbours, room, drawn);
  const step = turn / Math.max(1, chosen.length);
  const places = chosen.map((neighbour, index): Place => {
    const angle = -Math.PI / 2 + Math.PI * freeTurn + (index + 0.5) * step;
    const { rx, ry } = ring(neighbour.roundTrip ?? furthest);
    // So that none overlap on the innermost ring, where they stand closest.
    const radius = Math.min(radiusOf(neighbour.peers), (step * inner) / 2 - 1);
    return { x: middle.x + rx * Math.cos(angle), y: middle.y + ry * Math.sin(angle), radius, neighbour };
  });

  const { points, each } = crowd(report.peers, middle);
  return {
    width, height, middle, each, places,
    crowd: points,
    rings: places.length === 0 ? [] : rings.map((roundTrip) => ({ roundTrip, ...ring(roundTrip) })),
    more: Math.max(0, report.known - places.length),
  };
}

/** How far out, from 0 to 1: on a logarithmic scale, for one mediator is next door, and the other behind an ocean. */
function outwards(roundTrip: number): number {
  const within = Math.min(furthest, Math.max(nearest, roundTrip));
  return Math.log(within / nearest) / Math.log(furthest / nearest);
}

/** On a logarithmic scale too. */
function radiusOf(peers: number): number {
  return smallest + (largest - smallest) * Math.min(1, Math.log1p(peers) / Math.log1p(maxPeers));
}

/** Those that were drawn before, and then the nearest, as many as there is room for; in the order of their ids. */
export function choose(neighbours: readonly Neighbour[], room: number, drawn: ReadonlySet<string>): Neighbour[] {
  const rank = ({ id }: Neighbour): number => (drawn.has(id) ? 0 : 1);
  const away = ({ roundTrip }: Neighbour): number => roundTrip ?? Number.MAX_VALUE;
  const byID = (a: Neighbour, b: Neighbour): number => (a.id < b.id ? -1 : 1);
  return [...neighbours].sort((a, b) => rank(a) - rank(b) || away(a) - away(b) || byID(a, b)).slice(0, room).sort(byID);
}

/** The points of a crowd around the middle, and how many peers each stands for: 1, 2, 5, 10, 20, … */
export function crowd(peers: number, middle: Point): { readonly points: readonly Point[]; readonly each: number } {
  let each = 1;
  for (let factor = 0; peers / each > maxCrowd; factor++) each = ([1, 2, 5][factor % 3] ?? 1) * 10 ** Math.floor(factor / 3);
  const first = ((middleRadius + 8) / crowdGap) ** 2; // the seeds that what stands in the middle covers
  const points = Array.from({ length: Math.ceil(peers / each) }, (_, seed) => {
    const radius = crowdGap * Math.sqrt(first + seed);
    return { x: middle.x + radius * Math.cos(seed * goldenAngle), y: middle.y + radius * Math.sin(seed * goldenAngle) };
  });
  return { points, each };
}

/** The picture in words. */
export function inWords(report: Report): string {
  const people = report.peers === 0 ? "Nobody is" : format.counted(report.peers, "person is", "people are");
  const here = `${people} connected to this mediator.`;
  if (report.known === 0) return `${here} It knows no other mediator yet.`;
  const others = `It knows ${format.counted(report.known, "other mediator", "other mediators")}`;
  if (report.neighbours.length === 0) return `${here} ${others}, and has not heard from ${report.known === 1 ? "it" : "them"} yet.`;
  const there = report.neighbours.reduce((sum, { peers }) => sum + peers, 0);
  const where = report.neighbours.length < report.known ? `at the ${format.count(report.neighbours.length)} that it has heard from` : "there";
  return `${here} ${others}, with ${there === 0 ? "nobody" : format.counted(Math.min(there, Number.MAX_SAFE_INTEGER), "person", "people")} ${where}.`;
}
