/**
 * The errors that reach a page: `code` is stable and the same as in `tilewright/errors.py`.
 */

export class TilewrightError extends Error {
  readonly code: string;
  readonly details: Record<string, unknown>;

  constructor(code: string, message: string, details: Record<string, unknown> = {}) {
    super(message);
    this.name = "TilewrightError";
    this.code = code;
    this.details = details;
  }
}

/** Bytes could not be read: missing file, network, wrong length, changed while reading. */
export class SourceError extends TilewrightError {
  constructor(message: string, details: Record<string, unknown> = {}) {
    super("source_unavailable", message, details);
  }
}

/**
 * Throw the error `cancelled` when a signal has fired. Not the signal's own reason: Pyodide 314
 * never settles its future for a DOMException that a script made.
 */
export function throwIfStopped(signal: AbortSignal | undefined | null): void {
  if (signal?.aborted) throw new TilewrightError("cancelled", "Stopped.");
}
