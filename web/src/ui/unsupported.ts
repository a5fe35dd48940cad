/** Replaces the page's content by what to do where the engine cannot run. */

import { byId, h } from "./dom.ts";
import { mosaic, seedOf } from "./mosaic.ts";
import { explain, lacking } from "./support.ts";

/** Return true where the engine can run; otherwise show why not, and return false. */
export async function checkSupport(needsGpu?: boolean): Promise<boolean> {
  const lack = await lacking(needsGpu);
  if (!lack) return true;
  const { code, title, text, steps } = explain(lack);
  document.title = `${title} · Tilewright`;
  byId("main", HTMLElement).replaceChildren(
    h(
      "main",
      { class: "unsupported", id: "scroller", tabindex: -1 },
      mosaic(7, 3, seedOf(code), "unsupported-mosaic"),
      h("h1", {}, title),
      h("p", {}, text),
      h("dl", {}, ...steps.flatMap((step) => [h("dt", {}, step.name), h("dd", {}, step.text)])),
      h(
        "p",
        { class: "unsupported-foot" },
        h("button", { type: "button", class: "primary", onclick: () => location.reload() }, "Check again"),
        h("code", {}, code),
      ),
    ),
  );
  document.documentElement.dataset["model"] = "unsupported";
  return false;
}
