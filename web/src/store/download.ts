/**
 * Fetches the missing bytes of one file: what somebody waits for first, then all the rest, over
 * several connections. A connection that breaks goes on at the byte where it was.
 *
 * Knows nothing of where the bytes are kept (`write`), nor of digests.
 */

import { SourceError, TilewrightError, throwIfStopped } from "../errors.ts";
import { ask, PACE, type Pace, Patience } from "./http.ts";
import { addRange, dropRange, firstGap, type Ranges } from "./ranges.ts";
import { headersFor, type Remote } from "./remote.ts";

/** Connections at once: from the first number, as long as more are faster, up to the second. */
const FEWEST = 4;
const MOST = 8;
/** How long a number of connections is tried before another one is. */
const TRIAL_MS = 1000;
/** Bytes fetched ahead of a reader of small parts; doubles while the reader goes on. */
const AHEAD = 256 * 1024;
const MOST_AHEAD = 4 * 1024 * 1024;
/** A connection that says nothing for so long is given up. */
const SILENCE_MS = 30_000;
const PIECE = 256 * 1024;

export interface DownloadOptions {
  /** Bytes per request. */
  block: number;
  pace?: Pace;
  /** Told of every piece, after it was written. */
  onPiece?: (bytes: number) => void;
  /** At most so many missing bytes are fetched ahead of what was asked for; default: all. */
  ahead?: number;
}

interface Waiter {
  from: number;
  to: number;
  resolve(): void;
  reject(error: Error): void;
}

type Write = (at: number, bytes: Uint8Array<ArrayBuffer>) => void | Promise<void>;

export class Download {
  readonly #remote: Remote;
  readonly #have: Ranges;
  readonly #write: Write;
  readonly #options: DownloadOptions;
  readonly #stop = new AbortController();
  /** Present or being fetched. */
  readonly #claimed: Ranges;
  #waiters: Waiter[] = [];
  #active = 0;
  #position = 0;
  #running = false;
  #ahead = AHEAD;
  #failed: Error | undefined;
  readonly #crew = new Crew();

  /** `have` is kept up to date: bytes are added after they were written. */
  constructor(remote: Remote, have: Ranges, write: Write, options: DownloadOptions) {
    this.#remote = remote;
    this.#have = have;
    this.#claimed = have.map(([from, to]) => [from, to]);
    this.#write = write;
    this.#options = options;
    if (remote.first && remote.ranges) this.#takeFirst(remote.first);
  }

  /** Whether single parts can be asked for again. */
  get canRefetch(): boolean {
    return this.#remote.ranges;
  }

