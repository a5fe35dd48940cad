/**
 * A request to the OpenAI API as the worker answers it: the one way there, for `engine.fetch` and for
 * the typed methods alike. Knows no field and no HTTP.
 */

import type { Connection } from "../connection.ts";
import type { Events } from "../protocol.ts";
import { Exchange } from "./exchange.ts";

/** A whole answer, or the events of a stream; leaving the loop over them stops the generation. */
export type Answered =
  | { status: number; body: unknown }
  | { status: 200; events: AsyncGenerator<Record<string, unknown>, void, undefined> };

/** What a service worker, `fetch` and the typed methods need of an engine. */
export type Call = (
  method: string,
  path: string,
  body?: string,
  signal?: AbortSignal | null,
) => Promise<Answered>;

/** Return the function that asks the worker of a connection. */
export function callOver(connection: Connection): Call {
  return async (method, path, body, signal) => {
    const message = { type: "api" as const, method, path, ...(body === undefined ? {} : { body }) };
    const exchange = new Exchange<Events>(connection, message, signal);
    if (await exchange.begun()) return { status: 200, events: eventsOf(exchange) };
    const reply = await exchange.answer;
    if (reply.type !== "reply") throw new Error(`got ${reply.type}`);
    return { status: reply.status, body: reply.body };
  };
}

async function* eventsOf(
  exchange: Exchange<Events>,
): AsyncGenerator<Record<string, unknown>, void, undefined> {
  for await (const part of exchange.parts()) {
    for (const event of part.events) {
      if (!exchange.stopped) yield event;
    }
  }
  await exchange.answer; // an error after the last event
}
