import { sha256 } from "../../vendor/noble-hashes/sha2.js";
import { toHex } from "../bytes.ts";
import { ContentError } from "./error.ts";
import { type FullHash, type Hash, HashSize, LeafLength, shortHash } from "./hash.ts";
import { join } from "./join.ts";

// Limits of what can be named. They bound what a dictionary or a peer can make
// anyone allocate.

/** The largest piece: it must fit in memory to be checked. */
export const MaxPieceLength = 64 << 20;

/** Bounds the piece hashes to 2 MiB and a bitfield to 8 KiB. */
export const MaxPieces = 1 << 16;

/** What MaxPieces pieces of MaxPieceLength hold: 4 TiB. */
export const MaxTotalLength = MaxPieceLength * MaxPieces;

/**
 * The largest number of piece hashes that are asked for, and proven, at a time (a
 * power of two). 256 of them are 8 KiB, which fits any frame.
 */
export const MaxProofHashes = 256;

/**
 * The piece length that is used where none is named: the smallest power of two
 * from 64 KiB that gives at most 1,024 pieces, then, from 16 MiB on, at most
 * MaxPieces. Small pieces arrive and can be passed on early; a thousand of them
 * keep the dictionary of a large file below 80 KiB.
 */
export function DefaultPieceLength(totalLength: number): number {
  let pieceLength = 64 << 10;
  while (pieceLength < 16 << 20 && totalLength > pieceLength * 1024) pieceLength *= 2;
  while (pieceLength < MaxPieceLength && totalLength > pieceLength * MaxPieces) pieceLength *= 2;
  return pieceLength;
}

/** How a total length is cut into pieces and leaves. Lengths are in bytes. */
export class Geometry {
  readonly totalLength: number;
  /** A power of two, at least LeafLength. */
  readonly pieceLength: number;
  /**
   * The number of pieces. The empty content has one piece of no bytes, so that
   * every content has something that can be asked for and checked.
   */
  readonly pieces: number;
  /**
   * The number of piece hashes that a request for hashes covers: the padded layer,
   * or MaxProofHashes where the layer is wider. Requests start at multiples of it.
   */
  readonly proofSpan: number;
  readonly #width: number; // of the padded piece layer
  readonly #height: number; // of the piece layer above the leaves

