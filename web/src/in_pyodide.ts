/**
 * Puts Tilewright into a Pyodide that somebody else has started: PyScript, JupyterLite, marimo.
 *
 * `await install(pyodide)`, then in Python `from tilewright import Engine`. The packages are compiled
 * for one version of Python, the one of the Pyodide that lies in the runtime folder (`PYODIDE`).
 */

import type { PyodideInterface } from "pyodide";
import * as gpuBridge from "./gpu_bridge.ts";
import { installWheels, runtimeFiles } from "./runtime.ts";
import { openModel } from "./store/open_model.ts";
import type { ByteSource } from "./store/source.ts";
import * as wasmBridge from "./wasm_bridge.ts";

/** The address of the Pyodide that these packages are made for. */
export const PYODIDE = runtimeFiles().pyodide + "pyodide.mjs";

/** Install the packages and the two bridges; safe to call again. */
export async function install(pyodide: PyodideInterface): Promise<void> {
  const files = runtimeFiles();
  await installWheels(pyodide, [...files.wheels, files.openai]);
  pyodide.registerJsModule("tilewright_gpu_bridge", gpuBridge);
  pyodide.registerJsModule("tilewright_wasm_bridge", wasmBridge);
  pyodide.registerJsModule("tilewright_host", { openSource });
}

/** Open a model's address, relative to the page, or reference; kept for the next visit. */
async function openSource(reference: string): Promise<{ source: ByteSource; signal: AbortSignal }> {
  const base = globalThis.document?.baseURI ?? location.href;
  const url = reference.startsWith("hf:") ? reference : new URL(reference, base).href;
  const { signal } = new AbortController();
  return { source: (await openModel({ url, signal })).main, signal };
}
