import { CdnError } from "../api.ts";

/** Why a store failed. */
export type StoreReason =
  | "quota" // the browser leaves the site too little room
  | "busy" // other pages hold every copy that there may be
  | "unavailable" // there is no storage on the disk here, or its worker cannot start
  | "lost" // the worker ended unasked
  | "closed" // the store was closed
  | "broken"; // the disk's own failure

/** A CdnError "store_failed" with its reason. Its message is a sentence for people. */
export class StoreError extends CdnError {
  readonly reason: StoreReason;

  constructor(reason: StoreReason, message: string, options?: { cause?: unknown }) {
    super("store_failed", message, options);
    this.reason = reason;
  }
}

/** The failure of a file or a folder in our own terms; what says it in them already stays as it is. */
export function storeError(error: unknown, doing: string): StoreError {
  if (error instanceof StoreError) return error;
  const { name, message } = error as Error;
  if (name === "QuotaExceededError") {
    return new StoreError("quota", `${doing}: the room that the browser leaves this site is used up`, { cause: error });
  }
  // A file that another page writes to.
  if (name === "NoModificationAllowedError") return new StoreError("busy", `${doing}: another page uses it`, { cause: error });
  return new StoreError("broken", `${doing}: ${message}`, { cause: error });
}
