/**
 * Starts a worker from the text of its program, a classic script: the bundle is one file for a site to serve.
 * Throws where the page may not (a Content-Security-Policy without worker-src blob:), or the worker fails then.
 */
export function startWorker(program: string, name: string): Worker {
  const address = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
  try {
    return new Worker(address, { name });
  } finally {
    // The worker has taken the address by now, where it may have it at all.
    URL.revokeObjectURL(address);
  }
}
