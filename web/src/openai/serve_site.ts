/** Lets a page answer `/v1/*` for the whole site, through the site's service worker. */

import type { Fetch } from "./fetch.ts";
import type { FromPage, FromServiceWorker, SiteRequest } from "./site_protocol.ts";

export interface SiteOptions {
  /** Address of `openai_service_worker.js`; "" where the site's own worker imports it. */
  script?: string | URL;
  scope?: string;
}

/**
 * Answer the requests that any page below the scope sends to `/v1/*`, as long as this page is open.
 *
 * `engine` may be on its way: requests wait for it. Returns a function that ends the service; the
 * service worker stays registered.
 */
export async function serveSite(
  engine: { fetch: Fetch } | PromiseLike<{ fetch: Fetch }>,
  { script = new URL("./openai_service_worker.js", import.meta.url), scope }: SiteOptions = {},
): Promise<() => void> {
  const container = navigator.serviceWorker;
  const take = ({ data, ports }: MessageEvent<SiteRequest>) => {
    if (data?.type === "tilewright-request") answer(engine, data, ports[0]!);
  };
  container.addEventListener("message", take);
  container.startMessages();
  if (script) {
    await container.register(script, scope === undefined ? {} : { scope });
    await container.ready;
  }
  return () => container.removeEventListener("message", take);
}

function answer(
  engine: { fetch: Fetch } | PromiseLike<{ fetch: Fetch }>,
  { method, url, body }: SiteRequest,
  port: MessagePort,
): void {
  const stop = new AbortController();
  const say = (message: FromPage) => port.postMessage(message);
  let pieces: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;
  const guarded = async (work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      say({ type: "failed", message: error instanceof Error ? error.message : String(error) });
    }
  };
  const begin = async () => {
    const { fetch } = await engine;
    stop.signal.throwIfAborted();
    const { signal } = stop;
    const response = await fetch(url, { method, signal, ...(body === undefined ? {} : { body }) });
    pieces = response.body?.getReader() as typeof pieces;
    say({ type: "head", status: response.status, headers: [...response.headers] });
  };
  const pull = async () => {
    const { value, done } = (await pieces?.read()) ?? { done: true };
    say(done ? { type: "end" } : { type: "piece", bytes: value! });
  };
  port.onmessage = ({ data }: MessageEvent<FromServiceWorker>) => {
    if (data.type === "go") void guarded(begin);
    else if (data.type === "pull") void guarded(pull);
    else stop.abort();
  };
  say({ type: "taking" });
}
