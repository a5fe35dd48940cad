/** A note at the lower edge with at most one action, such as "Undo". One at a time. */

import { byId, h, iconButton } from "./dom.ts";

const STAYS_MS = 8_000;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Show a note; with an action it offers a button that runs it. */
export function toast(text: string, action?: { label: string; run: () => void }): void {
  const place = byId("toast", HTMLElement);
  const hide = () => {
    clearTimeout(timer);
    place.replaceChildren();
  };
  const button = action
    ? h("button", { type: "button", class: "plain", onclick: () => (hide(), action.run()) }, action.label)
    : null;
  place.replaceChildren(
    h("div", { class: "toast-card" }, h("span", {}, text), button, iconButton("close", "Close note", hide)),
  );
  clearTimeout(timer);
  timer = setTimeout(hide, STAYS_MS);
}
