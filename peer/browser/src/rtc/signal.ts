import { utf8Length } from "../bytes.ts";
import { MaxSignalData } from "../mediation.ts";

/** Bounds a candidate's text, in bytes: a host name of 255 and the fixed fields, with room for extensions. */
const maxCandidate = 1024;

/** Bounds an ICE user name fragment (RFC 8839, section 5.4). */
const maxFragment = 256;

/** What one peer says to the other by way of the mediators. */
export type Signal =
  | { readonly type: "offer"; readonly sdp: string }
  /** to: the user name fragment of the offer that it answers, where the peer says so. */
  | { readonly type: "answer"; readonly sdp: string; readonly to?: string }
  /** null: there are no more. */
  | { readonly type: "candidate"; readonly candidate: RTCIceCandidateInit | null };

/** Parses signal_data; null where it is no signal of this project. */
export function parseSignal(text: string): Signal | null {
  if (utf8Length(text) > MaxSignalData) return null;
  let fields: Partial<Record<string, unknown>>;
  try {
    fields = Object(JSON.parse(text)) as typeof fields;
  } catch {
    return null;
  }
  const { type, sdp, to, candidate } = fields;
  if (type === "offer" || type === "answer") {
    if (typeof sdp !== "string" || !sdp.includes("m=application")) return null;
    const known = type === "answer" && typeof to === "string" && to !== "" && to.length <= maxFragment;
    return known ? { type, sdp, to } : { type, sdp };
  }
  return type === "candidate" ? parseCandidate(candidate) : null;
}

function parseCandidate(value: unknown): Signal | null {
  if (value === null) return { type: "candidate", candidate: null };
  if (typeof value !== "object") return null;
  const { candidate, sdpMid, sdpMLineIndex, usernameFragment } = value as Partial<Record<string, unknown>>;
  if (candidate === "") return { type: "candidate", candidate: null }; // older browsers say so that there are no more
  if (typeof candidate !== "string" || utf8Length(candidate) > maxCandidate) return null;
  return {
    type: "candidate",
    candidate: {
      candidate,
      sdpMid: typeof sdpMid === "string" ? sdpMid : null,
      sdpMLineIndex: typeof sdpMLineIndex === "number" ? sdpMLineIndex : null,
      usernameFragment: typeof usernameFragment === "string" ? usernameFragment : null,
    },
  };
}

/** The signal as signal_data. */
export function formatSignal(signal: Signal): string {
  return JSON.stringify(signal);
}

/** The ICE user name fragment of a description, which tells it from others (RFC 8839, section 5.4); "" where there is none. */
export function fragmentOf(sdp: string): string {
  return /^a=ice-ufrag:(\S+)/m.exec(sdp)?.[1] ?? "";
}
