/** What a server says about a file, learned together with the file's first bytes. */

import { SourceError } from "../errors.ts";
import { ask, type Asking, fileName } from "./http.ts";

/** Bytes asked for at first: enough for many headers, little enough to be no loss. */
const HEAD = 64 * 1024;

/** A file on a server. */
export interface Remote {
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly name: string;
  readonly size: number;
  readonly etag: string | null;
  /** Whether the server answers Range requests. */
  readonly ranges: boolean;
  /** Where redirects led to: asked directly while it works. */
  direct: string | undefined;
  /** The answer to the first request, whose body starts at byte 0; taken once. */
  first: { response: Response; to: number } | undefined;
}

/** Ask for the first bytes of a file. Raises SourceError. */
export async function probe(url: string, asking: Asking = {}): Promise<Remote> {
  const headers = asking.headers ?? {};
  const range = { Range: `bytes=0-${HEAD - 1}` };
  const response = await ask(url, { ...asking, headers: { ...headers, ...range } });
  const name = fileName(url);
  const common = { url, headers, name, etag: response.headers.get("ETag") };
  const direct = response.redirected ? response.url : undefined;
  if (response.status === 416) throw new SourceError(`${url} is empty: choose another file.`);
  if (response.status === 206) {
    const told = response.headers.get("Content-Range");
    const [, last, whole] = /^bytes 0-(\d+)\/(\d+)$/.exec(told ?? "") ?? [];
    if (whole) {
      const first = { response, to: Math.min(Number(last) + 1, Number(whole)) };
      return { ...common, size: Number(whole), ranges: true, direct, first };
    }
    // The server does not let pages of other origins read Content-Range; Content-Length they may.
    await response.body?.cancel();
    const size = told === null ? await plainLength(url, asking) : null;
    if (size === null) throw new SourceError(`${url} does not say how long it is: try another host.`);
    return { ...common, size, ranges: true, direct, first: undefined };
  }
  const encoding = response.headers.get("Content-Encoding") ?? "identity";
  const length = response.headers.get("Content-Length");
  if (length !== null && encoding === "identity") {
    const first = { response, to: Number(length) };
    return { ...common, size: Number(length), ranges: false, direct, first };
  }
  // Nobody says how long it is: let the browser hold it (on disk if large), then look.
  const blob = await response.blob();
  const first = { response: new Response(blob), to: blob.size };
  return { ...common, size: blob.size, ranges: false, direct, first };
}

async function plainLength(url: string, asking: Asking): Promise<number | null> {
  const response = await ask(url, asking);
  await response.body?.cancel();
  const length = response.headers.get("Content-Length");
  return length === null ? null : Number(length);
}

/** Headers for where a redirect led: a token is for the host it was given for. */
export function headersFor(remote: Remote, url: string): Record<string, string> {
  if (new URL(url).origin === new URL(remote.url).origin) return remote.headers;
  const others = Object.entries(remote.headers);
  return Object.fromEntries(others.filter(([name]) => name.toLowerCase() !== "authorization"));
}
