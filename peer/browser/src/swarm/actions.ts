import type { Bytes } from "../bytes.ts";
import type { Info } from "../content.ts";
import type { PeerID } from "../ident.ts";
import type { Block, Frame } from "../wire.ts";

/** Something that the driver must do. They are to be carried out in order. */
export type Action =
  /** Sends a frame to a peer. */
  | { readonly type: "send"; readonly peer: PeerID; readonly frame: Frame }
  /** Answers a peer's request: the driver reads the block and sends it as piece, or reject if it cannot. */
  | { readonly type: "load"; readonly peer: PeerID; readonly number: number; readonly block: Block }
  /** Takes a load back, if it is not done yet; the driver then sends reject. */
  | { readonly type: "unload"; readonly peer: PeerID; readonly number: number; readonly block: Block }
  /**
   * Asks the driver to write a block to its place in the store, not verified yet, and to
   * answer with kept and the hashes of its leaves. The block begins and ends on the border
   * of a leaf, or at the piece's end. data, and the whole ArrayBuffer under it, belongs to the
   * driver. Blocks that are being kept at the same time never overlap.
   */
  | { readonly type: "keep"; readonly block: Block; readonly data: Bytes }
  /**
   * Asks the driver which pieces the store holds already, of an earlier attempt, and to
   * answer with checked. It comes where SwarmConfig.check is set, once the piece hashes are
   * known, which info has. Nothing is fetched before the answer.
   */
  | { readonly type: "check"; readonly info: Info }
  /** Says that a piece is in the store and right: it may be read from now on. */
  | { readonly type: "verified"; readonly piece: number }
  /**
   * Ends this content with the peer: goodbye was said. The peer stays connected for
   * other contents. Where banned is set the driver must not connect it to this content again.
   */
  | { readonly type: "drop"; readonly peer: PeerID; readonly reason: number; readonly banned: boolean }
  /** Ends the whole connection with the peer, which broke the protocol. */
  | { readonly type: "break"; readonly peer: PeerID; readonly why: string }
  /** Says that the piece hashes are now known: info is complete. */
  | { readonly type: "described"; readonly info: Info }
  /** Says that every piece is verified. It comes once. */
  | { readonly type: "complete" };
