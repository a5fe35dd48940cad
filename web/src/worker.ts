/**
 * The worker that runs the model: starts Python, and carries JSON between the page and its loop.
 *
 * The first message of the page is `{type: "start", environment}`; from then on the messages are
 * those of `protocol.ts`. A load's files or address are opened here, because their bytes go to the
 * GPU without passing through Python.
 */

import { TilewrightError } from "./errors.ts";
import { expectAdapter } from "./gpu_bridge.ts";
import type { Adapter, Inspect, Load, Request, Response } from "./protocol.ts";
import { installOpenAI, keepSnapshot, runtimeFiles, startPython } from "./runtime.ts";
import { type ModelPlace, type OpenedModel, openModel } from "./store/open_model.ts";
import type { ByteSource } from "./store/source.ts";
import * as tuningRecords from "./tuning_records.ts";
import * as wasm from "./wasm_bridge.ts";

interface Start {
  type: "start";
  environment: Record<string, string>;
}
/** Asks whether the worker's event loop still turns; answered without Python. */
interface Ping {
  type: "ping";
}
/** A load, with what only this side of the worker needs to find the bytes. */
type LoadHere = (Load | Inspect | Adapter) & { place?: Omit<ModelPlace, "url" | "headers" | "signal"> };

const begun = performance.now();
interface Loading {
  message: LoadHere;
  stop: AbortController;
  opened?: OpenedModel;
  /** The same, on its way since before Python ran. */
  ahead?: Promise<OpenedModel> | undefined;
}
const loads = new Map<number, Loading>();
/** The switches of the Python side. */
let switches: Record<string, string> = {};
let receive: ((text: string) => void) | undefined;
const early: string[] = [];

function open({ message, stop }: Loading): Promise<OpenedModel> {
  const { url, headers, place } = message;
  return openModel({
    ...place,
    ...(message.type === "load" ? { key: keyOf(message) } : {}),
    ...(url ? { url } : {}),
    ...(headers ? { headers } : {}),
    signal: stop.signal,
  });
}

/** Everything besides the model's bytes that decides what a load makes of them. */
function keyOf({ options }: Load): string {
  return JSON.stringify([runtimeFiles().wheels, wasm.engine(), wasm.cores(), switches, options ?? {}]);
}

/** Ask for the adapter while Python starts, unless the processor is to compute: that takes long. */
async function expectGpu({ message, ahead }: Loading): Promise<void> {
  if (message.type === "load" && message.options?.backend === "wasm") return;
  const opened = await ahead?.catch(() => undefined);
  if (!opened?.main.begun) expectAdapter();
}

async function openSource(id: number): Promise<{ source: ByteSource; signal: AbortSignal }> {
  const load = loads.get(id);
  if (!load) throw new TilewrightError("internal", `there is no load ${id}`);
  const { url, place } = load.message;
  load.opened?.close(); // of the device that was lost
  if (!url && !place?.files) throw new TilewrightError("invalid_request", "A load needs a url or a file.");
  const opening = load.ahead ?? open(load);
  load.ahead = undefined;
  const opened = await opening;
  if (loads.get(id) !== load) {
    opened.close(); // stopped just now
    throw new TilewrightError("cancelled", "Stopped.");
  }
  load.opened = opened;
  return { source: opened.main, signal: load.stop.signal };
}

/** Pass an answer on; a model counts as loaded when its bytes were found to be what they should. */
async function pass(message: Response): Promise<void> {
  const load = loads.get((message as { id?: number }).id ?? 0);
  if (message.type === "loaded" && load?.opened) {
    try {
      message.model.stored = await load.opened.settle();
    } catch (error) {
      const { code, details } = error instanceof TilewrightError ? error : { code: "internal", details: {} };
      receive?.(JSON.stringify({ type: "unload", id: 0 }));
      load.opened.close();
      return postMessage({ type: "error", id: message.id, code, message: (error as Error).message, details });
    }
  }
  if (load && (message.type === "error" || message.type === "result")) {
    load.opened?.close(); // a load that failed, or an inspection that is done
    load.ahead?.then((model) => model.close()).catch(() => undefined);
    loads.delete((message as { id: number }).id);
  }
  postMessage(message);
}

async function start(environment: Record<string, string>): Promise<void> {
  const python = await startPython(environment);
  const module = python.pyimport("tilewright.serve.worker");
  const post = (text: string) => {
    const message = JSON.parse(text) as Response;
    void pass(message);
    if (message.type === "done" || message.type === "reply") keepSnapshot().catch(() => undefined); // no room: no snapshot
  };
  const install = () => installOpenAI(python);
  receive = module.start(post, openSource, tuningRecords, install) as (text: string) => void;
  const seconds = (performance.now() - begun) / 1000;
  postMessage({ type: "ready", seconds, version: module.VERSION as string });
  for (const text of early.splice(0)) receive(text);
}

addEventListener("message", ({ data }: MessageEvent<Request | Start | Ping>) => {
  if (data.type === "ping") return postMessage({ type: "pong" });
  if (data.type === "start") {
    switches = data.environment;
    start(data.environment).catch((error: unknown) => {
      const message = `The runtime did not start: ${String(error)}`;
      postMessage({ type: "error", id: 0, code: "runtime_failed", message, details: {} });
    });
    return;
  }
  if (data.type === "load" || data.type === "inspect" || data.type === "adapter") {
    const load: Loading = { message: data, stop: new AbortController() };
    if (!receive && !loads.size) {
      load.ahead = open(load);
      load.ahead.catch(() => undefined); // told to whoever awaits it
      void expectGpu(load);
    }
    loads.set(data.id, load);
  }
  if (data.type === "abort") loads.get(data.id)?.stop.abort();
  const { place: _, ...plain } = data as LoadHere;
  const text = JSON.stringify(plain);
  if (receive) receive(text);
  else early.push(text);
});
