/** The worker's program. compile.sh bundles it by itself and puts it as text into every bundle that may start it. */

import { type Port, serve } from "./serve.ts";

serve(globalThis as unknown as Port);
