/** The chat page. */

import { ChatApp } from "../ui/chat_app.ts";
import { byId } from "../ui/dom.ts";
import { mosaic, seedOf } from "../ui/mosaic.ts";
import { checkSupport } from "../ui/unsupported.ts";
import { bindThemeButton } from "../ui/theme_switch.ts";

for (const place of document.querySelectorAll(".brand-mark")) place.append(mosaic(3, 3, seedOf("brand 4")));
bindThemeButton(byId("theme-toggle", HTMLButtonElement));
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => {
    // Only the backdrop is the dialog itself: the content fills it.
    if (event.target === dialog) dialog.close();
  });
  dialog.querySelector(".dialog-close")?.addEventListener("click", () => dialog.close());
}
if (await checkSupport()) await ChatApp.start();
