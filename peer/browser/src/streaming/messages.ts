/**
 * What a page and the service worker say to each other. For each request the worker opens a
 * MessageChannel to the page that has the content, and pulls: one message, one answer.
 *
 *     worker → page   open (with a port)         page → worker   head | unknown
 *     worker → page   read
 *     worker → page   pull                       page → worker   chunk | end | failed
 *     worker → page   cancel
 *
 * A page may also say "failed" unasked, when it goes.
 */

import type { Bytes } from "../bytes.ts";

/** Under the worker's scope: `p2pcdn/<full hash>/<file name>`. */
export const folder = "p2pcdn/";

/** To the worker itself. It takes the page under its control, and answers with "worker". */
export interface Hello {
  readonly p2pcdn: "hello";
}

/** To a page. worker is another one each time that the browser starts the worker: what an earlier one pulled, nobody reads any more. */
export type ToPage =
  | { readonly p2pcdn: "worker"; readonly worker: string }
  // own: the request is the page's own, and ends with it.
  | { readonly p2pcdn: "open"; readonly worker: string; readonly hash: string; readonly own: boolean };

/** To the page's end of the channel. */
export type ToSource =
  | { readonly type: "read"; readonly begin: number; readonly end: number }
  | { readonly type: "pull" }
  | { readonly type: "cancel" };

/** To the worker's end of the channel. */
export type ToWorker =
  | { readonly type: "head"; readonly length: number; readonly mediaType: string }
  | { readonly type: "unknown" }
  | { readonly type: "chunk"; readonly data: Bytes }
  | { readonly type: "end" }
  | { readonly type: "failed"; readonly message: string };
