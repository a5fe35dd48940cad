/**
 * One request whose answer comes in parts: a queue between the worker's messages and who reads them.
 *
 * A part is acknowledged when it is taken, so that the worker makes no more than the reader wants.
 */

import type { Connection } from "../connection.ts";
import type { Api, DeltaReport, Events, Generate } from "../protocol.ts";

type Part = DeltaReport | Events;
type Message = Omit<Generate, "id"> | Omit<Api, "id">;

export class Exchange<P extends Part> {
  /** The last message of the worker; rejects with the signal's reason when it was stopped. */
  readonly answer: ReturnType<Connection["request"]>;
  readonly #connection: Connection;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #queue: P[] = [];
  #wake = () => {};
  #ended = false;

  constructor(connection: Connection, message: Message, signal?: AbortSignal | null) {
    this.#connection = connection;
    this.#signal = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal;
    const onPart = (part: Part) => {
      this.#queue.push(part as P);
      this.#wake();
    };
    const listeners = { onDelta: onPart, onEvents: onPart, signal: this.#signal };
    this.answer = connection.request(message, listeners).finally(() => {
      this.#ended = true;
      this.#wake();
    });
    this.answer.catch(() => undefined); // whoever reads the parts or the answer is told
  }

  /** Whether its signal fired or its reader left. */
  get stopped(): boolean {
    return this.#signal.aborted;
  }

  /** Wait for the first part or the end; true where there is a part. */
  async begun(): Promise<boolean> {
    while (!this.#ended && this.#queue.length === 0) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.#queue.length > 0;
  }

  /** The parts in order, none after the request was stopped; leaving the loop stops it. */
  async *parts(): AsyncGenerator<P, void, undefined> {
    try {
      while ((await this.begun()) && !this.stopped) {
        const part = this.#queue.shift()!;
        this.#connection.acknowledge(part.id);
        yield part;
      }
    } finally {
      this.cancel();
    }
  }

  /** Stop the request, if it still runs. */
  cancel(): void {
    if (!this.#ended) this.#stop.abort();
  }
}
