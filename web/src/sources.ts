/**
 * Where model bytes come from in the browser: a URL, a Blob or File, or a file in the origin
 * private file system. Every source can read a small range and stream a large one in pieces.
 *
 * Knows nothing about the GPU, about models, or about what is stored where (`storage.ts` does).
 */

import { SourceError, throwIfStopped } from "./errors.ts";

/** Size of the pieces in which bytes move; one such buffer is reused per stream. */
export const PIECE = 1024 * 1024;

/** The browser's twin of `tilewright.formats.source.ByteSource`. */
export interface ByteSource {
  readonly name: string;
  readonly size: number;
  /** Return exactly `length` bytes from `offset`. */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>>;
  /** Yield the range in pieces; a piece is valid only until the next one is asked for. */
  stream(
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): AsyncIterable<Uint8Array<ArrayBuffer>>;
  /** Whether the bytes are in local storage for the next visit. */
  readonly stored?: boolean;
  /** Called once all that a load needs was read. */
  settle?(): Promise<void>;
  close(): void;
}

/** Refuse ranges outside a source. */
export function checkRange(source: ByteSource, offset: number, length: number): void {
  if (offset < 0 || length < 0 || offset + length > source.size) {
    throw new SourceError(
      `${source.name} ends at byte ${source.size}, but bytes ${offset} to ${offset + length} were ` +
        "asked for: the file is incomplete or damaged, fetch it again.",
    );
  }
}

/** Collect a stream into one array. */
export async function collect(
  pieces: AsyncIterable<Uint8Array>,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(length);
  let at = 0;
  for await (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** A Blob, or a File that the user dropped or picked. */
export class BlobSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly stored: boolean;
  readonly #blob: Blob;

  constructor(blob: Blob, name = blob instanceof File ? blob.name : "blob", stored = false) {
    this.#blob = blob;
    this.name = name;
    this.stored = stored;
    this.size = blob.size;
  }

  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this, offset, length);
    try {
      return new Uint8Array(await this.#blob.slice(offset, offset + length).arrayBuffer());
    } catch (error) {
      throw new SourceError(`${this.name} can no longer be read (${String(error)}): choose it again.`);
    }
  }

  async *stream(offset: number, length: number, signal?: AbortSignal) {
    checkRange(this, offset, length);
    for (let at = 0; at < length; at += PIECE) {
      throwIfStopped(signal);
      yield await this.read(offset + at, Math.min(PIECE, length - at));
    }
  }

  close(): void {}
}

/** What a synchronous access handle offers; the DOM library of TypeScript has it for workers only. */
export interface SyncHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(from: Uint8Array, options: { at: number }): number;
  getSize(): number;
  truncate(size: number): void;
  flush(): void;
  close(): void;
}

/** A file of the origin private file system behind a synchronous access handle. */
export class HandleSource implements ByteSource {
  readonly stored = true;
  readonly name: string;
  readonly size: number;
  readonly #handle: SyncHandle;

  constructor(handle: SyncHandle, name: string, size = handle.getSize()) {
    this.#handle = handle;
    this.name = name;
    this.size = size;
  }

  async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this, offset, length);
    const data = new Uint8Array(length);
    this.#fill(data, offset);
    return data;
  }

  async *stream(offset: number, length: number, signal?: AbortSignal) {
    checkRange(this, offset, length);
    const piece = new Uint8Array(Math.min(PIECE, length));
    for (let at = 0; at < length; at += PIECE) {
      throwIfStopped(signal);
      const part = piece.subarray(0, Math.min(PIECE, length - at));
      this.#fill(part, offset + at);
      yield part;
    }
  }

  #fill(data: Uint8Array, offset: number): void {
    if (this.#handle.read(data, { at: offset }) !== data.length) {
      throw new SourceError(`The stored copy of ${this.name} is shorter than it says: load it again.`);
    }
  }

  close(): void {
    this.#handle.close();
  }
}

/** Bytes between two reads that are cheaper to skip than to ask anew for. */
const SKIP = 256 * 1024;
/** How often a connection that broke is taken up where it ended, and the first pause. */
const RETRIES = 3;
const RETRY_MS = 300;

/** An answer that is still being read: reads that follow each other need no further request. */
class OpenAnswer {
  /** Where in the file the next byte is. */
  at: number;
  readonly #pieces: AsyncGenerator<Uint8Array<ArrayBuffer>>;
  #left: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  constructor(at: number, body: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.at = at;
    this.#pieces = pieces(body);
  }

  /** Return up to `most` bytes, valid until the next call. */
  async take(most: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#left.length === 0) {
      const { done, value } = await this.#pieces.next();
      if (done) throw new SourceError("The connection ended too early: try again.");
      this.#left = value;
    }
    const piece = this.#left.subarray(0, most);
    this.#left = this.#left.subarray(piece.length);
    this.at += piece.length;
    return piece;
  }

  close(): void {
    this.#pieces.return(undefined).catch(() => undefined);
  }
}

