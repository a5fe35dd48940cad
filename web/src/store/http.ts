/**
 * One request at a time, as hosts of models want to be asked: refusals become sentences, what may
 * pass is tried again with growing pauses, and `Retry-After` is kept to.
 */

import { SourceError, throwIfStopped } from "../errors.ts";

/** How patient the store is; tests are less so. */
export interface Pace {
  /** Further tries without a new byte before giving up. */
  retries: number;
  /** The first pause in milliseconds; it doubles. */
  pauseMs: number;
}

export const PACE: Pace = { retries: 5, pauseMs: 300 };
/** No pause is longer, whatever a server asks for. */
const LONGEST_MS = 120_000;

/** Why a host refused, as `details.reason` of the error. */
export type Reason =
  | "gated"
  | "missing"
  | "rate_limited"
  | "server"
  | "network"
  | "changed"
  | "corrupt"
  | "refused";

/** Make the error for an answer that is no success. */
function refusal(url: string, response: Response): SourceError {
  const { status } = response;
  const code = response.headers.get("X-Error-Code") ?? "";
  const name = fileName(url);
  const [reason, sentence] = ((): [Reason, string] => {
    if (code === "GatedRepo" || (status === 403 && code === "")) {
      return [
        "gated",
        `${name} is in a gated repository: accept its terms on its page at the hub, and give an access token that may read it.`,
      ];
    }
    if (code === "RevisionNotFound") return ["missing", `The revision of ${name} does not exist (any more): name another one.`];
    if (code === "EntryNotFound") return ["missing", `There is no file ${name} in its repository: look at the list of its files.`];
    if (status === 401 || code === "RepoNotFound") {
      return [
        "gated",
        `The hub does not show ${name} (${status}): the repository does not exist, or it is private or gated and needs an access token.`,
      ];
    }
    if (status === 403) return ["gated", `The server refuses ${name} (403): give an access token, or headers.`];
    if (status === 404 || status === 410) return ["missing", `${url} does not exist (${status}): check the address.`];
    if (status === 429) return ["rate_limited", `The server of ${name} asks for patience (429): too many requests came from this address, try again in a few minutes.`];
    if (status >= 500) return ["server", `The server of ${name} has a problem (${status}): try again later.`];
    return ["refused", `${url} answered ${status} ${response.statusText}: check the address.`];
  })();
  return new SourceError(sentence, { status, reason });
}

/** Whether asking again may help. */
function mayPass(status: number): boolean {
  return status === 408 || status === 429 || status >= 500;
}

/** Milliseconds that an answer asks to wait: seconds or a date. */
export function retryAfter(value: string | null, now = Date.now()): number | undefined {
  if (value === null) return undefined;
  const seconds = /^\d+$/.test(value.trim()) ? Number(value) : (Date.parse(value) - now) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds * 1000, 0), LONGEST_MS) : undefined;
}

/** Counts the tries since something last went well, and waits between them. */
export class Patience {
  #tries = 0;
  readonly #pace: Pace;

  constructor(pace: Pace) {
    this.#pace = pace;
  }

  /** A byte came. */
  reset(): void {
    this.#tries = 0;
  }

  /** Wait before the next try, or throw `error` when there were enough. */
  async again(error: SourceError, signal?: AbortSignal, asked?: number): Promise<void> {
    throwIfStopped(signal);
    if (this.#tries === this.#pace.retries) throw error;
    const own = this.#pace.pauseMs * 2 ** this.#tries * (0.75 + Math.random() / 2);
    this.#tries += 1;
    await pause(Math.min(Math.max(own, asked ?? 0), LONGEST_MS), signal);
  }
}

/** Wait; ends early when `signal` fires (throws) or the network comes back. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal?.removeEventListener("abort", end);
      try {
        throwIfStopped(signal);
        resolve();
      } catch (error) {
        reject(error as Error);
      }
    };
    const timer = setTimeout(end, ms);
    addEventListener("online", end);
    signal?.addEventListener("abort", end);
  });
}

/** What `ask` needs besides the address. */
export interface Asking {
  headers?: Record<string, string>;
  signal?: AbortSignal | undefined;
  pace?: Pace;
  /** Shared over several requests of one download. */
  patience?: Patience;
  /** Told when a server says that it has too much to do. */
  onRefusal?: () => void;
}

/** Ask until there is an answer that succeeds. Raises SourceError with `details.status`, `.reason`. */
export async function ask(url: string, asking: Asking = {}): Promise<Response> {
  const { headers = {}, signal, pace = PACE, patience = new Patience(pace) } = asking;
  for (;;) {
    throwIfStopped(signal);
    let response: Response;
    try {
      // Kept by us or not at all: the HTTP cache would write every byte once more, and splits ranges.
      response = await fetch(url, { headers, cache: "no-store", ...(signal ? { signal } : {}) });
    } catch (error) {
      throwIfStopped(signal);
      const sentence = `${url} cannot be reached (${String(error)}): check the address and the network.`;
      await patience.again(new SourceError(sentence, { reason: "network" }), signal);
      continue;
    }
    if (response.ok || response.status === 416) return response;
    await response.body?.cancel().catch(() => undefined);
    const error = refusal(url, response);
    if (!mayPass(response.status)) throw error;
    if (response.status === 429 || response.status === 503) asking.onRefusal?.();
    await patience.again(error, signal, retryAfter(response.headers.get("Retry-After")));
  }
}

/** The last component of an address, as people would call the file. */
export function fileName(url: string): string {
  try {
    return decodeURIComponent(new URL(url).pathname.split("/").pop() || url);
  } catch {
    return url;
  }
}

/** The address of the next page of a list, from its `Link` header (RFC 8288). */
export function nextPage(link: string | null, base: string): string | null {
  for (const part of (link ?? "").split(/,(?=\s*<)/)) {
    const [, target, parameters] = /^\s*<([^>]*)>(.*)$/.exec(part) ?? [];
    if (target && /;\s*rel="?next"?/i.test(parameters ?? "")) return new URL(target, base).href;
  }
  return null;
}
