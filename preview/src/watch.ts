/** A film or a sound that plays while it is downloaded, with a line that says what is happening. */

import type { State } from "../../peer/browser/src/index.ts";
import { make, setText } from "./dom.ts";

/** What the line depends on. */
export interface Moment {
  readonly kind: "video" | "audio";
  readonly state: State;
  /** The browser knows how long it is. */
  readonly known: boolean;
  /** It is to play, or a place was chosen, and what is needed has not come. */
  readonly waiting: boolean;
}

/** The line under the player. */
export function caption({ kind, state, known, waiting }: Moment): string {
  const watch = kind === "video" ? "watch" : "listen";
  if (state === "complete") return "All of it is here.";
  if (waiting && known) {
    return state === "downloading" ? "Waiting for this part: it is fetched before all others." : "Waiting for somebody who has this part.";
  }
  if (!known) return `You can ${watch} while it downloads, as soon as the beginning is here.`;
  return `You can ${watch} while it downloads, and jump to any place: it is fetched first.`;
}

/** Why the content plays only when it is complete; reason is that of the browser peer. */
export function playsLater(kind: "video" | "audio", secure: boolean, reason: string): string {
  const watch = kind === "video" ? "watch" : "listen";
  if (secure) return `You can ${watch} when all of it is here (${reason}).`;
  return `You can ${watch} when all of it is here: this page came over plain http, and browsers stream only where the address begins with https.`;
}

/** The player and its line. */
export class Watch {
  readonly node = make("figure");
  readonly #kind: "video" | "audio";
  readonly #media: HTMLMediaElement;
  readonly #line = make("figcaption");
  #state: State = "searching";
  #waiting = false;

  /** `failed` hears that it cannot be played, and is not called after clear. */
  constructor(kind: "video" | "audio", url: string, name: string, failed: () => void) {
    this.#kind = kind;
    this.#media = make(kind);
    this.#media.controls = true;
    this.#media.preload = "metadata"; // more of it is fetched ahead of the rest only for who wants to see it
    this.#media.setAttribute("aria-label", name === "" ? "What is fetched" : name);
    const waits = (waiting: boolean) => (): void => {
      this.#waiting = waiting;
      this.#show();
    };
    for (const event of ["waiting", "seeking"]) this.#media.addEventListener(event, waits(true));
    for (const event of ["playing", "seeked", "canplay", "pause"]) this.#media.addEventListener(event, waits(false));
    this.#media.addEventListener("loadedmetadata", () => this.#show());
    this.#media.addEventListener("error", () => {
      if (this.#media.hasAttribute("src")) failed();
    });
    this.#media.src = url;
    this.node.append(this.#media, this.#line);
    this.#show();
  }

  update(state: State): void {
    this.#state = state;
    this.#show();
  }

  /** Ends it: what it was reading is read no more. */
  clear(): void {
    this.#media.removeAttribute("src");
    this.#media.load();
    this.node.remove();
  }

  #show(): void {
    const known = this.#media.readyState >= HTMLMediaElement.HAVE_METADATA;
    setText(this.#line, caption({ kind: this.#kind, state: this.#state, known, waiting: this.#waiting }));
  }
}
