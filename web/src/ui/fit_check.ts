/**
 * Looks at a model before it is loaded: what it is, what it needs, and whether that fits. Reads the
 * header only; where it does not fit, offers the largest context or the file that would.
 */

import { Tilewright } from "../client.ts";
import type { Inspection } from "../protocol.ts";
import { adviceFor, codeOf, isStop } from "./advice.ts";
import { memoryGuess } from "./device_memory.ts";
import { byId, h } from "./dom.ts";
import * as format from "./format.ts";
import type { LoadDetails, ModelSource } from "./models.ts";

export class FitCheck {
  readonly #place = byId("picker-fit", HTMLElement);
  readonly #load: (source: ModelSource, details: LoadDetails) => void;
  #stop: AbortController | undefined;

  constructor(load: (source: ModelSource, details: LoadDetails) => void) {
    this.#load = load;
  }

  /** Forget what was looked at. */
  clear(): void {
    this.#stop?.abort();
    this.#stop = undefined;
    this.#place.replaceChildren();
  }

  /** Look at a model and show what was found. */
  async look(source: ModelSource, details: LoadDetails): Promise<void> {
    this.clear();
    const stop = new AbortController();
    this.#stop = stop;
    this.#place.replaceChildren(h("p", { class: "field-help", role: "status" }, `Looking at ${source.label}…`));
    const budget = memoryGuess();
    try {
      const found = await Tilewright.inspect(source.kind === "file" ? source.files : source.reference, {
        ...details,
        ...(budget === undefined ? {} : { budget, memory_budget: budget }),
        signal: stop.signal,
      });
      if (this.#stop === stop) this.#place.replaceChildren(this.#report(source, details, found));
    } catch (error) {
      if (this.#stop !== stop || isStop(error)) return;
      const { title, message, advice } = adviceFor(codeOf(error));
      this.#place.replaceChildren(
        h("div", { class: "error-card", role: "alert" }, h("strong", {}, title), h("p", {}, message), h("p", {}, advice)),
      );
    }
  }

  #report(source: ModelSource, details: LoadDetails, found: Inspection): HTMLElement {
    const { fit } = found;
    const facts: [string, string][] = [
      ["Name", found.name],
      ["Architecture", `${found.architecture}, ${found.layers} layers, ${format.count(found.parameters)} parameters`],
      ["Weights", `${format.bytes(found.bytes)} in ${found.formats.slice(0, 3).join(", ")}`],
      ["Context", `${format.whole(fit.context_length)} of at most ${format.whole(found.trained_context)} tokens`],
      ["Memory", `${format.bytes(fit.total)}: weights ${format.bytes(fit.weights)}, context ${format.bytes(fit.cache)}, work ${format.bytes(fit.activations + fit.staging)}`],
      ["This device", fit.budget ? `about ${format.bytes(fit.budget)} may be free (a guess)` : "does not say how much memory it has"],
    ];
    const again = (label: string, changed: LoadDetails) =>
      h("button", { type: "button", class: "plain", onclick: () => this.#load(source, { ...details, ...changed }) }, label);
    const shorter = !fit.fits && fit.largest_context > 0 && fit.largest_context < fit.context_length;
    return h(
      "div",
      { class: fit.fits ? "fit" : "fit short", role: "status" },
      h("strong", {}, fit.fits ? "It fits this device" : "It is unlikely to fit this device"),
      h("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      fit.message ? h("p", {}, fit.message) : null,
      h(
        "p",
        { class: "error-foot" },
        shorter && again(`Load with ${format.whole(fit.largest_context)} tokens of context`, { context_length: fit.largest_context }),
        again(fit.fits ? "Load it" : "Load it all the same", {}),
      ),
    );
  }
}
