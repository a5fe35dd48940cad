/**
 * The field at the foot of the page: Enter sends, Shift+Enter breaks the line, the button also stops.
 */

import { byId, icon } from "./dom.ts";

const MAX_HEIGHT = 240;

export class Composer {
  readonly #form = byId("composer", HTMLFormElement);
  readonly #field = byId("composer-input", HTMLTextAreaElement);
  readonly #button = byId("composer-send", HTMLButtonElement);
  #running = false;

  constructor(actions: { send(text: string): void; stop(): void; editLast(): void }) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#running) return actions.stop();
      const text = this.#field.value.trim();
      if (!text) return this.focus();
      this.#field.value = "";
      this.#fit();
      actions.send(text);
    });
    this.#field.addEventListener("input", () => this.#fit());
    this.#field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        if (!this.#running) this.#form.requestSubmit();
      } else if (event.key === "ArrowUp" && this.#field.value === "") {
        event.preventDefault();
        actions.editLast();
      }
    });
    this.setRunning(false);
  }

  /** Show the stop button in place of the send button. */
  setRunning(running: boolean): void {
    this.#running = running;
    const label = running ? "Stop the answer" : "Send message";
    this.#button.setAttribute("aria-label", label);
    this.#button.title = running ? "Stop the answer (Esc)" : "Send (Enter)";
    this.#button.classList.toggle("stop", running);
    this.#button.replaceChildren(icon(running ? "stop" : "send"));
    this.#fit();
  }

  fill(text: string): void {
    this.#field.value = text;
    this.#fit();
    this.focus();
  }

  focus(): void {
    this.#field.focus();
  }

  #fit(): void {
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, MAX_HEIGHT)}px`;
    this.#button.classList.toggle("idle", !this.#running && this.#field.value.trim() === "");
  }
}
