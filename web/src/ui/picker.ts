/**
 * The dialog in which a model is chosen, and the drop of a model file anywhere on the page.
 */

import { CURATED, noteOf, sourceOf } from "./curated.ts";
import { fitWord } from "./device_memory.ts";
import { byId, h, icon, iconButton } from "./dom.ts";
import { FitCheck } from "./fit_check.ts";
import * as format from "./format.ts";
import { KeptModels } from "./kept_models.ts";
import {
  BUNDLED,
  chooseFirst,
  firstModel,
  forgetModel,
  fromFiles,
  type LoadDetails,
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
  readonly #load: (source: ModelSource, details: LoadDetails) => void;
  readonly #token = byId("picker-token", HTMLInputElement);
  readonly #fit: FitCheck;
  readonly #kept: KeptModels;
  readonly #error = byId("picker-error", HTMLElement);
  #served: ModelSource[] = [];

  constructor(session: ModelSession, load: (source: ModelSource, details: LoadDetails) => void) {
    this.#session = session;
    this.#load = load;
    this.#fit = new FitCheck((source, details) => this.#attempt(() => source, false, details));
    this.#kept = new KeptModels((source) => this.#attempt(() => source));
    this.#dialog.addEventListener("close", () => {
      this.#fit.clear();
      this.#kept.close();
    });
    byId("model-chip", HTMLButtonElement).addEventListener("click", () => this.open());
    const reference = byId("picker-reference", HTMLInputElement);
    byId("picker-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#attempt(() => parseReference(reference.value));
    });
    reference.addEventListener("input", () => this.#complain(""));
    byId("picker-look", HTMLButtonElement).addEventListener("click", () => this.#look(() => parseReference(reference.value)));
    for (const id of ["picker-file", "picker-folder"]) {
      const input = byId(id, HTMLInputElement);
      const button = byId(id === "picker-file" ? "picker-choose" : "picker-choose-folder", HTMLButtonElement);
      button.addEventListener("click", () => input.click());
      input.addEventListener("change", () => {
        const chosen = [...(input.files ?? [])];
        input.value = "";
        if (chosen.length > 0) this.#attempt(() => fromFiles(chosen));
      });
    }
    byId("picker-first", HTMLInputElement).addEventListener("change", ({ target }) => {
      const { state } = session;
      const wanted = (target as HTMLInputElement).checked && state.kind !== "none" ? state.source : null;
      chooseFirst(wanted);
    });
    session.addEventListener("change", () => {
      if (this.#dialog.open) this.#showPresent();
    });
    listenForDrops((dropped) => this.#attempt(() => fromFiles(dropped), true));
  }

  open(): void {
    this.#complain("");
    this.#showPresent();
    this.#showChoices();
    if (!this.#dialog.open) this.#dialog.showModal();
    void this.#kept.show();
    void serverModels().then((models) => {
      this.#served = models;
      if (models.length > 0) this.#showChoices();
    });
  }

  /** What is said about this load alone. */
  #details(source: ModelSource): LoadDetails {
    const token = this.#token.value.trim();
    return token && source.kind === "hub" ? { token } : {};
  }

  #look(make: () => ModelSource): void {
    try {
      const source = make();
      this.#complain("");
      void this.#fit.look(source, this.#details(source));
      byId("picker-fit", HTMLElement).scrollIntoView({ block: "nearest" });
    } catch (error) {
      this.#complain((error as Error).message);
    }
  }

  #attempt(make: () => ModelSource, dropped = false, details: LoadDetails = {}): void {
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
    this.#load(source, { ...this.#details(source), ...details });
  }

  #complain(sentence: string): void {
    this.#error.textContent = sentence;
    if (sentence) this.#error.scrollIntoView({ block: "nearest" });
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
        iconButton("look", `Look whether ${source.label} fits`, () => this.#look(() => source)),
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
    byId("picker-curated", HTMLElement).replaceChildren(
      ...CURATED.map((model) => {
        const word = fitWord(model.bytes);
        return row(sourceOf(model), noteOf(model) + (word ? ` On this device: ${word}.` : ""));
      }),
    );
  }
}

/** Take files, or a folder, dropped anywhere on the page. */
function listenForDrops(take: (files: File[]) => void): void {
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
    const items = [...(event.dataTransfer?.items ?? [])].filter(({ kind }) => kind === "file");
    if (items.length === 0) return;
    event.preventDefault();
    // Entries must be taken before the event is over.
    const entries = items.map((item) => item.webkitGetAsEntry());
    const files = [...event.dataTransfer!.files];
    if (!entries.some((entry) => entry?.isDirectory)) return take(files);
    void Promise.all(entries.map((entry) => filesIn(entry))).then((found) => take(found.flat()), () => take(files));
  });
}

/** The files of a dropped folder; folders within it are left out. */
async function filesIn(entry: FileSystemEntry | null): Promise<File[]> {
  const asFile = (item: FileSystemEntry) =>
    new Promise<File>((resolve, reject) => (item as FileSystemFileEntry).file(resolve, reject));
  if (!entry) return [];
  if (entry.isFile) return [await asFile(entry)];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    found.push(...some);
  }
  return Promise.all(found.filter(({ isFile }) => isFile).map(asFile));
}
