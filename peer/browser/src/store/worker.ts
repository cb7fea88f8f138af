/** The worker's program. compile.sh bundles it by itself and puts it as text into every bundle that may start it. */

import { pageClock } from "../clock.ts";
import type { Folder } from "./files.ts";
import { type Port, serve } from "./serve.ts";
import { Vault } from "./vault.ts";

serve(
  globalThis as unknown as Port,
  new Vault({
    root: async () => (await navigator.storage.getDirectory()) as unknown as Folder,
    locks: navigator.locks,
    estimate: () => navigator.storage.estimate(),
    today: () => Date.now(),
    clock: pageClock,
  }),
);
