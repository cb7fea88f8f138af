/** The line at a page's foot that says which mediator the page is connected to. */

import type { Client, ClientEvents } from "../../peer/browser/src/index.ts";
import { element, setText } from "./dom.ts";

/** Where the client's connection to a mediator stands. */
export type MediatorStatus = ClientEvents["mediator"];

/** Shows the connection, and tells the page, which may have to say more about it. */
export function showMediator(client: Client, changed: (status: MediatorStatus) => void): void {
  const line = element("mediator", HTMLParagraphElement);
  const show = (status: MediatorStatus): void => {
    setText(line, `Mediator: ${status.url} (${words[status.state]})`);
    changed(status);
  };
  client.on("mediator", show);
}
