/** Lists of byte ranges: sorted, disjoint [from, to) pairs. Pure functions. */

export type Ranges = [from: number, to: number][];

/** Add a range, joining neighbours. */
export function addRange(ranges: Ranges, from: number, to: number): void {
  const kept = ranges.filter(([start, end]) => end < from || start > to);
  for (const [start, end] of ranges) {
    if (end >= from && start <= to) {
      from = Math.min(from, start);
      to = Math.max(to, end);
    }
  }
  kept.push([from, to]);
  kept.sort((a, b) => a[0] - b[0]);
  ranges.splice(0, ranges.length, ...kept);
}

/** Take a range out. */
export function dropRange(ranges: Ranges, from: number, to: number): void {
  const kept = ranges.flatMap(([start, end]): Ranges => {
    const parts: Ranges = [
      [start, Math.min(end, from)],
      [Math.max(start, to), end],
    ];
    return parts.filter(([a, b]) => a < b);
  });
  ranges.splice(0, ranges.length, ...kept);
}

/** Return how far from `offset` on the bytes are present (`true`) or missing (`false`). */
export function runAt(
  ranges: Readonly<Ranges>,
  offset: number,
  end: number,
): [present: boolean, to: number] {
  for (const [from, to] of ranges) {
    if (offset >= from && offset < to) return [true, Math.min(to, end)];
    if (from > offset) return [false, Math.min(from, end)];
  }
  return [false, end];
}

/** The first missing run of [from, to), or undefined. */
export function firstGap(ranges: Readonly<Ranges>, from: number, to: number): [number, number] | undefined {
  for (let at = from; at < to; ) {
    const [present, end] = runAt(ranges, at, to);
    if (!present) return [at, end];
    at = end;
  }
  return undefined;
}

/** How many bytes the ranges hold. */
export function total(ranges: Readonly<Ranges>): number {
  return ranges.reduce((sum, [from, to]) => sum + to - from, 0);
}
