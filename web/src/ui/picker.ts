/**
 * The dialog in which a model is chosen, and the drop of a model file anywhere on the page.
 */

import { byId, h, icon, iconButton } from "./dom.ts";
import * as format from "./format.ts";
import {
  BUNDLED,
  chooseFirst,
  firstModel,
  forgetModel,
  fromFile,
  type ModelSource,
  parseReference,
  recentModels,
  serverModels,
} from "./models.ts";
import type { ModelSession } from "./session.ts";
import { loadingFacts } from "./model_view.ts";

export class Picker {
  readonly #dialog = byId("picker", HTMLDialogElement);
  readonly #session: ModelSession;
  readonly #load: (source: ModelSource) => void;
  readonly #error = byId("picker-error", HTMLElement);
  #served: ModelSource[] = [];

  constructor(session: ModelSession, load: (source: ModelSource) => void) {
    this.#session = session;
    this.#load = load;
    byId("model-chip", HTMLButtonElement).addEventListener("click", () => this.open());
    const reference = byId("picker-reference", HTMLInputElement);
    byId("picker-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#attempt(() => parseReference(reference.value));
    });
    reference.addEventListener("input", () => this.#complain(""));
    const file = byId("picker-file", HTMLInputElement);
    byId("picker-choose", HTMLButtonElement).addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      const chosen = file.files?.[0];
      file.value = "";
      if (chosen) this.#attempt(() => fromFile(chosen));
    });
    byId("picker-first", HTMLInputElement).addEventListener("change", ({ target }) => {
      const { state } = session;
      const wanted = (target as HTMLInputElement).checked && state.kind !== "none" ? state.source : null;
      chooseFirst(wanted);
    });
    session.addEventListener("change", () => {
      if (this.#dialog.open) this.#showPresent();
    });
    listenForDrops((dropped) => this.#attempt(() => fromFile(dropped), true));
  }

  open(): void {
    this.#complain("");
    this.#showPresent();
    this.#showChoices();
    if (!this.#dialog.open) this.#dialog.showModal();
    void serverModels().then((models) => {
      this.#served = models;
      if (models.length > 0) this.#showChoices();
    });
  }

  #attempt(make: () => ModelSource, dropped = false): void {
    let source: ModelSource;
    try {
      source = make();
    } catch (error) {
      if (dropped) this.open();
      this.#complain((error as Error).message);
      return;
    }
    byId("picker-reference", HTMLInputElement).value = "";
    this.#dialog.close();
    this.#load(source);
  }

  #complain(sentence: string): void {
    this.#error.textContent = sentence;
    byId("picker-reference", HTMLInputElement).setAttribute("aria-invalid", String(sentence !== ""));
  }

  /** What is loaded now. */
  #showPresent(): void {
    const { state } = this.#session;
    const place = byId("picker-present", HTMLElement);
    const facts: [string, string][] = [];
    if (state.kind === "ready") {
      const { info } = state;
      facts.push(["Name", info.name || state.source.label], ["Architecture", info.architecture]);
      if (info.formats?.length) facts.push(["Weights", info.formats.join(", ")]);
      facts.push(
        ["Context", `${format.whole(info.context_length)} tokens`],
        ["Vocabulary", `${format.whole(info.vocabulary)} tokens`],
        ["Size", format.bytes(info.bytes)],
        ["Device", info.device],
        ["Loaded in", format.duration(state.seconds)],
      );
    } else if (state.kind !== "none") {
      const told = { loading: "Loading", failed: "Failed to load", cancelled: "Not loaded" }[state.kind];
      facts.push(["Name", state.source.label], ["State", [told, ...(state.kind === "loading" ? loadingFacts(state) : [])].join(" · ")]);
    }
    place.replaceChildren(
      h("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    );
    const first = byId("picker-first", HTMLInputElement);
    const chosen = firstModel();
    const keepable = state.kind !== "none" && state.source.kind !== "file" && state.source.kind !== "bundled";
    byId("picker-first-row", HTMLElement).hidden = !keepable;
    first.checked =
      keepable && chosen.kind !== "file" && state.source.kind !== "file" && chosen.reference === state.source.reference;
  }

  #showChoices(): void {
    const { state } = this.#session;
    const present = state.kind === "ready" && state.source.kind !== "file" ? state.source.reference : null;
    const row = (source: Exclude<ModelSource, { kind: "file" }>, note: string, forget = false) => {
      const chosen = source.reference === present;
      return h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "choice", "aria-pressed": String(chosen), onclick: () => this.#attempt(() => source) },
          h("span", { class: "choice-name" }, source.label),
          h("span", { class: "choice-note" }, note),
          chosen ? h("span", { class: "choice-mark" }, icon("check"), "loaded") : null,
        ),
        forget
          ? iconButton("close", `Forget ${source.label}`, () => (forgetModel(source.reference), this.#showChoices()))
          : null,
      );
    };
    const note = (source: ModelSource, text: string) => (source.bytes ? `${text} · ${format.bytes(source.bytes)}` : text);
    const served = this.#served.flatMap((source) => (source.kind === "file" ? [] : [row(source, note(source, "from this server"))]));
    const recent = recentModels().map((source) => row(source, note(source, source.reference), true));
    const bundled = BUNDLED.kind === "file" ? [] : [row(BUNDLED, "ships with this page, answers without network")];
    byId("picker-choices", HTMLElement).replaceChildren(...bundled, ...served, ...recent);
  }
}

/** Take a file that is dropped anywhere on the page. */
function listenForDrops(take: (file: File) => void): void {
  const veil = byId("drop-veil", HTMLElement);
  let inside = 0;
  const carriesFile = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const show = (visible: boolean) => (veil.hidden = !visible);
  addEventListener("dragenter", (event) => {
    if (!carriesFile(event)) return;
    inside++;
    show(true);
  });
  addEventListener("dragleave", (event) => {
    if (!carriesFile(event)) return;
    inside = Math.max(0, inside - 1);
    show(inside > 0);
  });
  addEventListener("dragover", (event) => {
    if (carriesFile(event)) event.preventDefault();
  });
  addEventListener("drop", (event) => {
    inside = 0;
    show(false);
    const file = event.dataTransfer?.files[0];
    if (!file) return;
    event.preventDefault();
    take(file);
  });
}
