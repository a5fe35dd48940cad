/**
 * The worker that runs the model: starts Python, and carries JSON between the page and its loop.
 *
 * The first message of the page is `{type: "start", environment}`; from then on the messages are
 * those of `protocol.ts`. A load's `File` or address is opened here, because its bytes go to the
 * GPU without passing through Python.
 */

import { TilewrightError } from "./errors.ts";
import type { Load, Request, Response } from "./protocol.ts";
import { installOpenAI, keepSnapshot, startPython } from "./runtime.ts";
import { BlobSource, type ByteSource } from "./sources.ts";
import { openStored } from "./storage.ts";
import * as tuningRecords from "./tuning_records.ts";

interface Start {
  type: "start";
  environment: Record<string, string>;
}
/** Asks whether the worker's event loop still turns; answered without Python. */
interface Ping {
  type: "ping";
}
type LoadHere = Load & { file?: Blob };

const begun = performance.now();
const loads = new Map<number, { message: LoadHere; stop: AbortController }>();
let receive: ((text: string) => void) | undefined;
const early: string[] = [];

let opened: ByteSource | undefined;

async function openSource(id: number): Promise<{ source: ByteSource; signal: AbortSignal }> {
  const load = loads.get(id);
  if (!load) throw new TilewrightError("internal", `there is no load ${id}`);
  const { message, stop } = load;
  const signal = stop.signal;
  opened?.close(); // of the device that was lost
  if (message.file) opened = new BlobSource(message.file);
  else if (message.url) opened = await openStored(message.url, message.headers, signal);
  else throw new TilewrightError("invalid_request", "A load needs a url or a file.");
  return { source: opened, signal };
}

/** What no tensor needed is fetched in the background; the model runs without it. */
function settle(): void {
  opened?.settle?.().catch((error: unknown) => console.warn(`Not kept whole: ${String(error)}`));
}

async function start(environment: Record<string, string>): Promise<void> {
  const python = await startPython(environment);
  const module = python.pyimport("tilewright.serve.worker");
  const post = (text: string) => {
    const message = JSON.parse(text) as Response;
    postMessage(message);
    if (message.type === "loaded") settle();
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
    start(data.environment).catch((error: unknown) => {
      const message = `The runtime did not start: ${String(error)}`;
      postMessage({ type: "error", id: 0, code: "runtime_failed", message, details: {} });
    });
    return;
  }
  if (data.type === "load") loads.set(data.id, { message: data, stop: new AbortController() });
  if (data.type === "abort") loads.get(data.id)?.stop.abort();
  const { file: _, ...plain } = data as LoadHere;
  const text = JSON.stringify(plain);
  if (receive) receive(text);
  else early.push(text);
});
