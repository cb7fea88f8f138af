import { type Geometry, type Hash, LeafLength } from "../content.ts";
import type { PeerID } from "../ident.ts";
import type { Block } from "../wire.ts";
import type { Remote } from "./remote.ts";

/** How many peers may be asked for the same leaf at a time. */
const maxAskers = 2;

/** One leaf of a piece. */
export interface Leaf {
  state: "missing" | "arrived" | "kept"; // arrived: the driver is keeping it
  askers: number; // peers that owe it
  sender: PeerID | null; // of what came last
  hash: Hash | null; // once it is kept
}

/** Whether nobody owes the leaf. */
export function unaskedLeaf(leaf: Leaf): boolean {
  return leaf.state === "missing" && leaf.askers === 0;
}

/** The leaves of a block: the first, and one behind the last. */
export function span({ begin, length }: Block): [first: number, end: number] {
  const first = begin / LeafLength;
  return [first, first + Math.max(1, Math.ceil(length / LeafLength))];
}

/** A piece on its way: what is known of each of its leaves. The data is in the store as it comes. */
export class OpenPiece {
  readonly index: number;
  readonly #size: number; // bytes
  leaves: Leaf[];
  unasked!: number; // leaves that have not come and that nobody owes
  missing!: number; // leaves that are not kept
  arrived = 0; // leaves that the driver keeps at the moment
  from: Remote | null = null; // who fetches it in the first place; null: nobody at the moment
  attempt = 0; // how often it was begun anew: what was asked for before does not count
  solo: boolean; // one peer alone must send it, so that it can be blamed
  spoilt = false; // to be begun anew, as soon as nothing of it is being kept
  /**
   * What came in an attempt that failed and to which several peers contributed. The right
   * piece will tell who of them lied.
   */
  evidence: readonly Leaf[] = [];

  constructor(index: number, geometry: Geometry, solo: boolean) {
    this.index = index;
    this.#size = geometry.pieceSize(index);
    this.solo = solo;
    this.leaves = this.#fresh(geometry.leaves(index));
  }

  #fresh(count: number): Leaf[] {
    this.unasked = count;
    this.missing = count;
    return Array.from({ length: count }, () => ({ state: "missing", askers: 0, sender: null, hash: null }));
  }

  leaf(i: number): Leaf {
    return this.leaves[i] as Leaf;
  }

  /** The leaves from first to before end as a block. */
  block(first: number, end: number): Block {
    const begin = first * LeafLength;
    return { piece: this.index, begin, length: Math.min(end * LeafLength, this.#size) - begin };
  }

  /** The first run of leaves that nobody owes, as a block of at most length bytes; null if there is none. */
  next(length: number): Block | null {
    const first = this.leaves.findIndex(unaskedLeaf);
    return first < 0 ? null : this.#run(first, this.leaves.length, length, unaskedLeaf);
  }

  /**
   * The first run of the block's leaves that did not come and that one peer owes alone, as a
   * block of at most length bytes; null if there is none.
   */
  alone(block: Block, length: number): Block | null {
    const fits = (leaf: Leaf): boolean => leaf.state === "missing" && leaf.askers < maxAskers;
    const [begin, end] = span(block);
    let first = begin;
    while (first < end && !fits(this.leaf(first))) first++;
    return first === end ? null : this.#run(first, end, length, fits);
  }

  /** The run of leaves that fit, from first on, as a block of at most length bytes and at least a leaf. */
  #run(first: number, most: number, length: number, fits: (leaf: Leaf) => boolean): Block {
    let end = first + 1;
    while (end < most && (end - first + 1) * LeafLength <= length && fits(this.leaf(end))) end++;
    return this.block(first, end);
  }

  /** Notes that one more peer owes the block. */
  ask(block: Block): void {
    const [first, end] = span(block);
    for (let i = first; i < end; i++) {
      const leaf = this.leaf(i);
      if (unaskedLeaf(leaf)) this.unasked--;
      leaf.askers++;
    }
  }

  /** Notes that one peer less does. */
  unask(block: Block): void {
    const [first, end] = span(block);
    for (let i = first; i < end; i++) {
      const leaf = this.leaf(i);
      leaf.askers--;
      if (unaskedLeaf(leaf)) this.unasked++;
    }
  }

  /** Whether every leaf of the block has come. */
  here(block: Block): boolean {
    const [first, end] = span(block);
    for (let i = first; i < end; i++) if (this.leaf(i).state === "missing") return false;
    return true;
  }

  /** Takes leaves that came: they are with the driver now. */
  arrive(first: number, end: number, sender: PeerID): void {
    for (let i = first; i < end; i++) {
      const leaf = this.leaf(i);
      if (unaskedLeaf(leaf)) this.unasked--;
      leaf.state = "arrived";
      leaf.sender = sender;
    }
    this.arrived += end - first;
  }

  /** Ends the keeping of a leaf. A leaf that is not accepted is missing again. */
  settle(i: number, hash: Hash, accepted: boolean): void {
    const leaf = this.leaf(i);
    if (leaf.state !== "arrived") return;
    this.arrived--;
    if (!accepted) return this.#lose(leaf);
    leaf.state = "kept";
    leaf.hash = hash;
    this.missing--;
  }

  /** Makes a leaf missing that was there. */
  #lose(leaf: Leaf): void {
    if (leaf.state === "kept") this.missing++;
    leaf.state = "missing";
    if (unaskedLeaf(leaf)) this.unasked++;
  }

  /** Loses what a liar sent. */
  renounce(liar: PeerID): void {
    for (const leaf of this.leaves) if (leaf.state === "kept" && leaf.sender === liar) this.#lose(leaf);
  }

  /**
   * Begins the piece anew, from whoever comes; while something of it is being kept, it waits
   * for that, so that writes to the same place keep their order.
   */
  restart(): void {
    this.from = null;
    this.spoilt = this.arrived > 0;
    if (this.spoilt) return;
    this.leaves = this.#fresh(this.leaves.length);
    this.attempt++;
  }

  /** Folds the hashes of the leaves, all of which are kept. */
  root(geometry: Geometry): Hash {
    return geometry.pieceRoot(this.leaves.map((leaf) => leaf.hash as Hash));
  }
}

/** Who sent these leaves, in their order. */
export function senders(leaves: readonly Leaf[]): PeerID[] {
  return [...new Set(leaves.map((leaf) => leaf.sender as PeerID))];
}
