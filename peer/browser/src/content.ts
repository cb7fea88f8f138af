/**
 * Names content and checks it, as Go's common/content, whose comment is the
 * specification: the full hash, the Merkle tree behind it, the info dictionary that
 * describes a file, and the link that people pass around.
 *
 * A full hash is safe only together with the total length, which must come from
 * where the full hash came from, never from a peer.
 */

export { ContentError, type ContentCode } from "./content/error.ts";
export {
  type FullHash,
  type Hash,
  HashSize,
  joinHashes,
  LeafLength,
  parseFullHash,
  shortHash,
  splitHashes,
} from "./content/hash.ts";
export {
  DefaultPieceLength,
  Geometry,
  MaxPieceLength,
  MaxPieces,
  MaxProofHashes,
  MaxTotalLength,
  Proofs,
} from "./content/tree.ts";
export { type HashOptions, hashLeaves, hashPiece } from "./content/part.ts";
export { type Summary, type SumOptions, sum } from "./content/sum.ts";
export { Crew, type CrewSeams, type HashWorker, pageCrew } from "./content/crew.ts";
export {
  type Info,
  type InfoDictionary,
  MaxDictionarySize,
  encodeInfo,
  geometryOf,
  hasPieceHashes,
  isMediaType,
  parseInfo,
  pieceHash,
  toDictionary,
  validateInfo,
} from "./content/info.ts";
export {
  type Link,
  Scheme,
  checkMediatorURL,
  formatLink,
  infoOfLink,
  linkFragment,
  linkTo,
  parseLink,
} from "./content/link.ts";
