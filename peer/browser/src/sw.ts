/**
 * The service worker, which gives contents addresses of their own: see streaming/worker.ts.
 * compile.sh makes dist/sw.js of it, a classic script. A site that has a service
 * worker already imports it there: it answers requests under its own folder alone.
 */

import { pageClock } from "./clock.ts";
import { toHex } from "./bytes.ts";
import type { Hello } from "./streaming/messages.ts";
import { type Page, type StreamRequest, StreamWorker } from "./streaming/worker.ts";

/** A service worker's global scope, as far as it is used: TypeScript's library for workers excludes that for pages. */
interface Scope {
  readonly registration: { readonly scope: string };
  readonly clients: {
    matchAll(options: { type: "window"; includeUncontrolled: boolean }): Promise<readonly Page[]>;
    get(id: string): Promise<Page | undefined>;
    claim(): Promise<void>;
  };
  addEventListener(type: "fetch", fn: (event: FetchEvent) => void): void;
  addEventListener(type: "message", fn: (event: HelloEvent) => void): void;
}

interface FetchEvent {
  readonly request: StreamRequest;
  readonly clientId: string;
  respondWith(response: Promise<Response>): void;
}

interface HelloEvent {
  readonly data: Hello | undefined;
  readonly source: Page;
  waitUntil(done: Promise<void>): void;
}

const scope = globalThis as unknown as Scope;
const worker = new StreamWorker({
  scope: scope.registration.scope,
  id: toHex(crypto.getRandomValues(new Uint8Array(8))),
  clock: pageClock,
  pages: () => scope.clients.matchAll({ type: "window", includeUncontrolled: true }),
  lives: async (id) => (await scope.clients.get(id)) !== undefined,
  claim: () => scope.clients.claim(),
});

scope.addEventListener("fetch", (event) => {
  const response = worker.respond(event.request, event.clientId);
  if (response !== null) event.respondWith(response);
});
scope.addEventListener("message", (event) => {
  if (event.data?.p2pcdn === "hello") event.waitUntil(worker.greeted(event.source));
});
