import type { Bytes } from "../bytes.ts";
import type { Hash, Info } from "../content.ts";
import type { Bits } from "../wire.ts";
import type { StoreError } from "./error.ts";

/**
 * Where one content is kept: blocks as they come, of which whole pieces are settled once
 * their hashes are known to be right. Its methods may be called together. Lengths are in
 * bytes. check comes first. What goes wrong on the disk rejects with a {@link StoreError}, what
 * cannot be read of a Blob with the browser's own error.
 */
export interface Store {
  /**
   * The pieces that are there already: each is read and hashed, whatever was remembered
   * of it. info is the same content's, and has its piece hashes. An empty set, at once,
   * where nothing was kept before. progress is called with bytes hashed so far, and those
   * to hash in all.
   */
  check(info: Info, progress?: (done: number, total: number) => void): Promise<Bits>;
  /**
   * Writes a block, or any part of a piece that begins at a leaf; resolves to the hashes of
   * its leaves once it is written. data, and the whole ArrayBuffer under it, is the store's
   * own from the call on. Of two calls for one place the later one's data stands. A settled
   * piece is never written again. How much is on the way is the caller's to bound.
   */
  keep(piece: number, begin: number, data: Bytes): Promise<readonly Hash[]>;
  /** The piece is there and right: it may be read, and is remembered for the next visit. */
  settle(piece: number): void;
  /** A part of a settled piece, which must not be changed. */
  read(piece: number, begin: number, length: number): Promise<Bytes>;
  /** The whole content with its media type; every piece must be settled. On the disk where the store is. */
  complete(): Promise<Blob>;
  /**
   * Ends the use of the store: what is under way rejects. Without discard, what is on the disk
   * stays for the next visit. A Blob of complete may become unreadable after discard. Never rejects.
   */
  close(discard: boolean): Promise<void>;
}
