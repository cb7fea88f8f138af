import type { Bytes } from "../bytes.ts";
import { type Hash, joinHashes } from "./hash.ts";
import { readLeaves } from "./part.ts";
import { Geometry } from "./tree.ts";

/** What a worker is asked: to hash the leaves of some pieces, as Part has them. It is asked again only when it has answered. */
export interface Request {
  readonly totalLength: number;
  readonly pieceLength: number;
  readonly first: number;
  readonly end: number;
  readonly blob: Blob;
}

/**
 * What a worker says: first of all that it runs; then to each request any number of "progress", and
 * "done" or "failed". Page and worker come in one bundle, so that nothing is checked.
 */
export type Reply =
  | { readonly type: "ready" }
  /** Bytes of the request hashed so far. */
  | { readonly type: "progress"; readonly hashed: number }
  /**
   * The leaves one after the other, 128 KiB for 64 MiB. The page folds them: its compilers know that code, and
   * in four workers it costs a tenth of the whole time.
   */
  | { readonly type: "done"; readonly leaves: Bytes }
  /** Not why: the page tries by itself then, and sees what the Blob throws. */
  | { readonly type: "failed" };

/** The worker's side of the line to the page: its global scope. */
export interface Port {
  postMessage(message: Reply): void;
  onmessage: ((event: { readonly data: Request }) => void) | null;
}

/** Hashes what the page asks for, until the worker is ended. */
export function serve(port: Port): void {
  port.onmessage = async ({ data: { totalLength, pieceLength, ...part } }) => {
    try {
      const geometry = new Geometry(totalLength, pieceLength);
      const progress = (hashed: number): void => port.postMessage({ type: "progress", hashed });
      const leaves: Hash[] = [];
      await readLeaves({ geometry, ...part }, { progress }, (more) => leaves.push(...more));
      port.postMessage({ type: "done", leaves: joinHashes(leaves) });
    } catch {
      port.postMessage({ type: "failed" });
    }
  };
  port.postMessage({ type: "ready" });
}
