/**
 * The worker in which the store runs: network, digests and disk are not held up by Python, nor
 * Python by them. Answers the calls of `connect.ts`; errors go as {code, message, details}.
 */

import { TilewrightError } from "../errors.ts";
import { makeMemory } from "../wasm_memory.ts";
import type { Begun, Call, Reply } from "./connect.ts";
import { layOut, type Prepared } from "./prepared.ts";
import { Store } from "./store.ts";
import type { StoredFile } from "./stored_file.ts";

const store = new Store();
const files = new Map<number, StoredFile>();
const stops = new Map<number, AbortController>();
/** A memory that is being filled. */
interface Filling {
  /** Of the file, read so far. */
  bytes: number;
  over: Promise<undefined>;
}
/** By the number of the file. */
const filling = new Map<number, Filling>();
/** How long a question for progress waits for the end. */
const PROGRESS_MS = 250;
let next = 1;

function file(number: number): StoredFile {
  const found = files.get(number);
  if (!found) throw new TilewrightError("internal", `there is no open file ${number}`);
  return found;
}

const channel = new MessageChannel();
const turns: (() => void)[] = [];
channel.port1.onmessage = () => turns.shift()?.();

/** Let messages that have come meanwhile be served first. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    turns.push(resolve);
    channel.port2.postMessage(null);
  });
}

/** Begin to lay the weights out at once; undefined where the memory cannot be had. */
function begin(number: number, opened: StoredFile, prepared: Prepared): Begun | undefined {
  const { program, python, recipe } = prepared;
  if (!recipe.shared) return { program, python };
  let memory: WebAssembly.Memory;
  try {
    memory = makeMemory(recipe.pages, true);
  } catch {
    return undefined;
  }
  const filled: Filling = { bytes: 0, over: Promise.resolve(undefined) };
  const read = async (at: number, into: Uint8Array<ArrayBuffer>): Promise<void> => {
    await opened.readInto(at, into);
    filled.bytes += into.length;
  };
  filled.over = layOut(prepared, memory, read, turn).then(() => undefined);
  filled.over.catch(() => undefined); // told to whoever asks
  filling.set(number, filled);
  return { program, python, memory };
}

/** The bytes read so far, after a moment; undefined once all is there. */
function progress(filled: Filling | undefined): Promise<number | undefined> | undefined {
  const moment = new Promise<void>((resolve) => setTimeout(resolve, PROGRESS_MS));
  return filled && Promise.race([filled.over, moment.then(() => filled.bytes)]);
}

async function answer(call: Call, signal: AbortSignal): Promise<unknown> {
  switch (call.method) {
    case "resolve":
      return store.resolve(call.reference, { ...call.looking, signal });
    case "open": {
      const opened = await store.open(call.request, signal);
      const number = next++;
      files.set(number, opened);
      const prepared = call.key ? await opened.prepared(call.key).catch(() => undefined) : undefined;
      const begun = prepared && begin(number, opened, prepared);
      return { file: number, ...opened.facts, ...(begun ? { begun } : {}) };
    }
    case "filled":
      return progress(filling.get(call.file));
    case "prepare":
      return file(call.file).prepare(call.key, call.prepared);
    case "read":
      return file(call.file).read(call.offset, call.length, signal);
    case "fetchAll":
      return file(call.file).fetchAll();
    case "settle":
      await file(call.file).settle();
      return file(call.file).facts;
    case "facts":
      return file(call.file).facts;
    case "close": {
      const closing = files.get(call.file);
      files.delete(call.file);
      filling.delete(call.file);
      return closing?.close();
    }
    case "list":
      return store.list();
    case "pin":
      return store.pin(call.url, call.pinned);
    case "remove":
      return store.remove(call.url);
    case "verify":
      return store.verify(call.url);
    case "blob":
      return store.blob(call.url);
  }
}

async function serve(id: number, call: Call): Promise<void> {
  const stop = new AbortController();
  stops.set(id, stop);
  try {
    const value = await answer(call, stop.signal);
    const moved = value instanceof Uint8Array ? [value.buffer as ArrayBuffer] : [];
    postMessage({ id, value } satisfies Reply, { transfer: moved });
  } catch (error) {
    const { code, details } = error instanceof TilewrightError ? error : { code: "internal", details: {} };
    const message = error instanceof Error ? error.message : String(error);
    postMessage({ id, error: { code, message, details } } satisfies Reply);
  } finally {
    stops.delete(id);
  }
}

addEventListener("message", ({ data }: MessageEvent<{ id: number; call?: Call }>) => {
  if (data.call) void serve(data.id, data.call);
  else stops.get(data.id)?.abort();
});
