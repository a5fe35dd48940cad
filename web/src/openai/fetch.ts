/**
 * `engine.fetch`: the REST paths of the OpenAI API, answered by the engine in the page.
 *
 * Takes what `fetch` takes, gives a `Response`; streams are server-sent events. Only the path from
 * `/v1/` on counts, so any base address does; keys and other headers are not looked at.
 */

import { TilewrightError } from "../errors.ts";
import type { Call } from "./call.ts";

export type Fetch = (input: RequestInfo | URL, init?: RequestInit) => Promise<Response>;

/** Return a `fetch` over an engine's `call`. */
export function fetchOver(call: Call): Fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const body = request.method === "GET" || request.method === "HEAD" ? undefined : await request.text();
    return respond(call, request.method, request.url, body, request.signal);
  };
}

/** Answer one request. Rejects when its signal fires, as `fetch` does. */
export async function respond(
  call: Call,
  method: string,
  url: string,
  body: string | undefined,
  signal: AbortSignal,
): Promise<Response> {
  try {
    const answered = await call(method, apiPath(url), body, signal);
    if (!("events" in answered)) return json(answered.body, answered.status);
    return new Response(serverSent(answered.events), {
      headers: { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" },
    });
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    return failed(error);
  }
}

/** The path from the last `/v1/` on, or the whole path. */
function apiPath(url: string): string {
  const { pathname } = new URL(url);
  const at = pathname.lastIndexOf("/v1/");
  return decodeURIComponent(at < 0 ? pathname : pathname.slice(at));
}

function json(body: unknown, status: number): Response {
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
}

/** An answer in OpenAI's shape to what did not get as far as the worker's own errors. */
export function failed(error: unknown): Response {
  const code = error instanceof TilewrightError ? error.code : "internal";
  const message = error instanceof Error ? error.message : String(error);
  return json({ error: { message, type: "server_error", param: null, code } }, 503);
}

function serverSent(events: AsyncGenerator<Record<string, unknown>, void, undefined>): ReadableStream {
  const encoder = new TextEncoder();
  return new ReadableStream(
    {
      async pull(controller) {
        const { value, done } = await events.next(); // what it throws becomes the stream's error
        controller.enqueue(encoder.encode(`data: ${done ? "[DONE]" : JSON.stringify(value)}\n\n`));
        if (done) controller.close();
      },
      async cancel() {
        await events.return();
      },
    },
    { highWaterMark: 0 },
  );
}
