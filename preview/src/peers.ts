/** The list of peers of a content: the same on both pages. */

import type { PeerStatus } from "../../peer/browser/src/index.ts";
import { make, setText } from "./dom.ts";
import * as format from "./format.ts";

/** Peers that are listed one by one; the count says how many there are. */
const listed = 12;

/** Shows whom the content is exchanged with: what came from each, or went to each. */
export function showPeers(list: HTMLUListElement, peers: readonly PeerStatus[], direction: "received" | "sent"): void {
  const shown = peers.slice(0, listed);
  list.hidden = shown.length === 0;
  while (list.children.length > shown.length) list.lastElementChild?.remove();
  while (list.children.length < shown.length) {
    const item = make("li");
    item.append(make("code"), make("span"));
    list.append(item);
  }
  shown.forEach((peer, index) => {
    const [name, state] = list.children[index]?.children ?? [];
    if (name === undefined || state === undefined) return;
    setText(name, `peer ${peer.id.slice(0, 8)}`);
    const rtt = peer.rtt === undefined ? "" : ` · ${format.duration(peer.rtt)} away`;
    const rate = direction === "received" && peer.rate > 0 ? ` at up to ${format.speed(peer.rate)}` : "";
    setText(state, peer.state === "connecting" ? "connecting" : `${format.bytes(peer[direction])} ${direction}${rate}${rtt}`);
  });
}

/** How many are really connected. */
export function connected(peers: readonly PeerStatus[]): number {
  return peers.filter((peer) => peer.state === "open").length;
}
