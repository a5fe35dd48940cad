/**
 * The memory snapshot of a Python that has imported the engine: kept in the Cache API after a first
 * visit, and laid into the memory at the start of later ones.
 */

const SNAPSHOTS = "tilewright-snapshots";
const PAGE = 65536;

/** Return what is kept of `url`, expanded; undefined where there is nothing, or nothing sound. */
export async function keptSnapshot(url: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  if (!url || !globalThis.caches) return undefined;
  try {
    const kept = await (await caches.open(SNAPSHOTS)).match(url);
    return kept && expanded(new Uint8Array(await kept.arrayBuffer()));
  } catch {
    return undefined; // storage is blocked, or the file was cut off: a plain start
  }
}

/** Fetch it for the next visit, in place of older ones. */
export async function keep(url: string): Promise<void> {
  if (!url || !globalThis.caches) return;
  const cache = await caches.open(SNAPSHOTS);
  if (await cache.match(url)) return;
  for (const old of await cache.keys()) await cache.delete(old);
  await cache.add(url);
}

/** Forget what turned out to be unusable here. */
export async function forget(): Promise<void> {
  await caches.delete(SNAPSHOTS);
}

/** Put the zero pages back that the build has left out (`without_zeros` of `runtime_folder.py`). */
function expanded(file: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const [size, count] = new Uint32Array(file.buffer, 0, 2) as unknown as [number, number];
  const runs = new Uint32Array(file.buffer, 8, 2 * count);
  const whole = new Uint8Array(size);
  let from = 8 + runs.byteLength;
  for (let run = 0; run < runs.length; run += 2) {
    const end = from + runs[run + 1]!;
    whole.set(file.subarray(from, end), runs[run]);
    from = end;
  }
  if (from !== file.length) throw new Error("the snapshot is not whole");
  return whole;
}

/** Make the memory of a fresh Python large enough: Pyodide itself expects it to be. */
export function makeRoom(exports: WebAssembly.Exports, snapshot: Uint8Array): void {
  const memory = exports["memory"];
  if (!(memory instanceof WebAssembly.Memory)) return;
  const missing = snapshot.length - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
}
