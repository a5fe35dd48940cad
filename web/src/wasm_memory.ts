/** The memory of the CPU path: made here by whoever is first, its page or its store. */

const MOST_PAGES = 65_536;
/** 256 MiB for adapters that come later; a shared memory must say at once how far it may grow. */
const GROWTH_PAGES = 4_096;

/** Make a memory. Throws RangeError where there is no room. */
export function makeMemory(pages: number, shared: boolean): WebAssembly.Memory {
  const maximum = Math.min(pages + GROWTH_PAGES, MOST_PAGES);
  return new WebAssembly.Memory({ initial: pages, maximum, shared });
}
