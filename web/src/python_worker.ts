/**
 * A bare Python worker: runs the code that it is sent, with `import wgpu` working.
 *
 * For experiments, the kernel page and the browser tests; the chat does not use it. A message is
 * `{id, code, data?}`; the answer is `{id, result}` or `{id, error}`. The code's last expression is
 * the result (converted to JavaScript), `data` is the name of what was sent along.
 */

import type { PyodideInterface } from "pyodide";
import { installOpenAI, keepSnapshot, startPython } from "./runtime.ts";
import { openModel } from "./store/open_model.ts";
import { BlobSource } from "./store/source.ts";

interface Request {
  id: number;
  code: string;
  data?: unknown;
}

const begun = performance.now();
const UrlSource = { open: async (url: string) => (await openModel({ url })).main };
const ready = startPython().then((python) => {
  python.registerJsModule("tilewright_sources", {
    BlobSource,
    UrlSource,
    installOpenAI: () => installOpenAI(python),
    keepSnapshot,
  });
  postMessage({ id: 0, result: performance.now() - begun });
  return python;
});
ready.catch((error: unknown) => postMessage({ id: 0, error: String(error) }));

function toJs(python: PyodideInterface, value: unknown): unknown {
  if (!(value instanceof python.ffi.PyProxy)) return value;
  const plain: unknown = value.toJs({ dict_converter: Object.fromEntries, create_pyproxies: false });
  value.destroy();
  return plain;
}

addEventListener("message", async ({ data: request }: MessageEvent<Request>) => {
  try {
    const python = await ready;
    const globals = python.globals.get("dict")();
    globals.set("data", python.toPy(request.data ?? null));
    const result: unknown = await python.runPythonAsync(request.code, { globals });
    postMessage({ id: request.id, result: toJs(python, result) });
  } catch (error) {
    postMessage({ id: request.id, error: String(error) });
  }
});
