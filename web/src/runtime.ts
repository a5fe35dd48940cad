/**
 * Starts Pyodide from the runtime folder: trimmed standard library, compiled wheels, GPU bridge.
 *
 * Runs in a module worker (or a module page). Names of files come from the build as `RUNTIME`.
 * Knows nothing about models or messages.
 */

import type { PyodideInterface } from "pyodide";
import * as bridge from "./gpu_bridge.ts";
import { type Bytes, expanded, forgetParts, keepParts, keptParts, makeRoom } from "./snapshot.ts";
import * as wasmBridge from "./wasm_bridge.ts";

/** Where the build put the files, relative to the folder of the worker's script. */
export interface RuntimeFiles {
  pyodide: string;
  library: string;
  lock: string;
  wheels: string[];
  /** The wheel of the OpenAI API and of quantizing, installed when it is first used. */
  openai: string;
  /** Memory of a Python that has imported the engine; empty where the build could not make it. */
  snapshot: string;
}

declare const RUNTIME: RuntimeFiles;

/** The files of the start, as absolute addresses. */
export function runtimeFiles(): RuntimeFiles {
  const at = (path: string) => new URL(path, import.meta.url).href;
  return {
    pyodide: at(RUNTIME.pyodide),
    library: at(RUNTIME.library),
    lock: at(RUNTIME.lock),
    wheels: RUNTIME.wheels.map(at),
    openai: at(RUNTIME.openai),
    snapshot: RUNTIME.snapshot && at(RUNTIME.snapshot),
  };
}

/**
 * Load Pyodide with `wgpu`, `jinja2` and `tilewright` installed and the bridge registered.
 *
 * `environment` becomes Python's `os.environ` (the switches of `tilewright/settings.py`).
 */
export async function startPython(
  environment: Record<string, string> = {},
): Promise<PyodideInterface> {
  const files = runtimeFiles();
  const engine = fetchEngine(files);
  const kept = files.snapshot ? await keptParts(partsOf(files)) : undefined;
  performance.mark("tilewright: snapshot read");
  if (kept) {
    try {
      const [snapshot, library, lock, ...wheels] = kept as [Bytes, Bytes, Bytes, ...Bytes[]];
      const here = resolved({ library, lock, wheels });
      const pyodide = await load(files, engine, here, {}, expanded(snapshot));
      const restored = pyodide.pyimport("tilewright.serve.snapshot").restored;
      restored(JSON.stringify(environment));
      return pyodide;
    } catch (error) {
      console.warn(`The memory snapshot is not usable here: ${String(error)}`);
      await forgetParts();
    }
  }
  return load(files, engine, fetchFiles(files), environment);
}

/** Pyodide itself, on its way all at once: only HTTP's cache keeps its compiled code. */
interface Engine {
  loader: Promise<typeof import("pyodide")>;
  script: Promise<unknown>;
  machine: Promise<WebAssembly.Module>;
}

/** What it reads. */
interface Files {
  library: Promise<Bytes>;
  lock: Promise<Bytes>;
  wheels: Promise<Bytes>[];
}

function fetchEngine({ pyodide }: RuntimeFiles): Engine {
  return unheard({
    machine: WebAssembly.compileStreaming(fetch(`${pyodide}${MACHINE}`)),
    script: import(`${pyodide}pyodide.asm.mjs`) as Promise<unknown>,
    loader: import(`${pyodide}pyodide.mjs`) as Engine["loader"],
  });
}

function fetchFiles({ library, lock, wheels }: RuntimeFiles): Files {
  return unheard({ library: fetchBytes(library), lock: fetchBytes(lock), wheels: wheels.map(fetchBytes) });
}

function resolved({ library, lock, wheels }: { library: Bytes; lock: Bytes; wheels: Bytes[] }): Files {
  return {
    library: Promise.resolve(library),
    lock: Promise.resolve(lock),
    wheels: wheels.map((wheel) => Promise.resolve(wheel)),
  };
}

/** What fails is told where it is awaited. */
function unheard<T extends object>(parts: T): T {
  for (const part of Object.values(parts).flat()) (part as Promise<unknown>).catch(() => undefined);
  return parts;
}

const MACHINE = "pyodide.asm.wasm";

/**
 * Let Pyodide's loader find what was already fetched and compiled, instead of doing so one after
 * the other: while it runs, its fetches and its `instantiateStreaming` are answered from those.
 */
