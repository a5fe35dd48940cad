/**
 * Opens a module worker from any origin: a page may take the engine from a CDN with one script tag.
 *
 * Browsers refuse `new Worker` for another origin's address, but a worker of the page's own (a blob)
 * may import a module of another origin that allows it (`Access-Control-Allow-Origin`). Inside,
 * `import.meta.url` is the real address, so the worker finds its files beside itself.
 */

/** Open a worker whose script may lie on another origin. Under a policy: `worker-src blob: ORIGIN`. */
export function openWorker(address: URL): Worker {
  const options: WorkerOptions = { type: "module", name: "tilewright" };
  if (address.origin === location.origin) return new Worker(address, options);
  const script = `import ${JSON.stringify(address.href)};`;
  const blob = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(blob, options);
  // The browser reads the blob soon, and says nothing when it has.
  setTimeout(() => URL.revokeObjectURL(blob), 60_000);
  return worker;
}
