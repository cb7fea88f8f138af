import assert from "node:assert/strict";
import { test } from "node:test";
import { Roster } from "../src/signaling/roster.ts";
import { seeded } from "./world.ts";

/** The URLs of so many mediators. */
function names(what: string, n: number): string[] {
  return Array.from({ length: n }, (_, i) => `ws://${what}${i}.example/mediation`);
}

/** A roster of a page that named these, of which the first is the present one. */
function rosterOf(urls: readonly string[], seed = 1): Roster {
  const roster = new Roster(seeded(seed), false);
  for (const url of urls) roster.add(url);
  roster.next();
  return roster;
}

/** Moves on, and says whom to. */
function tried(roster: Roster): string {
  roster.next();
  return roster.present as string;
}

/** Everybody whom a whole round tries, after what is left of the present one. */
function round(roster: Roster): string[] {
  while (roster.next() === 0);
  const urls = [roster.present as string];
  while (roster.next() === 0) urls.push(roster.present as string);
  return urls;
}

test("those of the page come first, then the newest", () => {
  const own = names("own", 2);
  const [older, newer] = [names("older", 3), names("newer", 3)];
  const roster = rosterOf([...own, own[0] as string]);
  roster.learn([...older, ...own]);
  roster.learn(newer);
  const order = round(roster);
  assert.deepEqual(order.slice(0, 2), own);
  assert.deepEqual(order.slice(2, 5).sort(), newer);
  assert.deepEqual(order.slice(5).sort(), older);
  roster.add(older[1] as string); // the page names it, too
  assert.deepEqual(round(roster).slice(0, 3).sort(), [...own, older[1]].sort());
});

test("the list is bounded, and keeps those of the page and the newest", () => {
  const own = names("own", 3);
  const roster = rosterOf(own);
  let last: string[] = [];
  for (let i = 0; i < 10; i++) roster.learn((last = names(`list${i}-`, 16)));
  const known = round(roster);
  assert.equal(known.length, 32);
  for (const url of [...own, ...last]) assert.ok(known.includes(url), `${url} was forgotten`);
  for (const url of names("more", 40)) roster.add(url);
  assert.deepEqual(round(roster).sort(), [...own, ...names("more", 29)].sort());
  roster.learn(last);
  assert.equal(round(roster).length, 32);
});

test("the one that is connected is not forgotten for those that it names", () => {
  const roster = rosterOf(names("own", 1));
  roster.learn(names("old", 1));
  const present = tried(roster);
  for (let i = 0; i < 4; i++) roster.learn(names(`list${i}-`, 16));
  assert.ok(round(roster).includes(present));
});

test("who fails again and again while others are found is forgotten, unless the page named it", () => {
  const [own, [dead, good]] = [names("own", 1), names("learnt", 2)];
  const roster = rosterOf(own);
  roster.learn([dead as string, good as string]);
  roster.lasted();
  for (let search = 0; search < 3; search++) {
    const met: string[] = [];
    for (let url = tried(roster); url !== good || !met.includes(dead as string); url = tried(roster)) met.push(url);
    roster.lasted();
  }
  assert.deepEqual(round(roster), [...own, good]);
});

test("nobody is forgotten while nobody answers", () => {
  const roster = rosterOf(names("own", 1));
  roster.learn(names("learnt", 5));
  for (let i = 0; i < 1000; i++) roster.next();
  roster.lasted();
  assert.equal(roster.next(), 0);
  assert.equal(round(roster).length, 6);
});

test("a round ends whatever is named meanwhile", () => {
  const roster = rosterOf(names("own", 1));
  let ended = 0;
  for (let i = 0; i < 320; i++) {
    roster.learn(names(`trap${i}-`, 16));
    ended = Math.max(ended, roster.next());
  }
  assert.ok(ended >= 9, `${ended} rounds ended`);
});
