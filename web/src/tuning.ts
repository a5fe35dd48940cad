/** What the client says of tuning: options, events, and the records that a site may ship. */

import type { Connection } from "./connection.ts";
import { TilewrightError } from "./errors.ts";

/** How to tune. */
export interface TuneOptions {
  /** Seconds of measuring, 25 where left out. */
  budget?: number;
  /** Share of the time that the device may be kept busy while nothing is generated, 0.5 where left out. */
  share?: number;
  onProgress?: (event: TuningEvent) => void;
  /** Pauses: what was found until then is kept, and the next `tune` goes on from there. */
  signal?: AbortSignal;
}

/** Progress of a kernel, or (`kernel` empty) of a whole step. */
export interface TuningEvent {
  /** Kernels that are done, of how many. */
  finished: number;
  total: number;
  /** The step: `decode`, `prefill` or `embed`. */
  workload: string;
  kernel: string;
  /** The choice so far. */
  tuning: string;
  /** Candidates timed, in the space, and thrown out because they were wrong or did not compile. */
  tried: number;
  candidates: number;
  rejected: number;
  /** Seconds of one dispatch with the choice, with the default choice, with the naive kernel. */
  seconds: number;
  default_seconds: number;
  naive_seconds: number;
  /** Share of the whole step, 0 where it was not measured. */
  share: number;
  bytes_per_s: number;
  flops_per_s: number;
  /** How near it comes to the device's measured bandwidth or arithmetic, whichever is nearer. */
  roofline?: number;
  done: boolean;
  /** There was a record: nothing was measured. */
  known: boolean;
}

export interface TuningResult {
  seconds: number;
  /** Measurements made; 0 where every record was there. */
  bursts: number;
  records: number;
  /** The device's measured ceilings. */
  ceilings: { bytes_per_s: number; flops_per_s: number } | null;
}

/** Records as they are shipped with a site: the document, its text, or its address. */
export type RecordsSource = string | URL | Record<string, unknown>;

/** Return the text of records; null where an address gives none, which only costs time. */
export async function recordsText(source: RecordsSource, signal?: AbortSignal): Promise<string | null> {
  if (!(source instanceof URL) && typeof source === "object") return JSON.stringify(source);
  if (typeof source === "string" && source.trimStart().startsWith("{")) return source;
  try {
    const response = await fetch(new URL(source, document.baseURI), signal ? { signal } : {});
    if (response.ok) return await response.text();
    console.warn(`Tuning records: ${source} answered ${response.status}`);
  } catch (error) {
    signal?.throwIfAborted();
    console.warn(`Tuning records: ${source} cannot be read: ${String(error)}`);
  }
  return null;
}

/** Run the tuner over a connection. */
export async function tune(connection: Connection, options: TuneOptions): Promise<TuningResult> {
  const { onProgress, signal, ...message } = options;
  const answer = await connection.request(
    { type: "tune", ...message },
    {
      signal,
      onProgress: ({ done, total, result }) =>
        onProgress?.({ ...(result as unknown as TuningEvent), finished: done, total }),
    },
  );
  if (answer.type !== "result") throw new TilewrightError("internal", `got ${answer.type}`);
  return answer.value as unknown as TuningResult;
}

/** Tune, and only warn where that fails: without it the model merely runs slower. */
export function tuneInBackground(connection: Connection, options: TuneOptions): void {
  tune(connection, options).catch((error: unknown) => {
    const stopped = options.signal?.aborted || (error instanceof TilewrightError && error.code === "cancelled");
    if (!stopped) console.warn(`Not tuned: ${String(error)}`);
  });
}

/** Ask for all records, after adding some where they are given. */
export async function exchangeRecords(
  connection: Connection,
  records?: string,
): Promise<{ document: string; taken: number; records: number }> {
  const answer = await connection.request({ type: "records", ...(records === undefined ? {} : { records }) });
  if (answer.type !== "result") throw new TilewrightError("internal", `got ${answer.type}`);
  return answer.value as { document: string; taken: number; records: number };
}
