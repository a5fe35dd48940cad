/** What the benchmark and kernel pages share: brand, theme button, support check, cells of tables. */

import { byId, h } from "./dom.ts";
import { mosaic, seedOf } from "./mosaic.ts";
import { bindThemeButton } from "./theme_switch.ts";
import { checkSupport } from "./unsupported.ts";

/** Set the page up; false where the engine cannot run (the page then says why). */
export async function startPage(needsGpu?: boolean): Promise<boolean> {
  for (const place of document.querySelectorAll(".brand-mark")) place.append(mosaic(3, 3, seedOf("brand 4")));
  bindThemeButton(byId("theme-toggle", HTMLButtonElement));
  return checkSupport(needsGpu);
}

/** Make a row of a table; the first cell names it. */
export function row(name: string, ...values: (string | Node)[]): HTMLTableRowElement {
  const cells = values.map((value) => h("td", {}, value));
  return h("tr", {}, h("th", { scope: "row" }, name), ...cells);
}
