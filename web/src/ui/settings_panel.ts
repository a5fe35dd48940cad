/** The dialog of settings: system prompt, sampling, theme. Values are kept as they are typed. */

import { byId, h } from "./dom.ts";
import { accepted, DEFAULTS, type NumberField, RANGES, saveSettings, type Settings } from "./settings.ts";
import { currentTheme, setTheme, type Theme } from "./theme_switch.ts";

export class SettingsPanel {
  readonly #dialog = byId("settings", HTMLDialogElement);
  readonly #settings: Settings;
  readonly #changed: () => void;

  constructor(settings: Settings, changed: () => void) {
    this.#settings = settings;
    this.#changed = changed;
    byId("settings-open", HTMLButtonElement).addEventListener("click", () => this.open());
    byId("settings-reset", HTMLButtonElement).addEventListener("click", () => {
      Object.assign(settings, DEFAULTS);
      this.#keep();
      this.#show();
    });
  }

  open(): void {
    this.#show();
    this.#dialog.showModal();
  }

  #keep(): void {
    saveSettings(this.#settings);
    this.#changed();
  }

  #show(): void {
    const settings = this.#settings;
    const system = byId("system-prompt", HTMLTextAreaElement);
    system.value = settings.system;
    system.oninput = () => {
      settings.system = system.value;
      this.#keep();
    };
    const details = byId("show-details", HTMLInputElement);
    details.checked = settings.details;
    details.onchange = () => {
      settings.details = details.checked;
      this.#keep();
    };
    for (const radio of this.#dialog.querySelectorAll<HTMLInputElement>("input[name=theme]")) {
      radio.checked = radio.value === currentTheme();
      radio.onchange = () => setTheme(radio.value as Theme);
    }
    const fields = Object.keys(RANGES).map((field) => this.#field(field as NumberField));
    byId("sampling-fields", HTMLElement).replaceChildren(...fields);
  }

  #field(field: NumberField): HTMLElement {
    const { label, help, min, max, step, whole, empty } = RANGES[field];
    const helpId = `help-${field}`;
    const value = this.#settings[field];
    const input = h("input", {
      id: `setting-${field}`,
      type: "number",
      inputmode: whole ? "numeric" : "decimal",
      min,
      max,
      step,
      placeholder: empty ?? null,
      "aria-describedby": helpId,
    });
    input.value = value === null ? "" : String(value);
    const hint = h("p", { id: helpId, class: "field-help" }, help);
    input.addEventListener("input", () => {
      const typed = input.value.trim();
      const wanted = accepted(field, typed === "" && !input.validity.badInput ? null : Number(typed));
      const good = wanted !== undefined && !input.validity.badInput;
      input.setAttribute("aria-invalid", String(!good));
      hint.textContent = good ? help : `A ${whole ? "whole " : ""}number from ${min} to ${max}${empty ? `, or nothing for ${empty}` : ""}.`;
      hint.classList.toggle("wrong", !good);
      if (!good) return;
      (this.#settings as unknown as Record<string, number | null>)[field] = wanted;
      this.#keep();
    });
    return h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint);
  }
}
