/**
 * What a later visit starts Python from, in one file of the origin private file system: the memory
 * of a Python that has imported the engine, and the files that it may still read (library, wheels).
 *
 * One read of 27 MB takes 20 ms there; the Cache API takes three times, HTTP's cache ten times as
 * long. Where there is no such file system, every start is a plain one.
 */

import { asked, openHandle } from "./store/backing.ts";

const FOLDER = "tilewright-start";
const PAGE = 65536;

export type Bytes = Uint8Array<ArrayBuffer>;

/** Return the parts kept under these names, in order; undefined where there is nothing sound. */
export async function keptParts(names: readonly string[]): Promise<Bytes[] | undefined> {
  try {
    const folder = await asked(await navigator.storage.getDirectory(), (root) => root.getDirectoryHandle(FOLDER));
    return parted(await whole(folder, fileOf(names)), names);
  } catch {
    return undefined; // nothing is kept, or storage is blocked
  }
}

/** Keep parts for the next visit, in place of older ones; `fetched` gives them if they are not there. */
export async function keepParts(names: readonly string[], fetched: () => Promise<Bytes[]>): Promise<void> {
  const root = await navigator.storage.getDirectory();
  const folder = await asked(root, (it) => it.getDirectoryHandle(FOLDER, { create: true }));
  const own = fileOf(names);
  const keys = (folder as unknown as { keys(): AsyncIterable<string> }).keys();
  for await (const name of keys) {
    if (name === own && (await hasHeader(folder, own))) return;
    await folder.removeEntry(name).catch(() => undefined); // another tab reads it: next time
  }
  const parts = await fetched();
  const header = new TextEncoder().encode(JSON.stringify({ names, lengths: parts.map((part) => part.length) }));
  const handle = await openHandle(folder, own, "readwrite");
  try {
    let at = 4 + header.length;
    for (const part of parts) {
      if (handle.write(part, { at }) !== part.length) throw new Error("no more room");
      at += part.length;
    }
    handle.flush();
    // The header comes last: without it the file counts for nothing.
    const start = new Uint8Array(4 + header.length);
    new DataView(start.buffer).setUint32(0, header.length, true);
    start.set(header, 4);
    handle.write(start, { at: 0 });
  } catch (error) {
    handle.truncate(0);
    throw error;
  } finally {
    handle.close();
  }
}

/** Forget what turned out to be unusable here. */
export async function forgetParts(): Promise<void> {
  await asked(await navigator.storage.getDirectory(), (root) => root.removeEntry(FOLDER, { recursive: true }));
}

/** Whether a file was written to its end: the header, which came last, is there. */
async function hasHeader(folder: FileSystemDirectoryHandle, name: string): Promise<boolean> {
  const file = await asked(await asked(folder, (it) => it.getFileHandle(name)), (handle) => handle.getFile());
  const start = new Uint8Array(await file.slice(0, 4).arrayBuffer());
  return start.some((byte) => byte > 0);
}

function fileOf(names: readonly string[]): string {
  return names[0]!.split("/").at(-1)!;
}

async function whole(folder: FileSystemDirectoryHandle, name: string): Promise<Bytes> {
  // Asked for first: `openHandle` for reading does not tell a missing file from one in use.
  const file = await asked(folder, (it) => it.getFileHandle(name));
  try {
    const handle = await openHandle(folder, name, "read-only");
    try {
      const bytes = new Uint8Array(handle.getSize());
      handle.read(bytes, { at: 0 });
      return bytes;
    } finally {
      handle.close();
    }
  } catch {
    return new Uint8Array(await (await asked(file, (handle) => handle.getFile())).arrayBuffer());
  }
}

function parted(file: Bytes, names: readonly string[]): Bytes[] {
  const length = new DataView(file.buffer).getUint32(0, true);
  let at = 4 + length;
  const header = JSON.parse(new TextDecoder().decode(file.subarray(4, at))) as { names: string[]; lengths: number[] };
  const same = header.names.length === names.length && header.names.every((name, index) => name === names[index]);
  const parts = header.lengths.map((size) => file.subarray(at, (at += size)));
  if (!same || at !== file.length) throw new Error("another version, or not whole");
  return parts;
}

/** Put the zero pages back that the build has left out (`without_zeros` of `runtime_folder.py`). */
export function expanded(snapshot: Bytes): Bytes {
  const numbers = new DataView(snapshot.buffer, snapshot.byteOffset, snapshot.byteLength);
  const number = (index: number) => numbers.getUint32(4 * index, true);
  const result = new Uint8Array(number(0));
  let from = 8 + 8 * number(1);
  for (let run = 0; run < number(1); run++) {
    const end = from + number(3 + 2 * run);
    result.set(snapshot.subarray(from, end), number(2 + 2 * run));
    from = end;
  }
  return result;
}

/** Make the memory of a fresh Python large enough: Pyodide itself expects it to be. */
export function makeRoom(exports: WebAssembly.Exports, snapshot: Uint8Array): void {
  const memory = exports["memory"];
  if (!(memory instanceof WebAssembly.Memory)) return;
  const missing = snapshot.length - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
}
