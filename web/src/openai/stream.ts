/** What a streaming request gives: an async iterable that can be stopped. */

/**
 * The chunks of an answer, once. `controller.abort()`, the request's signal and leaving the loop stop
 * the generation. May be awaited (as the `openai` package's streams are) or iterated at once.
 */
export class Stream<Chunk> implements AsyncIterable<Chunk> {
  readonly controller: AbortController;
  readonly #chunks: AsyncGenerator<Chunk, void, undefined>;

  constructor(chunks: AsyncGenerator<Chunk, void, undefined>, controller: AbortController) {
    this.#chunks = chunks;
    this.controller = controller;
  }

  [Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    return this.#chunks;
  }

  /** Stop the generation. */
  abort(): void {
    this.controller.abort();
  }

  /** The chunks as a stream of objects. */
  toReadableStream(): ReadableStream<Chunk> {
    const chunks = this.#chunks;
    return new ReadableStream<Chunk>({
      async pull(controller) {
        const { value, done } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await chunks.return();
      },
    });
  }
}

/** A stream that is on its way: await it, or iterate it without waiting. */
export class PendingStream<Chunk> implements PromiseLike<Stream<Chunk>>, AsyncIterable<Chunk> {
  readonly controller: AbortController;
  readonly #opened: Promise<Stream<Chunk>>;

  constructor(opened: Promise<Stream<Chunk>>, controller: AbortController) {
    this.#opened = opened;
    this.controller = controller;
    opened.catch(() => undefined); // told by then() and by the iteration
  }

  then<A = Stream<Chunk>, B = never>(
    fulfilled?: ((stream: Stream<Chunk>) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#opened.then(fulfilled, rejected);
  }

  catch<B = never>(rejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<Stream<Chunk> | B> {
    return this.#opened.catch(rejected);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Chunk, void, undefined> {
    yield* await this.#opened;
  }
}
