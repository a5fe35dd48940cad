/** Small values kept in `localStorage`, which may be missing, full, or edited by hand. */

const PREFIX = "tilewright.";

/** Return what was remembered under a name, or null. */
export function recall<T>(name: string): T | null {
  try {
    const text = localStorage.getItem(PREFIX + name);
    const value: unknown = text === null ? null : JSON.parse(text);
    return value as T | null;
  } catch {
    return null;
  }
}

/** Remember a value; null forgets it. A refusal of the browser is no error: it is then for now only. */
export function remember(name: string, value: unknown): void {
  try {
    if (value === null) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Private windows and full stores refuse; the page works without.
  }
}
