import type { Bytes } from "../bytes.ts";
import { encodeInfo, joinHashes, parseInfo } from "../content.ts";
import { StoreError, storeError } from "./error.ts";
import { Holding } from "./holding.ts";
import type { Reply, Request } from "./messages.ts";
import type { Vault } from "./vault.ts";

/** The worker's side of the line to the page: its global scope. */
export interface Port {
  postMessage(message: Reply, transfer: Transferable[]): void;
  onmessage: ((event: { readonly data: Request }) => void) | null;
}

/** Carries out what the page asks, until the worker ends. */
export function serve(port: Port, vault: Vault): void {
  const holdings = new Map<number, Holding>(); // by the page's number; opened and not closed yet

  async function carryOut(request: Request): Promise<[value: Bytes | string | File | null, transfer?: Transferable[]]> {
    if (request.type === "open") {
      const holding = new Holding(vault, await vault.open(parseInfo(request.info)));
      holdings.set(request.content, holding);
      return [encodeInfo(holding.info)];
    }
    const holding = holdings.get(request.content);
    if (holding === undefined) throw new StoreError("closed", "the store is closed");
    switch (request.type) {
      case "check": {
        const bits = await holding.check(parseInfo(request.info), (done, total) =>
          port.postMessage({ type: "progress", call: request.call, done, total }, []),
        );
        return [bits.bytes()];
      }
      case "keep":
        return [joinHashes(await holding.keep(request.piece, request.begin, request.data))];
      case "settle":
        await holding.settle(request.pieces);
        return [null];
      case "read": {
        const data = await holding.read(request.piece, request.begin, request.length);
        return [data, [data.buffer]];
      }
      case "complete":
        return [await holding.complete()];
      case "close":
        holdings.delete(request.content);
        await holding.close(request.discard);
        return [null];
    }
  }

  port.onmessage = async ({ data: request }) => {
    try {
      const [value, transfer = []] = await carryOut(request);
      port.postMessage({ type: "done", call: request.call, value }, transfer);
    } catch (error) {
      const { reason, message } = storeError(error, "the disk failed");
      port.postMessage({ type: "failed", call: request.call, reason, message }, []);
    }
  };
  port.postMessage({ type: "ready" }, []);
}
