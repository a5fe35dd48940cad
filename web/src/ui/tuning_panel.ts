/**
 * The part of the statistics drawer that shows the tuner at work: what was tried for each kernel,
 * how near the choice comes to the device's limits, and what it gained.
 *
 * Tuning begins by itself a while after a model is ready; pausing it is remembered.
 */

import type { Tilewright } from "../client.ts";
import type { TuningEvent } from "../tuning.ts";
import { announce } from "./announce.ts";
import { codeOf, isStop } from "./advice.ts";
import { byId, h, saveFile } from "./dom.ts";
import * as format from "./format.ts";
import type { ModelSession } from "./session.ts";
import { toast } from "./toast.ts";

/** So long a ready model is left alone before tuning begins, so that a first answer does not wait. */
const QUIET_MS = 3000;
const PAUSED = "tilewright.tuning.paused";

const STEPS: Record<string, string> = { decode: "Writing", prefill: "Reading", embed: "Embedding" };

type Phase = "none" | "waiting" | "running" | "paused" | "done" | "failed";

export class TuningPanel {
  readonly #session: ModelSession;
  readonly #state = h("p", { class: "tuning-state" });
  readonly #start = h("button", { type: "button", class: "plain", onclick: () => this.#toggle() });
  readonly #export = h("button", { type: "button", class: "plain", onclick: () => void this.#save() }, "Export");
  readonly #import = h("button", { type: "button", class: "plain", onclick: () => this.#file.click() }, "Import");
  readonly #file = h("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: () => void this.#read() });
  readonly #list = h("ul", { class: "tuning-list" });
  readonly #rows = new Map<string, HTMLLIElement>();
  #engine: Tilewright | undefined;
  #phase: Phase = "none";
  #last: TuningEvent | undefined;
  #problem = "";
  #pause: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(session: ModelSession) {
    this.#session = session;
    const buttons = h("div", { class: "tuning-buttons" }, this.#start, this.#export, this.#import, this.#file);
    byId("tuning", HTMLElement).replaceChildren(
      h("h3", { id: "tuning-title" }, "Tuning"),
      this.#state,
      buttons,
      this.#list,
    );
    session.addEventListener("change", () => this.#follow());
    this.#show();
  }

  /** Notice another model, or none. */
  #follow(): void {
    const { state } = this.#session;
    const engine = state.kind === "ready" ? state.engine : undefined;
    if (engine === this.#engine) return;
    this.#engine = engine;
    clearTimeout(this.#timer);
    this.#pause?.abort();
    this.#pause = this.#last = undefined;
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#phase = !engine ? "none" : remembered() ? "paused" : "waiting";
    if (this.#phase === "waiting") this.#timer = setTimeout(() => void this.#run(), QUIET_MS);
    this.#show();
  }

  #toggle(): void {
    const stop = this.#phase === "running" || this.#phase === "waiting";
    remember(stop);
    clearTimeout(this.#timer);
    if (!stop) return void this.#run();
    this.#pause?.abort();
    this.#phase = "paused";
    this.#show();
  }

  async #run(): Promise<void> {
    const engine = this.#engine;
    if (!engine) return;
    const pause = (this.#pause = new AbortController());
    this.#phase = "running";
    this.#show();
    try {
      const { bursts } = await engine.tune({ signal: pause.signal, onProgress: (event) => this.#note(event) });
      if (this.#pause !== pause) return;
      this.#phase = "done";
      if (bursts > 0) announce("Tuning is complete.");
    } catch (error) {
      if (this.#pause !== pause || isStop(error) || pause.signal.aborted) return;
      const { code, message } = codeOf(error);
      this.#problem = message;
      this.#phase = code === "cancelled" ? "none" : "failed";
    }
    this.#show();
  }

  #note(event: TuningEvent): void {
    this.#last = event;
    const key = `${event.workload} ${event.kernel}`;
    const old = this.#rows.get(key);
    const row = rowOf(event);
    this.#rows.set(key, row);
    if (old) old.replaceWith(row);
    else if (event.kernel) this.#list.append(row);
    else this.#list.prepend(row);
    this.#show();
  }

  #show(): void {
    const { finished = 0, total = 0 } = this.#last ?? {};
    const count = total > 0 ? `${finished} of ${total} kernels` : "";
    const sentences: Record<Phase, string> = {
      none: "Kernels are timed on this device once a model is loaded.",
      waiting: "Begins when the page is quiet.",
      running: count ? `Timing kernels on this device: ${count}.` : "Timing kernels on this device.",
      paused: count ? `Paused after ${count}.` : "Paused.",
      done: `The fastest kernels for this device are in use${count ? `: ${count}` : ""}.`,
      failed: this.#problem,
    };
    this.#state.textContent = sentences[this.#phase];
    const running = this.#phase === "running" || this.#phase === "waiting";
    this.#start.textContent = running ? "Pause" : this.#phase === "done" ? "Look again" : "Start";
    for (const button of [this.#start, this.#export, this.#import]) button.disabled = !this.#engine;
  }

  async #save(): Promise<void> {
    try {
      const document = await this.#engine!.exportRecords();
      saveFile("tilewright-records.json", document, "application/json");
    } catch (error) {
      toast(codeOf(error).message);
    }
  }

  async #read(): Promise<void> {
    const file = this.#file.files?.[0];
    this.#file.value = "";
    if (!file || !this.#engine) return;
    try {
      const count = await this.#engine.importRecords(await file.text());
      toast(`${count} ${count === 1 ? "record was" : "records were"} imported.`);
    } catch (error) {
      toast(codeOf(error).message);
    }
  }
}

/** One kernel, or a whole step. */
function rowOf(event: TuningEvent): HTMLLIElement {
  const whole = !event.kernel;
  const step = STEPS[event.workload] ?? event.workload;
  const name = whole ? `${step}: a whole step` : event.kernel;
  const roofline = event.roofline ?? 0;
  const facts = [
    whole ? "" : step,
    event.known ? "known" : "",
    !whole && event.tried === 0 && event.done ? "too small to matter" : "",
    event.tried > 0 ? `${event.tried} of ${event.candidates} tried` : "",
    event.rejected > 0 ? `${event.rejected} wrong` : "",
    roofline > 0 ? `${(roofline * 100).toFixed(roofline < 0.1 ? 1 : 0)} % of the device's limit` : "",
    gain(event.naive_seconds, event.seconds, "plain"),
    gain(event.default_seconds, event.seconds, "default"),
  ];
  return h(
    "li",
    { class: event.done ? "tuning-row" : "tuning-row running", title: event.tuning },
    h("span", { class: "tuning-name" }, name),
    h("span", { class: "tuning-time" }, `${format.rate(event.seconds * 1000)} ms`),
    h("meter", { min: 0, max: 1, value: Math.min(roofline, 1), "aria-label": "Share of the device's limit" }),
    h("span", { class: "tuning-facts" }, facts.filter(Boolean).join(" · ")),
  );
}

function gain(before: number, after: number, than: string): string {
  return before > 0 && after > 0 ? `${(before / after).toFixed(2)}× the ${than} kernel's speed` : "";
}

function remembered(): boolean {
  try {
    return localStorage.getItem(PAUSED) === "yes";
  } catch {
    return false; // storage is blocked
  }
}

function remember(paused: boolean): void {
  try {
    if (paused) localStorage.setItem(PAUSED, "yes");
    else localStorage.removeItem(PAUSED);
  } catch {
    // Then it holds for this visit.
  }
}