  /** Connections in use and allowed. */
  get connections(): { active: number; limit: number } {
    return { active: this.#active, limit: this.#crew.limit };
  }

  /** Somebody reads here now: what follows is fetched first. */
  reading(at: number): void {
    this.#position = at;
  }

  /** Resolve when the bytes are there. Raises SourceError when they cannot be had. */
  async need(from: number, to: number, signal?: AbortSignal): Promise<void> {
    throwIfStopped(signal);
    if (!firstGap(this.#have, from, to)) {
      if (this.#running) this.#fill();
      return;
    }
    if (this.#failed) throw this.#failed;
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = { from, to, resolve, reject };
      this.#waiters.push(waiter);
      const stopped = () => {
        this.#waiters = this.#waiters.filter((item) => item !== waiter);
        reject(new TilewrightError("cancelled", "Stopped."));
      };
      signal?.addEventListener("abort", stopped, { once: true });
      this.#fill();
    });
  }

  /** From now on fetch everything, starting where somebody reads. */
  run(): void {
    this.#running = true;
    this.#fill();
  }

  /** Bytes are no longer there: they were bad, or memory is short. */
  forget(from: number, to: number): void {
    dropRange(this.#have, from, to);
    dropRange(this.#claimed, from, to);
  }

  close(): void {
    this.#failed ??= new TilewrightError("cancelled", "Stopped.");
    this.#stop.abort();
    this.#remote.first?.response.body?.cancel().catch(() => undefined);
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#failed);
  }

  #fill(): void {
    if (this.#failed) return;
    if (!this.#remote.ranges) {
      if (this.#active === 0 && firstGap(this.#have, 0, this.#remote.size)) this.#start(this.#whole());
      return;
    }
    while (this.#active < this.#crew.limit) {
      const job = this.#next();
      if (!job) return;
      addRange(this.#claimed, ...job);
      this.#start(this.#part(...job));
    }
  }

  #start(work: Promise<void>): void {
    this.#active += 1;
    work.then(
      () => {
        this.#active -= 1;
        this.#fill();
      },
      (error: unknown) => {
        this.#active -= 1;
        this.#failed ??= error instanceof Error ? error : new Error(String(error));
        this.#stop.abort();
        for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#failed);
      },
    );
  }

  /** Choose the next range to ask for. */
  #next(): [number, number] | undefined {
    const { size } = this.#remote;
    const { block, ahead = Infinity } = this.#options;
    for (const { from, to } of this.#waiters) {
      const gap = firstGap(this.#claimed, from, to);
      if (!gap) continue;
      const [start] = gap;
      const most = this.#running ? blockEnd(start, block) : Math.max(to, start + this.#ahead);
      if (!this.#running) this.#ahead = Math.min(this.#ahead * 2, MOST_AHEAD);
      return firstGap(this.#claimed, start, Math.min(most, size))!;
    }
    if (!this.#running) return undefined;
    const end = Math.min(size, this.#position + ahead);
    const gap = firstGap(this.#claimed, this.#position, end) ?? this.#behind(ahead);
    return gap && [gap[0], Math.min(gap[1], blockEnd(gap[0], block))];
  }

  #behind(ahead: number): [number, number] | undefined {
    return ahead === Infinity ? firstGap(this.#claimed, 0, this.#remote.size) : undefined;
  }

  /** The answer to the very first request has the file's first bytes. */
  #takeFirst({ response, to }: { response: Response; to: number }): void {
    this.#remote.first = undefined;
    const gap = firstGap(this.#have, 0, to);
    if (gap?.[0] !== 0 || gap[1] !== to) {
      response.body?.cancel().catch(() => undefined);
      return;
    }
    addRange(this.#claimed, 0, to);
    this.#start(this.#part(0, to, response));
  }

  /** Fetch one range, however often the connection breaks. */
  async #part(from: number, to: number, begun?: Response): Promise<void> {
    const patience = new Patience(this.#options.pace ?? PACE);
    let response = begun;
    for (let at = from; at < to; ) {
      const silence = new Silence(this.#stop.signal);
      try {
        response ??= await this.#ask(at, to, patience, silence.signal);
        for await (const piece of pieces(response.body!, silence)) {
          const part = piece.subarray(0, to - at);
          await this.#took(at, part);
          at += part.length;
          patience.reset();
          if (at === to) break;
        }
        if (at < to) throw broken(this.#remote.name);
      } catch (error) {
        await this.#mayGoOn(error, patience);
      } finally {
        silence.end();
        response = undefined;
      }
    }
  }

  async #ask(at: number, to: number, patience: Patience, signal: AbortSignal): Promise<Response> {
    const remote = this.#remote;
    const range = { Range: `bytes=${at}-${to - 1}` };
    const direct = remote.direct;
    let response: Response;
    try {
      const url = direct ?? remote.url;
      // No If-Range: it would make a cross-origin request need a preflight, which few hosts answer.
      const headers = { ...headersFor(remote, url), ...range };
      const onRefusal = () => this.#crew.refused();
      response = await ask(url, { headers, signal, patience, onRefusal });
    } catch (error) {
      const { status } = (error as SourceError).details ?? {};
      if (!direct || typeof status !== "number" || status >= 429) throw error;
      remote.direct = undefined; // a signed address that has expired
      return this.#ask(at, to, patience, signal);
    }
    if (!direct && response.redirected) remote.direct = response.url;
    const told = response.headers.get("Content-Range");
    const [, start, size] = /^bytes (\d+)-\d+\/(\d+)$/.exec(told ?? "") ?? [];
    const samePlace = told === null || (Number(start) === at && Number(size) === remote.size);
    const sameFile = response.headers.get("ETag") === remote.etag;
    if (response.status === 206 && samePlace && sameFile) return response;
    await response.body?.cancel();
    throw changed(remote.name, response.status);
  }

  /** Read the file of a server that knows no ranges, from its start, skipping what is there. */
  async #whole(): Promise<void> {
    const { name, size, url, headers } = this.#remote;
    const patience = new Patience(this.#options.pace ?? PACE);
    let first = this.#remote.first?.response;
    this.#remote.first = undefined;
    for (let at = 0; at < size; ) {
      const silence = new Silence(this.#stop.signal);
      at = 0;
      try {
        const response = first ?? (await ask(url, { headers, patience, signal: silence.signal }));
        first = undefined;
        if (response.headers.get("ETag") !== this.#remote.etag && this.#remote.etag !== null) {
          throw changed(name, response.status);
        }
        for await (const piece of pieces(response.body!, silence)) {
          if (at + piece.length > size) throw changed(name, response.status);
          await this.#tookNew(at, piece);
          at += piece.length;
        }
        if (at < size) throw broken(name);
      } catch (error) {
        await this.#mayGoOn(error, patience);
      } finally {
        silence.end();
      }
    }
  }

  async #tookNew(at: number, piece: Uint8Array<ArrayBuffer>): Promise<void> {
    const end = at + piece.length;
    for (let gap = firstGap(this.#have, at, end); gap; gap = firstGap(this.#have, gap[1], end)) {
      await this.#took(gap[0], piece.subarray(gap[0] - at, gap[1] - at));
    }
  }

  async #took(at: number, piece: Uint8Array<ArrayBuffer>): Promise<void> {
    throwIfStopped(this.#stop.signal);
    await this.#write(at, piece);
    addRange(this.#have, at, at + piece.length);
    this.#options.onPiece?.(piece.length);
    if (this.#crew.took(piece.length, this.#active)) this.#fill();
    this.#waiters = this.#waiters.filter((waiter) => {
      const waits = firstGap(this.#have, waiter.from, waiter.to) !== undefined;
      if (!waits) waiter.resolve();
      return waits;
    });
  }

  /** Wait and go on after what may pass; throw everything else. */
  async #mayGoOn(error: unknown, patience: Patience): Promise<void> {
    throwIfStopped(this.#stop.signal);
    if (error instanceof TilewrightError && error.details["reason"] !== "ended") throw error;
    const passing = error instanceof SourceError ? error : broken(this.#remote.name, String(error));
    if (!(error instanceof SourceError) && !isConnection(error)) throw error;
    await patience.again(passing, this.#stop.signal);
  }
}

/** What a body's reader throws when the connection is lost, and what `Silence` does. */
function isConnection(error: unknown): boolean {
  return error instanceof TypeError || error instanceof DOMException;
}

function broken(name: string, why = "it ended too early"): SourceError {
  const sentence = `The connection broke while ${name} was fetched (${why}): try again.`;
  return new SourceError(sentence, { reason: "ended" });
}

function changed(name: string, status: number): SourceError {
  return new SourceError(`${name} changed on its server while it was read: load it again.`, {
    status,
    reason: "changed",
  });
}

function blockEnd(at: number, block: number): number {
  return (Math.floor(at / block) + 1) * block;
}

/** Ends a request whose server says nothing any more. */
class Silence {
  readonly #stop = new AbortController();
  readonly signal: AbortSignal;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(outer: AbortSignal) {
    this.signal = AbortSignal.any([outer, this.#stop.signal]);
  }

  heard(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#stop.abort(), SILENCE_MS);
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#stop.abort();
  }
}

/** How many connections are worth having. */
class Crew {
  limit = FEWEST;
  #floor = FEWEST;
  #since = performance.now();
  #bytes = 0;
  #speed = 0;
  #grew = false;

  /** Count bytes; returns whether there may be one more connection now. */
  took(bytes: number, active: number): boolean {
    this.#bytes += bytes;
    const now = performance.now();
    if (now - this.#since < TRIAL_MS) return false;
    const speed = this.#bytes / (now - this.#since);
    const faster = speed > this.#speed * 1.1;
    const before = this.limit;
    if (active >= this.limit && (faster || this.limit < this.#floor)) this.limit += 1;
    else if (this.#grew && !faster) this.limit -= 1;
    this.limit = Math.min(Math.max(this.limit, 1), MOST);
    this.#grew = this.limit > before;
    this.#speed = speed;
    this.#since = now;
    this.#bytes = 0;
    return this.#grew;
  }

  /** The server asked for patience: half as many. */
  refused(): void {
    this.limit = Math.max(1, this.limit >> 1);
    this.#floor = this.limit;
  }
}

/** Read a body in pieces, reusing one buffer where the body is a byte stream. */
async function* pieces(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  silence: Silence,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  silence.heard();
  let reader: ReadableStreamBYOBReader;
  try {
    reader = body.getReader({ mode: "byob" });
  } catch {
    for await (const piece of body) {
      silence.heard();
      yield piece;
    }
    return;
  }
  let buffer = new ArrayBuffer(PIECE);
  try {
    for (;;) {
      const { done, value } = await reader.read(new Uint8Array(buffer));
      silence.heard();
      if (value?.byteLength) yield value as Uint8Array<ArrayBuffer>;
      if (done || !value) return;
      buffer = value.buffer as ArrayBuffer;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
