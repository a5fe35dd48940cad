/**
 * A guess of how many bytes of weights this device can take. The web does not tell a page how much
 * graphics memory there is, so this guides choices and never forbids anything.
 */

/** Share of the memory that a page may count on; the rest is for the system and other pages. */
const SHARE = 0.5;

/** Return the guess in bytes; undefined where the browser says nothing. */
export function memoryGuess(): number | undefined {
  const { deviceMemory } = navigator as { deviceMemory?: number };
  return deviceMemory === undefined ? undefined : deviceMemory * 2 ** 30 * SHARE;
}

/** Say whether weights of that size are likely to fit. */
export function fitWord(bytes: number, guess = memoryGuess()): "" | "tight" | "too large" {
  if (guess === undefined || bytes * 1.25 <= guess) return "";
  return bytes <= guess ? "tight" : "too large";
}
