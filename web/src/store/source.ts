/**
 * What the engine reads a model from, and the simplest such thing: a Blob or File.
 *
 * Knows nothing about the GPU, about models, or about what is stored where (`store.ts` does).
 */

import { SourceError, throwIfStopped } from "../errors.ts";

/** Size of the pieces in which bytes move. */
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
  /** The file of that name beside this one; null where there is none. */
  find?(name: string): Promise<ByteSource | null>;
  /** Whether the bytes are in local storage for the next visit. */
  readonly stored?: boolean;
  /** Whether the bytes can be read again without a network: then layers may be read for every step. */
  readonly atHand?: boolean;
  /** What an earlier load of it left for this one. */
  readonly begun?: object | undefined;
  /** Resolves when everything is there and, where a digest is known, was found to match it. */
  settle?(): Promise<void>;
  close(): void;
}

/** Refuse ranges outside a source. */
export function checkRange(
  source: { name: string; size: number },
  offset: number,
  length: number,
): void {
  if (offset < 0 || length < 0 || offset + length > source.size) {
    throw new SourceError(
      `${source.name} ends at byte ${source.size}, but bytes ${offset} to ${offset + length} were ` +
        "asked for: the file is incomplete or damaged, fetch it again.",
    );
  }
}

/** A Blob, or a File that the user dropped or picked; `others` are the files dropped with it. */
export class BlobSource implements ByteSource {
  readonly name: string;
  readonly size: number;
  readonly atHand = true;
  readonly #blob: Blob;
  readonly #others: readonly File[];

  constructor(blob: Blob, others: readonly File[] = []) {
    this.#blob = blob;
    this.#others = others;
    this.name = blob instanceof File ? blob.name : "blob";
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

  async find(name: string): Promise<ByteSource | null> {
    const found = this.#others.find((file) => file.name === name.split("/").at(-1));
    return found ? new BlobSource(found, this.#others) : null;
  }

  close(): void {}
}

const NUMBERED = /^(.*)-(\d{5})-of-(\d{5})(\.\w+)$/;

/** The names of the set that a file such as `x-00001-of-00003.gguf` belongs to, itself included. */
export function siblingNames(name: string): string[] {
  const [, stem, number, count, suffix] = NUMBERED.exec(name) ?? [];
  if (!count || Number(number) < 1 || Number(number) > Number(count)) return [name];
  return Array.from({ length: Number(count) }, (_, index) => {
    return `${stem}-${String(index + 1).padStart(5, "0")}-of-${count}${suffix}`;
  });
}

/**
 * Return the name that says what the model in a folder is: the first file of one GGUF set, or the
 * index or the single file of a safetensors model. Throws a sentence where there is none, or several.
 */
export function mainFile(names: readonly string[]): string {
  for (const certain of ["model.safetensors.index.json", "model.safetensors"]) {
    if (names.includes(certain)) return certain;
  }
  const sets = new Set(
    names.filter((name) => /\.gguf$/i.test(name) && !isHelper(name)).map((name) => siblingNames(name)[0]!),
  );
  const tensors = names.filter((name) => name.endsWith(".safetensors"));
  if (sets.size === 1) {
    const [first] = sets;
    if (!names.includes(first!)) throw new SourceError(`${first} is missing: choose all files of the model.`);
    return first!;
  }
  if (sets.size > 1) {
    throw new SourceError(`There are several models: choose one of ${[...sets].slice(0, 5).join(", ")}.`);
  }
  if (tensors.length === 1 && names.includes("config.json")) return tensors[0]!;
  throw new SourceError(
    "There is no model here: a .gguf file is needed, or config.json, model.safetensors and tokenizer.json.",
  );
}

/** Whether a GGUF file is no language model of its own: a vision projector, a calibration matrix. */
export function isHelper(path: string): boolean {
  return /(^|[-_./])(mmproj|imatrix)/i.test(path);
}