/**
 * A URL whose server answers Range requests; one that does not is read once and kept as a Blob.
 *
 * One answer is kept open across reads that go forward, so that a load is one long download.
 */
export class UrlSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly etag: string | null;
  readonly url: string;
  readonly #headers: Record<string, string>;
  #answer: OpenAnswer | undefined;

  private constructor(
    url: string,
    size: number,
    etag: string | null,
    headers: Record<string, string>,
  ) {
    this.url = url;
    this.name = decodeURIComponent(new URL(url).pathname.split("/").pop() || url);
    this.size = size;
    this.etag = etag;
    this.#headers = headers;
  }

  /** Ask for the first byte to learn the length, and whether ranges are honoured. */
  static async open(
    url: string,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<ByteSource & { etag?: string | null }> {
    const response = await request(url, { ...headers, Range: "bytes=0-0" }, signal);
    const total = /^bytes 0-0\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "");
    if (response.status === 206 && total) {
      await response.body?.cancel();
      return new UrlSource(url, Number(total[1]), response.headers.get("ETag"), headers);
    }
    if (response.status === 416) throw new SourceError(`${url} is empty: choose another file.`);
    // The server sends the whole file whatever is asked: let the browser hold it (on disk if large).
    const name = decodeURIComponent(new URL(url).pathname.split("/").pop() || url);
    return new BlobSource(await response.blob(), name);
  }

  async read(
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<Uint8Array<ArrayBuffer>> {
    return collect(this.stream(offset, length, signal), length);
  }

  async *stream(offset: number, length: number, signal?: AbortSignal) {
    checkRange(this, offset, length);
    const end = offset + length;
    let tries = 0;
    for (let at = offset; at < end; ) {
      let answer: OpenAnswer | undefined;
      try {
        answer = await this.#answerAt(at, signal);
        while (at < end) {
          const piece = await answer.take(end - at);
          throwIfStopped(signal);
          at += piece.length;
          tries = 0;
          yield piece;
        }
        this.#answer = answer.at < this.size ? answer : undefined;
        answer = undefined;
      } catch (error) {
        throwIfStopped(signal);
        const final = error instanceof SourceError && "status" in error.details;
        if (final || tries++ === RETRIES) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS << tries));
      } finally {
        answer?.close();
      }
    }
  }

  /** Return the answer that is open at `at`, or ask for the rest of the file from there. */
  async #answerAt(at: number, signal?: AbortSignal): Promise<OpenAnswer> {
    const open = this.#answer;
    this.#answer = undefined;
    if (open && at >= open.at && at - open.at <= SKIP) {
      while (open.at < at) await open.take(at - open.at);
      return open;
    }
    open?.close();
    // No If-Range: it would make a cross-origin request need a preflight, which few hosts answer.
    const response = await request(this.url, { ...this.#headers, Range: `bytes=${at}-` }, signal);
    const expected = `bytes ${at}-${this.size - 1}/${this.size}`;
    const same = response.headers.get("ETag") === this.etag;
    if (response.status !== 206 || response.headers.get("Content-Range") !== expected || !same) {
      await response.body?.cancel();
      throw new SourceError(`${this.name} changed on its server while it was read: load it again.`, {
        status: response.status,
      });
    }
    return new OpenAnswer(at, response.body!);
  }

  close(): void {
    this.#answer?.close();
    this.#answer = undefined;
  }
}

async function request(
  url: string,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<Response> {
  let response: Response;
  try {
    // Kept by us or not at all: the HTTP cache would write every byte once more, and splits ranges.
    response = await fetch(url, { headers, cache: "no-store", ...(signal ? { signal } : {}) });
  } catch (error) {
    throwIfStopped(signal);
    throw new SourceError(`${url} cannot be reached (${String(error)}): check the address and the network.`);
  }
  if (!response.ok && response.status !== 416) {
    await response.body?.cancel();
    const { status, statusText } = response;
    const closed = status === 401 || status === 403;
    const advice = closed ? "give an access token in the option headers" : "check the address";
    throw new SourceError(`${url} answered ${status} ${statusText}: ${advice}.`, { status });
  }
  return response;
}

/** Read a body in pieces of up to 1 MiB, reusing one buffer where the body is a byte stream. */
async function* pieces(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let reader: ReadableStreamBYOBReader;
  try {
    reader = body.getReader({ mode: "byob" });
  } catch {
    yield* body as unknown as AsyncIterable<Uint8Array<ArrayBuffer>>;
    return;
  }
  let buffer = new ArrayBuffer(PIECE);
  try {
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(buffer), { min: PIECE } as never);
      if (value?.byteLength) yield value as Uint8Array<ArrayBuffer>;
      if (done || !value) return;
      buffer = value.buffer as ArrayBuffer;
    }
  } catch (error) {
    throw new SourceError(`The connection broke (${String(error)}): try again.`);
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
