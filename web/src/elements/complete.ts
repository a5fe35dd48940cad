/**
 * `<tilewright-complete>`: gives the text area inside it suggestions that continue what is written.
 *
 * The suggestion is shown as ghost text behind the caret. Tab accepts it, Escape dismisses it,
 * typing its next letters walks into it, anything else asks anew after a pause. Attributes beside
 * those of `base.ts`: `delay` (milliseconds, 400), `context` (characters read before the caret,
 * 2000). Events: `tilewright-ready`, `-progress`, `-error`, `-suggestion`, `-accept`.
 */

import { append, h } from "../ui/dom.ts";
import { TilewrightElement } from "./base.ts";
import { dress } from "./styles.ts";

const DELAY_MS = 400;
const CONTEXT = 2000;
const MAX_TOKENS = 16;
/** Fewer characters than this before the caret say too little to go on. */
const LEAST = 3;

/** What makes text fall where it falls in the field. */
const COPIED = [
  ...["font", "letter-spacing", "word-spacing", "line-height", "text-indent", "text-transform"],
  ...["text-align", "direction", "tab-size", "box-sizing", "padding-top", "padding-right"],
  ...["padding-bottom", "padding-left", "border-top-width", "border-right-width"],
  ...["border-bottom-width", "border-left-width"],
];

export class TilewrightComplete extends TilewrightElement {
  readonly #mirror = h("div", { class: "mirror", part: "mirror", "aria-hidden": "true" });
  readonly #ghost = h("span", { class: "ghost", part: "ghost" });
  readonly #spoken = h("div", { class: "visually-hidden", role: "status" });
  readonly #resized = new ResizeObserver(() => this.#place());
  #field: HTMLTextAreaElement | undefined;
  #suggestion = "";
  #timer = 0;
  #stop: AbortController | undefined;
  #listening: AbortController | undefined;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    dress(root, "complete");
    const slot = h("slot");
    slot.addEventListener("slotchange", () => this.#attach());
    append(root, slot, this.#mirror, this.#spoken);
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#attach();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#listening?.abort();
    this.#resized.disconnect();
    this.#field = undefined;
  }

  /** The text that is suggested now; empty where there is none. */
  get suggestion(): string {
    return this.#suggestion;
  }

  /** Take the suggestion into the text, as Tab does. */
  accept(): void {
    const field = this.#field;
    const text = this.#suggestion;
    if (!field || !text) return;
    this.dismiss();
    field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
    field.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertText", data: text }));
    this.emit("accept", { text });
  }

  /** Put the suggestion away, as Escape does. */
  dismiss(): void {
    this.stop();
    this.#show("");
  }

  override stop(): void {
    clearTimeout(this.#timer);
    this.#stop?.abort();
    this.#stop = undefined;
  }

  #attach(): void {
    const field = this.querySelector("textarea") ?? undefined;
    if (field === this.#field) return;
    this.#listening?.abort();
    this.#resized.disconnect();
    this.#field = field;
    if (!field) return;
    this.#listening = new AbortController();
    const { signal } = this.#listening;
    field.addEventListener("input", () => this.#typed(), { signal });
    field.addEventListener("keydown", (event) => this.#key(event), { signal });
    field.addEventListener("blur", () => this.dismiss(), { signal });
    field.addEventListener("scroll", () => this.#place(), { signal });
    field.ownerDocument.addEventListener("selectionchange", () => this.#moved(), { signal });
    this.#resized.observe(field);
  }

  #key(event: KeyboardEvent): void {
    if (!this.#suggestion || event.isComposing) return;
    if (event.key === "Tab" && !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      this.accept();
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      this.dismiss();
    }
  }

  #typed(): void {
    const field = this.#field!;
    const { value, selectionStart: at } = field;
    if (this.#suggestion && this.#at !== null && at > this.#at && value.startsWith(this.#before)) {
      const walked = value.slice(this.#before.length, at);
      if (this.#suggestion.startsWith(walked) && walked.length < this.#suggestion.length) {
        this.#before += walked;
        this.#at = at;
        return this.#show(this.#suggestion.slice(walked.length));
      }
    }
    this.dismiss();
    if (this.disabled || field.readOnly) return;
    this.#timer = window.setTimeout(() => void this.#suggest(), this.#number("delay", DELAY_MS));
  }

  /** Where the suggestion stands, and the text before it. */
  #at: number | null = null;
  #before = "";

  #moved(): void {
    const field = this.#field;
    if (!this.#suggestion || !field || field.ownerDocument.activeElement !== field) return;
    if (field.selectionStart !== this.#at || field.selectionEnd !== this.#at) this.dismiss();
  }

  async #suggest(): Promise<void> {
    const field = this.#field;
    if (!field || field.selectionStart !== field.selectionEnd) return;
    const at = field.selectionStart;
    const before = field.value.slice(0, at);
    const rest = field.value.slice(at);
    // Within a line there is no room for a ghost.
    if (before.trim().length < LEAST || (rest !== "" && !rest.startsWith("\n"))) return;
    const stop = (this.#stop = new AbortController());
    let text = "";
    try {
      await this.withEngine(stop.signal, async (engine) => {
        const instructions = this.system ? `${this.system}\n\n` : "";
        const { max_tokens = MAX_TOKENS, ...sampling } = { temperature: 0, ...this.sampling() };
        const prompt = instructions + before.slice(-this.#number("context", CONTEXT)).trimEnd();
        const parts = engine.complete({ prompt, sampling: { ...sampling, max_tokens }, stop: ["\n"], signal: stop.signal });
        for await (const part of parts) text += part.text;
      });
    } catch {
      return; // stopped by further typing, or told to the page by an event
    }
    if (this.#stop !== stop || stop.signal.aborted) return;
    // The space before the caret was taken from the prompt: tokens begin with theirs.
    const spaces = before.length - before.trimEnd().length;
    if (spaces > 0) text = text.trimStart();
    text = text.trimEnd();
    if (!text) return;
    this.#at = at;
    this.#before = before;
    this.#show(text);
    this.emit("suggestion", { text });
    this.#spoken.textContent = `Suggestion: ${text.trim()}. Tab accepts it.`;
  }

  #number(name: string, otherwise: number): number {
    const value = Number.parseFloat(this.getAttribute(name) ?? "");
    return Number.isFinite(value) && value >= 0 ? value : otherwise;
  }

  #show(text: string): void {
    this.#suggestion = text;
    if (!text) {
      this.#at = null;
      this.#spoken.textContent = "";
      this.#mirror.replaceChildren();
      return;
    }
    this.#ghost.textContent = text;
    this.#mirror.replaceChildren(this.#before, this.#ghost);
    this.#place();
  }

  /** Lay the mirror over the field: same box, same type, same scroll. */
  #place(): void {
    const field = this.#field;
    if (!field || !this.#suggestion) return;
    const looks = getComputedStyle(field);
    for (const name of COPIED) this.#mirror.style.setProperty(name, looks.getPropertyValue(name));
    const own = this.getBoundingClientRect();
    const box = field.getBoundingClientRect();
    const place = { left: box.left - own.left, top: box.top - own.top, width: box.width, height: box.height };
    for (const [name, value] of Object.entries(place)) this.#mirror.style.setProperty(name, `${value}px`);
    // A scroll bar takes its room from the text.
    const bar = field.offsetWidth - field.clientWidth - parseFloat(looks.borderLeftWidth) - parseFloat(looks.borderRightWidth);
    if (bar > 0) this.#mirror.style.setProperty("padding-right", `${parseFloat(looks.paddingRight) + bar}px`);
    this.#mirror.scrollTop = field.scrollTop;
  }
}
