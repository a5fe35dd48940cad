/**
 * Shows the session's state: the chip in the bar, the strip above the message field, and the tiles
 * of the empty page, which are laid while the model loads.
 */

import { announce } from "./announce.ts";
import { adviceFor } from "./advice.ts";
import { byId, h } from "./dom.ts";
import * as format from "./format.ts";
import { layTiles, mosaic, seedOf } from "./mosaic.ts";
import type { ModelSession, SessionState } from "./session.ts";

const PHASES: Record<string, string> = {
  runtime: "Starting the engine",
  header: "Reading the model's header",
  weights: "Loading the weights",
  kernels: "Preparing kernels",
};
const HERO_COLUMNS = 15;
const HERO_ROWS = 5;

/** Return a sentence about a load, such as "Loading the weights · 3 of 12 MB · 4 MB/s · 2 s left". */
export function loadingFacts(state: Extract<SessionState, { kind: "loading" }>): string[] {
  const { phase, done, total, tuned } = state.progress;
  const facts: string[] = [];
  if (total > 0) facts.push(`${format.bytes(done)} of ${format.bytes(total)}`);
  if (phase !== "runtime" && state.speed) facts.push(`${format.bytes(state.speed)}/s`);
  if (state.left !== null && done < total) facts.push(`${format.duration(state.left)} left`);
  if (tuned) facts.push(`${tuned} kernel${tuned === 1 ? "" : "s"} tuned meanwhile`);
  return facts;
}

export class ModelView {
  readonly #session: ModelSession;
  readonly #retry: () => void;
  readonly #choose: () => void;
  readonly #hero = mosaic(HERO_COLUMNS, HERO_ROWS, seedOf("tilewright 7"), "hero-mosaic");
  #kind = "";
  #tenths = -1;

  constructor(session: ModelSession, actions: { retry(): void; choose(): void }) {
    this.#session = session;
    this.#retry = actions.retry;
    this.#choose = actions.choose;
    byId("hero", HTMLElement).append(this.#hero);
    session.addEventListener("change", () => this.#show());
    this.#show();
  }

  #show(): void {
    const { state } = this.#session;
    const changed = state.kind !== this.#kind;
    this.#kind = state.kind;
    this.#showChip(state);
    document.documentElement.dataset["model"] = state.kind;
    if (state.kind === "loading") this.#showLoading(state, changed);
    else if (changed) this.#showSettled(state);
  }

  #showChip(state: SessionState): void {
    byId("model-name", HTMLElement).textContent =
      state.kind === "none" ? "Choose a model" : state.kind === "ready" ? state.info.name || state.source.label : state.source.label;
    const told = { none: "no model", loading: "loading", ready: "ready", failed: "failed", cancelled: "not loaded" };
    byId("model-state", HTMLElement).textContent = told[state.kind];
  }

  #showLoading(state: Extract<SessionState, { kind: "loading" }>, changed: boolean): void {
    const strip = byId("strip", HTMLElement);
    if (changed) {
      strip.hidden = false;
      strip.className = "strip loading";
      strip.replaceChildren(
        h(
          "div",
          { class: "strip-line" },
          h("span", { class: "strip-phase" }),
          h("span", { class: "strip-facts" }),
          h("button", { type: "button", class: "plain", onclick: () => this.#session.cancel() }, "Cancel"),
        ),
        h("div", { class: "strip-bar", role: "progressbar", "aria-label": "Loading the model", "aria-valuemin": 0, "aria-valuemax": 100 }, h("i")),
      );
      announce(`Loading ${state.source.label}.`);
      this.#tenths = -1;
    }
    const { phase, done, total } = state.progress;
    const share = total > 0 ? done / total : 0;
    strip.querySelector(".strip-phase")!.textContent = PHASES[phase] ?? phase;
    strip.querySelector(".strip-facts")!.textContent = loadingFacts(state).join(" · ");
    const bar = strip.querySelector<HTMLElement>(".strip-bar")!;
    bar.classList.toggle("unknown", total === 0);
    bar.querySelector<HTMLElement>("i")!.style.transform = `scaleX(${share})`;
    layTiles(this.#hero, total > 0 ? Math.max(0.05, share) : 0.02);
    // Screen readers may speak each change of this value: ten are enough.
    const tenths = Math.floor(share * 10);
    if (tenths === this.#tenths) return;
    this.#tenths = tenths;
    if (total > 0) bar.setAttribute("aria-valuenow", String(tenths * 10));
    else bar.removeAttribute("aria-valuenow");
  }

  #showSettled(state: SessionState): void {
    const strip = byId("strip", HTMLElement);
    strip.hidden = state.kind === "ready" || state.kind === "none";
    strip.className = `strip ${state.kind}`;
    layTiles(this.#hero, state.kind === "ready" ? 1 : 0.02);
    const choose = h("button", { type: "button", class: "plain", onclick: () => this.#choose() }, "Choose another model");
    if (state.kind === "ready") {
      strip.replaceChildren();
      announce(`${state.info.name || state.source.label} is ready.`);
    } else if (state.kind === "cancelled") {
      const again = h("button", { type: "button", class: "primary", onclick: () => this.#retry() }, "Load it");
      strip.replaceChildren(
        h("div", { class: "strip-line" }, h("span", { class: "strip-phase" }, `${state.source.label} is not loaded.`), again, choose),
      );
      announce("Loading was cancelled.");
    } else if (state.kind === "failed") {
      const { title, message, advice, code, again: helps } = adviceFor(state.error);
      const again = helps && h("button", { type: "button", class: "primary", onclick: () => this.#retry() }, "Try again");
      strip.replaceChildren(
        h(
          "div",
          { class: "error-card", role: "alert" },
          h("strong", {}, title),
          h("p", {}, message),
          h("p", {}, advice),
          h("p", { class: "error-foot" }, again, choose, h("code", {}, code)),
        ),
      );
    }
  }
}
