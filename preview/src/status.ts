/** The one line that says what is going on, and its data-state for programs. */

import type { State } from "../../peer/browser/src/index.ts";
import { element, make, setText } from "./dom.ts";

/** The element "status": a state, a short sentence, and what it means for the reader. */
export class Status {
  readonly #box = element("status", HTMLDivElement);
  readonly #title = make("strong");
  readonly #detail = make("span");

  constructor() {
    this.#box.replaceChildren(this.#title, this.#detail);
  }

  /** `trouble` says that something is wrong that may pass: it looks like it, whatever the state. */
  show(state: State, title: string, detail = "", trouble = false): void {
    this.#box.dataset["state"] = state;
    this.#box.classList.toggle("trouble", trouble);
    setText(this.#title, title);
    setText(this.#detail, detail);
  }
}
