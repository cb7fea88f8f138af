/** The line at a page's foot that says which mediator the page is connected to. */

import type { Client, ClientEvents } from "../../peer/browser/src/index.ts";
import { element, setText } from "./dom.ts";

type MediatorStatus = ClientEvents["mediator"];

/** Shows the connection to the mediator, and puts into words what is wrong with it. */
export class MediatorLine {
  readonly #line = element("mediator", HTMLParagraphElement);
  #url = "";
  /** From the first failed attempt to the next answered handshake. A line that is lost is none: another mediator is there in a moment. */
  #lost = false;
  #state: MediatorStatus["state"] = "closed";

  /** Tells `changed` of every change. */
  constructor(client: Client, changed: () => void) {
    client.on("mediator", (status) => {
      this.#show(status);
      changed();
    });
  }

  #show({ url, state }: MediatorStatus): void {
    this.#url = url;
    if (state === "waiting" && this.#state === "connecting") this.#lost = true;
    this.#state = state;
    if (state === "established") this.#lost = false;
    setText(this.#line, `Mediator: ${url}${state === "established" ? "" : this.#lost ? " (not reached)" : " (connecting)"}`);
  }

  /** What is wrong, as a sentence, or null. */
  get trouble(): string | null {
    return this.#lost ? "The mediator cannot be reached" : null;
  }

  /** What can be done about it. */
  get advice(): string {
    return `There is no answer from ${this.#url}, and this page keeps trying. To use another mediator, add ?mediator=<its WebSocket URL> to the address of this page.`;
  }
}
