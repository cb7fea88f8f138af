import { Reason, blockLength } from "../wire.ts";
import type { Core } from "./core.ts";
import { forgive } from "./fill.ts";
import { giveUpSpan } from "./hashes.ts";
import type { Remote } from "./remote.ts";

/** Does what the time brings. */
export function tick(core: Core, now: number): void {
  for (const r of [...core.peers.values()]) {
    if (now >= r.noHashes) r.noHashes = 0;
    if (r.pardon !== 0 && now >= r.pardon) {
      forgive(core, r);
      core.partIfDone(r);
    }
    if (core.peers.get(r.id) !== r) continue;
    const stalls = r.stalls;
    if (stalls !== null && now >= stalls) r.stalled = true;
    const ends = deadline(core, r);
    if (ends === null || now < ends) continue;
    if (r.has === null || r.presumed) core.leave(r, Reason.Finished, false); // it never said what it has
    else if (r.span !== null) giveUpSpan(core, r, r.span, now);
    else hush(core, r);
  }
  if (now >= core.thirsty) core.thirsty = 0;
}

/** When tick is to be called; null if nothing is waited for. It changes with every event. */
export function nextTick(core: Core): number | null {
  let next = Number.POSITIVE_INFINITY;
  for (const r of core.peers.values()) {
    next = Math.min(next, deadline(core, r) ?? next, r.stalls ?? next);
    if (core.spans.length > 0 && r.noHashes !== 0 && r.span === null) next = Math.min(next, r.noHashes);
    if (r.pardon !== 0) next = Math.min(next, r.pardon);
  }
  if (core.thirsty !== 0 && !core.complete) next = Math.min(next, core.thirsty);
  return next === Number.POSITIVE_INFINITY ? null : next;
}

/** When our patience with the peer ends; null if it owes nothing. */
function deadline(core: Core, r: Remote): number | null {
  if (r.waits === 0 && r.span === null && r.has !== null && !r.presumed) return null;
  return r.heard + r.pace.patience(blockLength(r.maxFrame), core.patience);
}

/** Cancels what a silent peer owes, so that others can be asked for it. */
function hush(core: Core, r: Remote): void {
  r.silent = true;
  for (const asked of r.asked) if (!asked.cancelled) core.cancel(r, asked);
  core.orphan(r);
}
