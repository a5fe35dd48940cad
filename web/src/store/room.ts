/**
 * Who uses a stored file, and room for new ones: Web Locks say which tab writes or reads what; under
 * the browser's quota the file that was used longest ago gives way, unless it is pinned or in use.
 */

import { throwIfStopped } from "../errors.ts";
import { type Entry, FOLDER, heldBytes, type Shelf, storedName } from "./shelf.ts";

/** Kept free besides what is asked for: entries, snapshots, conversations. */
const SPARE = 16 * 1024 * 1024;
/** How often a file that another tab writes is looked at, and how long it may stand still. */
const WATCH_MS = 100;
const STALL_MS = 20_000;

type Release = () => void;

function take(name: string, mode: LockMode): Promise<Release | undefined> {
  return new Promise((resolve, reject) => {
    const held = (lock: Lock | null) => {
      if (!lock) return resolve(undefined);
      return new Promise<void>((release) => resolve(release));
    };
    navigator.locks.request(name, { ifAvailable: true, mode }, held).catch(reject);
  });
}

/** Take the right to write a file; undefined when another tab (or an older worker) has it. */
export function takeWriting(name: string): Promise<Release | undefined> {
  return take(`${FOLDER}/${name}`, "exclusive");
}

/** Say that a file is read, so that it is not removed. */
export function takeReading(name: string): Promise<Release | undefined> {
  return take(`${FOLDER}/${name}/read`, "shared");
}

/** Do something with a file that nobody uses; returns whether that was so. */
export async function whileUnused(name: string, action: () => Promise<void>): Promise<boolean> {
  const writing = await takeWriting(name);
  const reading = writing && (await take(`${FOLDER}/${name}/read`, "exclusive"));
  try {
    if (reading) await action();
    return reading !== undefined;
  } finally {
    reading?.();
    writing?.();
  }
}

/** Wait until a file's writer is done (`true`), or has written nothing for a while. */
export async function writerDone(shelf: Shelf, name: string, signal?: AbortSignal): Promise<boolean> {
  let size = await shelf.growth(name);
  for (let silent = 0; silent < STALL_MS; silent += WATCH_MS) {
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    throwIfStopped(signal);
    const unlock = await takeWriting(name);
    if (unlock) {
      unlock();
      return true;
    }
    const now = await shelf.growth(name);
    if (now !== size) silent = 0;
    size = now;
  }
  return false;
}

/** How much this origin may keep and keeps; null where the browser does not say. */
export async function quota(): Promise<{ usage: number; quota: number } | null> {
  try {
    const { usage, quota } = await navigator.storage.estimate();
    return usage === undefined || quota === undefined ? null : { usage, quota };
  } catch {
    return null;
  }
}

/** Remove files, the one used longest ago first, until `bytes` more fit; returns whether they do. */
export async function makeRoom(shelf: Shelf, bytes: number, keep: string): Promise<boolean> {
  const state = await quota();
  if (!state) return true; // nobody knows: try, and see
  let free = state.quota - state.usage - SPARE;
  if (free >= bytes) return true;
  const others = (await shelf.list()).filter(({ url, pinned }) => url !== keep && !pinned);
  others.sort((a, b) => a.use - b.use);
  // Nothing is thrown away for a file that will not fit in the end.
  if (free + others.reduce((sum, entry) => sum + heldBytes(entry), 0) < bytes) return false;
  for (const entry of others) {
    if (free >= bytes) return true;
    const name = await storedName(entry.url);
    const gone = await whileUnused(name, () => shelf.remove(name));
    if (gone) free += heldBytes(entry);
  }
  return free >= bytes;
}

/** The next number in the order of use. */
export async function nextUse(shelf: Shelf): Promise<number> {
  return (await shelf.list()).reduce((most: number, { use }: Entry) => Math.max(most, use), 0) + 1;
}
