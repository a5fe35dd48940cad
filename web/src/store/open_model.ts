/** What a load names (an address, an `hf:` reference, Files) as sources of bytes. */

import { SourceError } from "../errors.ts";
import { StoreConnection, type StoredSource } from "./connect.ts";
import type { Looking } from "./hub.ts";
import { BlobSource, type ByteSource, mainFile, siblingNames } from "./source.ts";

/** What is to be opened: exactly one of `url` and `files`. */
export interface ModelPlace extends Looking {
  /** An address, or an `hf:` reference. */
  url?: string;
  files?: readonly Blob[];
  /** Of the file that is named, in hexadecimal. */
  sha256?: string;
  /** Under which a load of it may have left something for the next one. */
  key?: string;
}

let shared: StoreConnection | undefined;

/** The store of this thread; started when it is first needed. */
export function theStore(): StoreConnection {
  shared ??= new StoreConnection();
  return shared;
}

/** All sources of one model; closed together. */
export class OpenedModel {
  readonly main: ByteSource;
  readonly #opened: StoredSource[];

  constructor(main: ByteSource, opened: StoredSource[]) {
    this.main = main;
    this.#opened = opened;
  }

  /** Resolve when every file is what it should be; tells whether all are kept for the next visit. */
  async settle(): Promise<boolean> {
    await Promise.all(this.#opened.map((source) => source.settle()));
    return this.#opened.length > 0 && this.#opened.every((source) => source.stored);
  }

  close(): void {
    for (const source of this.#opened.splice(0)) source.close();
  }
}

/** Open a model. Raises SourceError, TilewrightError. */
export async function openModel(place: ModelPlace): Promise<OpenedModel> {
  const { files, url } = place;
  if (files) return openFiles(files);
  if (url === undefined) throw new SourceError("A load needs an address or files.");
  return url.startsWith("hf:") ? openReference(url, place) : openAddress(url, place);
}

function openFiles(files: readonly Blob[]): OpenedModel {
  const named = files.filter((file): file is File => file instanceof File);
  if (files.length === 1) return new OpenedModel(new BlobSource(files[0]!), []);
  const main = mainFile(named.map((file) => file.name));
  return new OpenedModel(new BlobSource(named.find((file) => file.name === main)!, named), []);
}

async function openReference(reference: string, place: ModelPlace): Promise<OpenedModel> {
  const { headers = {}, signal, pace, hub, budget } = place;
  const looking: Looking = {
    headers,
    ...(signal ? { signal } : {}),
    ...(pace ? { pace } : {}),
    ...(hub === undefined ? {} : { hub }),
    ...(budget === undefined ? {} : { budget }),
  };
  const store = theStore();
  const found = await store.resolve(reference, looking);
  const opened: StoredSource[] = [];
  const open = async (path: string): Promise<StoredSource> => {
    const known = [found.main, ...found.files].find((file) => file.path === path);
    const digest = path === found.main.path ? (place.sha256 ?? known?.sha256) : known?.sha256;
    const source = await store.open(
      {
        url: found.base + path.split("/").map(encodeURIComponent).join("/"),
        headers,
        ...(pace ? { pace } : {}),
        ...(digest ? { sha256: digest } : {}),
        ...(known?.size ? { size: known.size } : {}),
      },
      signal ?? undefined,
      find,
      path === found.main.path ? place.key : undefined,
    );
    opened.push(source);
    return source;
  };
  const find = async (name: string): Promise<ByteSource | null> => {
    const listed = found.files.length > 0;
    if (listed && !found.files.some((file) => file.path === name)) return null;
    return listed ? open(name) : orNothing(open(name));
  };
  return new OpenedModel(await open(found.main.path), opened);
}

async function openAddress(url: string, place: ModelPlace): Promise<OpenedModel> {
  const { headers = {}, signal, pace, sha256, key } = place;
  const opened: StoredSource[] = [];
  const open = async (address: string, digest?: string): Promise<StoredSource> => {
    const request = { url: address, headers, ...(pace ? { pace } : {}), ...(digest ? { sha256: digest } : {}) };
    const source = await theStore().open(request, signal ?? undefined, find, address === url ? key : undefined);
    opened.push(source);
    return source;
  };
  const find = (name: string) => orNothing(open(new URL(encodeURI(name), url).href));
  return new OpenedModel(await open(url, sha256), opened);
}

/** A file that its server does not have is no error: many are optional. */
async function orNothing(opening: Promise<ByteSource>): Promise<ByteSource | null> {
  try {
    return await opening;
  } catch (error) {
    if (error instanceof SourceError && error.details["reason"] === "missing") return null;
    throw error;
  }
}

/** Whether a name is of a set of several files. */
export function isSharded(name: string): boolean {
  return siblingNames(name).length > 1;
}
