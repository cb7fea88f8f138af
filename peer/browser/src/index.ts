/** The browser peer: the functions for a page (global `cdn` in the classic script), and the classes underneath. */

import { pageSite } from "./cdn.ts";
import { pageStreaming } from "./streaming.ts";

export const {
  initialize,
  seedFile,
  includeImages,
  includeDownloads,
  onFileDownloaded,
  overrideICECandidates,
} = pageSite();

export const { registerStreaming, streamURL } = pageStreaming();

export {
  CdnError,
  type ClientErrorCode,
  type ClientEvents,
  type ClientOptions,
  type Content,
  type ContentEvents,
  type Off,
  type PeerStatus,
  type Phase,
  type Progress,
  type SeedOptions,
  type State,
  type Timeline,
} from "./api.ts";
export { Client, type ClientSeams, type TableOptions, browserSeams, defaultMediators } from "./client.ts";
export { ContentError, type ContentCode, type InfoDictionary } from "./content.ts";
export type { MediatorState } from "./signaling.ts";
export type { Streamable } from "./streaming.ts";
export { type Endpoint, endpointOf } from "./timeline.ts";
