/**
 * Looks at a model before it is loaded: what it is, what it needs, and whether that fits. Reads the
 * header only; where it does not fit, offers the largest context, the quantization that would, and
 * to read layers for every token.
 */

import { Tilewright } from "../client.ts";
import type { Inspection } from "../protocol.ts";
import { StoreConnection } from "../store/connect.ts";
import { parseReference } from "../store/hub.ts";
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
    this.#show(h("p", { class: "field-help", role: "status" }, `Looking at ${source.label}…`));
    const budget = memoryGuess();
    const choices = await choicesOf(source, details, stop.signal);
    if (this.#stop !== stop) return;
    try {
      const found = await Tilewright.inspect(source.kind === "file" ? source.files : source.reference, {
        ...details,
        ...(budget === undefined ? {} : { budget, memory_budget: budget }),
        choices: choices.map(({ name, bytes }) => ({ name, bytes })),
        signal: stop.signal,
      });
      const smaller = choices.find(({ name }) => name === found.fit.largest_choice);
      if (this.#stop === stop) this.#show(this.#report(source, details, found, smaller));
    } catch (error) {
      if (this.#stop !== stop || isStop(error)) return;
      const { title, message, advice } = adviceFor(codeOf(error));
      this.#show(
        h("div", { class: "error-card", role: "alert" }, h("strong", {}, title), h("p", {}, message), h("p", {}, advice)),
      );
    }
  }

  #show(what: HTMLElement): void {
    this.#place.replaceChildren(what);
    this.#place.scrollIntoView({ block: "nearest" });
  }

  #report(source: ModelSource, details: LoadDetails, found: Inspection, smaller: Offer | undefined): HTMLElement {
    const { fit } = found;
    const facts: [string, string][] = [
      ["Name", found.name],
      ["Architecture", `${found.architecture}, ${found.layers} layers, ${format.count(found.parameters)} parameters`],
      ["Weights", `${format.bytes(found.bytes)} in ${found.formats.slice(0, 3).join(", ")}`],
      ["Context", `${format.whole(fit.context_length)} of at most ${format.whole(found.trained_context)} tokens`],
      ["Memory", `${format.bytes(fit.total)}: weights ${format.bytes(fit.weights)}, context ${format.bytes(fit.cache)}, work ${format.bytes(fit.activations + fit.staging)}`],
      ["This device", fit.budget ? `about ${format.bytes(fit.budget)} may be free (a guess)` : "does not say how much memory it has"],
    ];
    const again = (label: string, changed: LoadDetails, other = source) =>
      h("button", { type: "button", class: "plain", onclick: () => this.#load(other, { ...details, ...changed }) }, label);
    const shorter = !fit.fits && fit.largest_context > 0 && fit.largest_context < fit.context_length;
    const offers = [
      smaller && !fit.fits && again(`Load ${smaller.name} (${format.bytes(smaller.bytes)})`, {}, smaller.source),
      shorter && again(`Load with ${format.whole(fit.largest_context)} tokens of context`, { context_length: fit.largest_context }),
      fit.streamed_layers > 0 && fit.budget !== null &&
        again(
          `Load it slowly: read ${fit.expert_rooms ? "up to " : ""}${format.bytes(fit.streamed_bytes)} for every token`,
          { memory_budget: fit.budget },
        ),
    ];
    return h(
      "div",
      { class: fit.fits ? "fit" : "fit short", role: "status" },
      h("strong", {}, fit.fits ? "It fits this device" : "It is unlikely to fit this device"),
      h("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      fit.message ? h("p", {}, fit.message) : null,
      h(
        "p",
        { class: "error-foot" },
        ...offers,
        again(fit.fits ? "Load it" : "Load it all the same", {}),
      ),
    );
  }
}

/** Another file of the same model. */
interface Offer {
  name: string;
  bytes: number;
  source: ModelSource;
}

/** The quantizations of a model's repository; none where it has no list. */
async function choicesOf(source: ModelSource, { token }: LoadDetails, signal: AbortSignal): Promise<Offer[]> {
  if (source.kind !== "hub") return [];
  const store = new StoreConnection();
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const { repository, revision } = parseReference(source.reference);
    const { choices } = await store.resolve(source.reference, { headers, signal });
    return choices.map(({ name, path, bytes }) => {
      const reference = `hf:${repository}/${path}${revision === "main" ? "" : `@${revision}`}`;
      return { name, bytes, source: { kind: "hub", label: path.split("/").at(-1)!, reference } };
    });
  } catch {
    return []; // looking itself will say what is wrong
  } finally {
    store.terminate();
  }
}
