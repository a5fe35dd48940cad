/**
 * The custom elements, with one script tag from any origin:
 * `<script type="module" src="https://host/path/elements.js"></script>`.
 *
 * Importing it defines `<tilewright-chat>` and `<tilewright-complete>`, and does nothing else: the
 * engine is fetched from beside this script when it is first used.
 */

import { TilewrightChat } from "./elements/chat.ts";
import { TilewrightComplete } from "./elements/complete.ts";

declare global {
  interface HTMLElementTagNameMap {
    "tilewright-chat": TilewrightChat;
    "tilewright-complete": TilewrightComplete;
  }
}

// A page may have the script twice.
if (!customElements.get("tilewright-chat")) customElements.define("tilewright-chat", TilewrightChat);
if (!customElements.get("tilewright-complete")) customElements.define("tilewright-complete", TilewrightComplete);

export { TilewrightChat, TilewrightComplete };
export type { ElementMessage, MessageDetail } from "./elements/chat.ts";
export type { ElementState } from "./elements/base.ts";