function lend(
  { pyodide, library, lock }: RuntimeFiles,
  { machine }: Engine,
  read: Files,
  snapshot?: Uint8Array,
): () => void {
  const { fetch } = globalThis;
  const { instantiateStreaming } = WebAssembly;
  const kept = new Map<string, Promise<Uint8Array<ArrayBuffer> | null>>([
    [library, read.library],
    [lock, read.lock],
    [`${pyodide}${MACHINE}`, Promise.resolve(null)],
  ]);
  globalThis.fetch = async (input, init) => {
    const bytes = input instanceof Request ? undefined : kept.get(String(input));
    return bytes ? new Response(await bytes) : fetch(input, init);
  };
  WebAssembly.instantiateStreaming = async (_, imports) => {
    const module = await machine;
    const instance = await WebAssembly.instantiate(module, imports);
    if (snapshot) makeRoom(instance.exports, snapshot);
    return { module, instance };
  };
  return () => {
    globalThis.fetch = fetch;
    WebAssembly.instantiateStreaming = instantiateStreaming;
  };
}

/**
 * Fetch the memory snapshot for the next visit; call it when the first visit's work is done.
 *
 * Starting from it saves most of the processor time of a start, but it is as large as all other
 * files together, so a first visit does without.
 */
export function keepSnapshot(): Promise<void> {
  return (keeping ??= keepAll(runtimeFiles()));
}

let keeping: Promise<void> | undefined;

async function keepAll(files: RuntimeFiles): Promise<void> {
  if (files.snapshot) await keepParts(partsOf(files), () => Promise.all(partsOf(files).map(fetchBytes)));
}

/** What a start from the snapshot needs besides Pyodide itself. */
function partsOf({ snapshot, library, lock, wheels }: RuntimeFiles): string[] {
  return [snapshot, library, lock, ...wheels];
}

let installed: Promise<void> | undefined;

/** Fetch and install the modules of the OpenAI API and of quantizing, once; a failure can be
 * tried again. */
export function installOpenAI(pyodide: PyodideInterface): Promise<void> {
  installed ??= installWheels(pyodide, [runtimeFiles().openai]);
  installed.catch(() => (installed = undefined));
  return installed;
}

/** Fetch wheels of ours and unpack them into a Pyodide that runs. */
export async function installWheels(pyodide: PyodideInterface, urls: string[]): Promise<void> {
  const wheels = await Promise.all(urls.map(fetchBytes));
  const folder = pyodide.runPython("import site; site.getsitepackages()[0]") as string;
  for (const wheel of wheels) unpackStored(pyodide.FS as FileSystem, folder, wheel);
  pyodide.runPython("import importlib; importlib.invalidate_caches()");
}

async function load(
  files: RuntimeFiles,
  engine: Engine,
  read: Files,
  environment: Record<string, string>,
  snapshot?: Uint8Array,
): Promise<PyodideInterface> {
  const { loadPyodide } = await engine.loader;
  const giveBack = lend(files, engine, read, snapshot);
  try {
    const pyodide = await loadPyodide({
      indexURL: files.pyodide,
      lockFileURL: files.lock,
      stdLibURL: files.library,
      env: environment,
      ...(snapshot ? { _loadSnapshot: snapshot } : {}),
      fsInit: async (fs: FileSystem, { sitePackages }: { sitePackages: string }) => {
        for (const wheel of read.wheels) unpackStored(fs, sitePackages, await wheel);
      },
    } as never);
    performance.mark("tilewright: Python runs");
    pyodide.registerJsModule("tilewright_gpu_bridge", bridge);
    pyodide.registerJsModule("tilewright_wasm_bridge", wasmBridge);
    return pyodide;
  } finally {
    giveBack();
  }
}

async function fetchBytes(url: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answered ${response.status}: the runtime folder is incomplete`);
  return new Uint8Array(await response.arrayBuffer());
}

/** The part of Emscripten's file system that is used here. */
interface FileSystem {
  mkdirTree(path: string): void;
  writeFile(path: string, data: Uint8Array): void;
}

/** Unpack a zip whose entries are stored (ours are: HTTP compresses them), in 1 to 2 ms a wheel. */
export function unpackStored(fs: FileSystem, folder: string, zip: Uint8Array): void {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  const end = zip.byteLength - 22;
  if (view.getUint32(end, true) !== 0x06054b50) throw new Error("not a plain zip archive");
  const made = new Set<string>();
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const method = view.getUint16(at + 10, true);
    const size = view.getUint32(at + 24, true);
    const nameLength = view.getUint16(at + 28, true);
    const local = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(zip.subarray(at + 46, at + 46 + nameLength));
    at += 46 + nameLength + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (method !== 0) throw new Error(`${name} is compressed inside its archive`);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const path = `${folder}/${name}`;
    const parent = path.slice(0, path.lastIndexOf("/"));
    if (!made.has(parent)) fs.mkdirTree(parent);
    made.add(parent);
    fs.writeFile(path, zip.subarray(start, start + size));
  }
}