  constructor(totalLength: number, pieceLength: number) {
    this.totalLength = totalLength;
    this.pieceLength = pieceLength;
    this.pieces = Math.max(1, Math.ceil(totalLength / pieceLength));
    this.#width = ceilPow2(this.pieces);
    this.#height = Math.log2(pieceLength / LeafLength);
    this.proofSpan = Math.min(this.#width, MaxProofHashes);
  }

  /** Throws a ContentError unless the geometry is one that can be named. */
  check(): void {
    const { totalLength, pieceLength } = this;
    if (!Number.isSafeInteger(totalLength) || totalLength < 0 || totalLength > MaxTotalLength) {
      throw new ContentError("bad_total_length", `total_length must be 0 to ${MaxTotalLength}, not ${totalLength}`);
    }
    if (!(pieceLength >= LeafLength && pieceLength <= MaxPieceLength && Number.isInteger(Math.log2(pieceLength)))) {
      throw new ContentError(
        "bad_piece_length",
        `piece_length must be a power of two from ${LeafLength} to ${MaxPieceLength}, not ${pieceLength}`,
      );
    }
    if (this.pieces > MaxPieces) {
      throw new ContentError(
        "too_many_pieces",
        `${totalLength} bytes in pieces of ${pieceLength} are more than ${MaxPieces} pieces`,
      );
    }
  }

  /** Where the piece begins. */
  pieceOffset(piece: number): number {
    return piece * this.pieceLength;
  }

  /** The length of the piece: pieceLength, but for the last. */
  pieceSize(piece: number): number {
    return Math.min(this.pieceLength, this.totalLength - this.pieceOffset(piece));
  }

  /** The number of leaves in the piece, at least one. */
  leaves(piece: number): number {
    return leafCount(this.pieceSize(piece));
  }

  /** Folds the leaves of one piece to its hash: for content of one piece that is the full hash. */
  pieceRoot(leaves: readonly Hash[]): Hash {
    // Content of one piece has its own tree, no higher than it needs to be.
    return root(leaves, 0, this.pieces === 1 ? ceilPow2(leaves.length) : this.pieceLength / LeafLength);
  }

  /** Folds the piece hashes, one a piece, up to the full hash. */
  root(pieceHashes: readonly Hash[]): FullHash {
    return toHex(root(pieceHashes, this.#height, this.#width)) as FullHash;
  }

  /**
   * Checks what Proofs.prove made: that the hashes stand at index in the piece layer of
   * the content with this full hash. A list of another length than the geometry
   * asks for, and any wrong hash, throws a ContentError "bad_proof".
   */
  checkProof(full: FullHash, index: number, hashes: readonly Hash[], proof: readonly Hash[]): void {
    const span = this.proofSpan;
    const count = Math.min(span, this.pieces - index);
    const uncles = Math.log2(this.#width) - Math.log2(span);
    if (index < 0 || index >= this.pieces || index % span !== 0) {
      throw new ContentError("bad_proof", `no span of piece hashes begins at ${index}`);
    }
    if (hashes.length !== count) {
      throw new ContentError("bad_proof", `${hashes.length} piece hashes at ${index} instead of ${count}`);
    }
    if (proof.length !== uncles) {
      throw new ContentError("bad_proof", `a proof of ${proof.length} hashes instead of ${uncles}`);
    }
    let node = root(hashes, this.#height, span);
    let at = index / span;
    for (const uncle of proof) {
      node = at % 2 === 0 ? join(node, uncle) : join(uncle, node);
      at >>= 1;
    }
    if (toHex(node) !== full) {
      throw new ContentError("bad_proof", `the piece hashes from ${index} do not lead to the full hash ${shortHash(full)}`);
    }
  }
}

/**
 * Proves the piece hashes of one content to strangers. It keeps the tree from the spans'
 * roots on, at most 510 hashes, so that a proof is looked up and not computed.
 */
export class Proofs {
  readonly #geometry: Geometry;
  readonly #pieceHashes: readonly Hash[];
  /** The spans' roots and every layer above them but the root, without padding. */
  readonly #layers: (readonly Hash[])[] = [];
  readonly #height: number; // of the first of #layers, above the leaves

  /**
   * Joins the piece hashes, one a piece, once: with 65,536 of them that takes about 50 ms.
   * It keeps pieceHashes, which must not change any more; where they are not one a piece, nothing is proven.
   */
  constructor(geometry: Geometry, pieceHashes: readonly Hash[]) {
    const { pieces, pieceLength, proofSpan: span } = geometry;
    const height = Math.log2(pieceLength / LeafLength);
    this.#geometry = geometry;
    this.#height = height + Math.log2(span);
    this.#pieceHashes = pieceHashes.length === pieces ? pieceHashes : [];
    let layer: Hash[] = [];
    for (let i = 0; i < this.#pieceHashes.length; i += span) {
      layer.push(root(this.#pieceHashes.slice(i, i + span), height, span));
    }
    for (let h = this.#height; layer.length > 1; h++) {
      this.#layers.push(layer);
      layer = joinPairs(layer, h);
    }
  }

  /**
   * The piece hashes from index on (proofSpan of them, fewer at the end of the
   * layer: padding is not carried) and their proof: the uncle hashes from the
   * span's root up to the full hash, lowest first (BEP 52, "hashes"). null where no span begins
   * at index (a multiple of proofSpan within the layer), so that an index from a stranger may be handed in.
   */
  prove(index: number): { hashes: Hash[]; proof: Hash[] } | null {
    const span = this.#geometry.proofSpan;
    const known = Number.isInteger(index) && index >= 0 && index < this.#pieceHashes.length;
    if (!known || index % span !== 0) return null;
    let at = index / span;
    const proof = this.#layers.map((layer, i) => {
      const uncle = layer[at ^ 1] ?? pad(this.#height + i);
      at >>= 1;
      return uncle;
    });
    return { hashes: this.#pieceHashes.slice(index, index + span), proof };
  }
}

function leafCount(length: number): number {
  return Math.max(1, Math.ceil(length / LeafLength));
}

function ceilPow2(n: number): number {
  let power = 1;
  while (power < n && power < MaxPieces) power *= 2; // bounded: a geometry is made before it is checked
  return power;
}

/** SHA-256 without leaving the thread. */
export function sha256Sync(data: Uint8Array): Hash {
  return sha256(data) as Hash;
}

/** padding[h] is the root of a subtree of height h whose leaves are all missing. Static after this. */
const padding: readonly Hash[] = ((): Hash[] => {
  const pads: Hash[] = [new Uint8Array(HashSize)];
  // No tree that can be named is higher: MaxTotalLength has 2^28 leaves.
  for (let h = 0; h < 28; h++) {
    const below = pads[h] as Hash;
    pads.push(join(below, below));
  }
  return pads;
})();

function pad(height: number): Hash {
  return padding[height] as Hash;
}

/** The layer above: each pair joined, the odd one out with padding of that height. */
function joinPairs(layer: readonly Hash[], height: number): Hash[] {
  const above: Hash[] = [];
  for (let i = 0; i < layer.length; i += 2) above.push(join(layer[i] as Hash, layer[i + 1] ?? pad(height)));
  return above;
}

/** Folds nodes of the given height up to one, padding their layer to width (a power of two). */
function root(nodes: readonly Hash[], height: number, width: number): Hash {
  let layer = nodes;
  let h = height;
  for (let w = width; w > 1; w /= 2, h++) layer = joinPairs(layer, h);
  return layer[0] ?? pad(h);
}
