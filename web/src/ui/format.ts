/** Numbers as people read them. Pure functions; knows nothing of the page. */

/** Return a size with a unit: `940 B`, `1.5 MB`, `2.13 GB`. */
export function bytes(count: number): string {
  if (count < 1000) return `${Math.round(count)} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count;
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.5 && unit < units.length - 1);
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(unit === 0 ? 0 : digits)} ${units[unit]}`;
}

/** Return a time left or passed: `0.42 s`, `8 s`, `2 min 5 s`, `1 h 3 min`. */
export function duration(seconds: number): string {
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

/** Return a rate with three significant digits: `4.21`, `38.5`, `1,204`. */
export function rate(value: number): string {
  if (!Number.isFinite(value)) return "–";
  if (value >= 100) return whole(value);
  return value.toFixed(value >= 10 ? 1 : 2);
}

/** Return an integer with thousands separators. `toLocaleString` takes 30 ms when first called. */
export function whole(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Return a large count in short: `33 M`, `1.24 B`. */
export function count(value: number): string {
  return value >= 1e9 ? `${(value / 1e9).toFixed(2)} B` : `${Math.max(1, Math.round(value / 1e6))} M`;
}

/** Return how long ago a moment was, for a list: `now`, `5 min`, `3 h`, `2 Nov`. */
export function ago(time: number, now = Date.now()): string {
  const minutes = (now - time) / 60_000;
  if (minutes < 1) return "now";
  if (minutes < 60) return `${Math.floor(minutes)} min`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h`;
  return new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}

/**
 * Watches a count of bytes and estimates speed and time left.
 *
 * The speed is taken over the last few seconds, so that it follows the network without jumping.
 */
export class Speedometer {
  readonly #seen: { at: number; done: number }[] = [];

  /** Note that `done` bytes were there at `at` seconds. A smaller count starts anew. */
  note(done: number, at: number): void {
    const last = this.#seen.at(-1);
    if (last && done < last.done) this.#seen.length = 0;
    this.#seen.push({ at, done });
    while (this.#seen.length > 2 && at - this.#seen[0]!.at > 4) this.#seen.shift();
  }

  /** Bytes per second, or null while too little was seen. */
  get speed(): number | null {
    const [first, last] = [this.#seen[0], this.#seen.at(-1)];
    if (!first || !last || last.at - first.at < 0.25) return null;
    return (last.done - first.done) / (last.at - first.at);
  }

  /** Seconds until `total` bytes are there, or null where nobody can know. */
  left(total: number): number | null {
    const { speed } = this;
    const done = this.#seen.at(-1)?.done ?? 0;
    if (!speed || total <= 0) return null;
    return Math.max(0, total - done) / speed;
  }
}
