/**
 * Where model bytes come from in the browser: a URL, a Blob or File, or a file in the origin
 * private file system. Every source can read a small range and stream a large one in pieces.
 *
 * Knows nothing about the GPU, about models, or about what is stored where (`storage.ts` does).
 */

import { SourceError, throwIfStopped, TilewrightError } from "./errors.ts";

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
  readonly #blob: Blob;

  constructor(blob: Blob, name = blob instanceof File ? blob.name : "blob") {
    this.#blob = blob;
    this.name = name;
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

/** A URL whose server answers Range requests; one that does not is read once and kept as a Blob. */
export class UrlSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly etag: string | null;
  readonly url: string;
  readonly #headers: Record<string, string>;

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
    if (length === 0) return;
    const range = `bytes=${offset}-${offset + length - 1}`;
    const headers: Record<string, string> = { ...this.#headers, Range: range };
    if (this.etag && !this.etag.startsWith("W/")) headers["If-Range"] = this.etag;
    const response = await request(this.url, headers, signal);
    const expected = `bytes ${offset}-${offset + length - 1}/${this.size}`;
    if (response.status !== 206 || response.headers.get("Content-Range") !== expected) {
      await response.body?.cancel();
      throw new SourceError(`${this.name} changed on its server while it was read: load it again.`);
    }
    let received = 0;
    for await (const piece of pieces(response.body!, signal)) {
      received += piece.length;
      yield piece;
    }
    if (received !== length) {
      throw new SourceError(
        `The connection ended after ${received} of ${length} bytes of ${this.name}: try again.`,
      );
    }
  }

  close(): void {}
}

async function request(
  url: string,
  headers: Record<string, string>,
  signal?: AbortSignal,
): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { headers, ...(signal ? { signal } : {}) });
  } catch (error) {
    throwIfStopped(signal);
    throw new SourceError(`${url} cannot be reached (${String(error)}): check the address and the network.`);
  }
  if (!response.ok && response.status !== 416) {
    await response.body?.cancel();
    throw new SourceError(`${url} answered ${response.status} ${response.statusText}: check the address.`, {
      status: response.status,
    });
  }
  return response;
}

/** Read a body in pieces of up to 1 MiB, reusing one buffer where the body is a byte stream. */
async function* pieces(body: ReadableStream<Uint8Array<ArrayBuffer>>, signal?: AbortSignal) {
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
      throwIfStopped(signal);
      if (value?.byteLength) yield value as Uint8Array<ArrayBuffer>;
      if (done || !value) return;
      buffer = value.buffer as ArrayBuffer;
    }
  } catch (error) {
    throwIfStopped(signal);
    if (error instanceof TilewrightError) throw error;
    throw new SourceError(`The connection broke (${String(error)}): try again.`);
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
