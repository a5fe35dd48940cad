/**
 * Says things to screen readers: rarely, and each thing once.
 *
 * Streaming text is not announced piece by piece; the end of an answer is.
 */

import { byId } from "./dom.ts";

/** Put a sentence into the page's polite live region. */
export function announce(sentence: string): void {
  const region = byId("announcer", HTMLElement);
  region.textContent = "";
  // A change in a later task is noticed even when the sentence is the same as before.
  setTimeout(() => (region.textContent = sentence), 50);
}
