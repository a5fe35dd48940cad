/**
 * An opt-in service worker: `/v1/*` of a site is answered by whichever open page has an engine.
 *
 * A page calls `serveSite(engine)`, which registers this; a site with a service worker of its own may
 * `importScripts` it. Where no page has an engine, requests wait a little (a page may be loading one;
 * `?wait=MILLISECONDS` in this script's address says how long) and then fail with status 503.
 */

import type { FromPage, FromServiceWorker, SiteRequest } from "./openai/site_protocol.ts";

interface FetchEvent extends Event {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}
interface ExtendableEvent extends Event {
  waitUntil(promise: Promise<unknown>): void;
}
interface Client {
  readonly id: string;
  postMessage(message: unknown, transfer: Transferable[]): void;
}
interface Scope {
  skipWaiting(): Promise<void>;
  clients: {
    claim(): Promise<void>;
    matchAll(options: { type: "window"; includeUncontrolled: boolean }): Promise<Client[]>;
  };
  registration: { scope: string };
  location: Location;
  addEventListener(type: "install" | "activate", listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
}

const scope = globalThis as unknown as Scope;
const WAIT_MS = Number(new URL(scope.location.href).searchParams.get("wait") ?? 5_000);
const ASK_AGAIN_MS = 200;

scope.addEventListener("install", (event) => event.waitUntil(scope.skipWaiting()));
scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener("fetch", (event) => {
  const { origin, pathname } = new URL(event.request.url);
  const base = new URL("v1/", scope.registration.scope);
  if (origin === base.origin && pathname.startsWith(base.pathname)) event.respondWith(answer(event.request));
});

async function answer(request: Request): Promise<Response> {
  const { method, url, signal } = request;
  const body = method === "GET" || method === "HEAD" ? undefined : await request.text();
  const port = await whoTakes({ type: "tilewright-request", method, url, body }, signal);
  if (!port) {
    return refusal("no_engine", "No open page of this site has a model loaded: open the page that loads it.");
  }
  const page = new Page(port);
  signal.addEventListener("abort", () => page.send({ type: "cancel" }));
  page.send({ type: "go" });
  const head = await page.next();
  if (head.type !== "head") {
    return refusal("engine_gone", head.type === "failed" ? head.message : "The page that has the model is gone.");
  }
  const pieces = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      async pull(controller) {
        page.send({ type: "pull" });
        const piece = await page.next();
        if (piece.type === "piece") controller.enqueue(piece.bytes);
        else if (piece.type === "end") controller.close();
        else controller.error(new Error(piece.type === "failed" ? piece.message : "unexpected"));
      },
      cancel: () => page.send({ type: "cancel" }),
    },
    { highWaterMark: 0 },
  );
  return new Response(pieces, { status: head.status, headers: head.headers });
}

/** Ask all pages, those that open meanwhile, too; the port of the first that takes the request. */
async function whoTakes(request: SiteRequest, signal: AbortSignal): Promise<MessagePort | undefined> {
  const asked = new Set<string>();
  const until = performance.now() + WAIT_MS;
  let taken: MessagePort | undefined;
  let wake = () => {};
  do {
    for (const client of await scope.clients.matchAll({ type: "window", includeUncontrolled: true })) {
      if (asked.has(client.id)) continue;
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }: MessageEvent<FromPage>) => {
        if (data.type !== "taking") return;
        asked.add(client.id);
        if (taken) return port1.postMessage({ type: "cancel" } satisfies FromServiceWorker);
        taken = port1;
        wake();
      };
      client.postMessage(request, [port2]);
    }
    await new Promise<void>((resolve) => {
      wake = resolve;
      setTimeout(resolve, ASK_AGAIN_MS);
    });
  } while (!taken && !signal.aborted && performance.now() < until);
  return taken;
}

/** The page that answers a request; its messages are asked for one at a time. */
class Page {
  readonly #port: MessagePort;
  readonly #came: FromPage[] = [];
  #take: ((message: FromPage) => void) | undefined;

  constructor(port: MessagePort) {
    this.#port = port;
    const give = (message: FromPage) => {
      if (this.#take) this.#take(message);
      else this.#came.push(message);
      this.#take = undefined;
    };
    port.onmessage = ({ data }: MessageEvent<FromPage>) => give(data);
    // Told where the browser tells it: the page was closed.
    port.addEventListener("close", () => give({ type: "failed", message: "The page that has the model was closed." }));
  }

  send(message: FromServiceWorker): void {
    this.#port.postMessage(message);
  }

  next(): Promise<FromPage> {
    const came = this.#came.shift();
    return came ? Promise.resolve(came) : new Promise((resolve) => (this.#take = resolve));
  }
}

function refusal(code: string, message: string): Response {
  const error = { message, type: "server_error", param: null, code };
  return new Response(JSON.stringify({ error }), {
    status: 503,
    headers: { "Content-Type": "application/json", "Retry-After": "5" },
  });
}
