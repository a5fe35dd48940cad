/**
 * One message on the page, with its actions. Shows what the message object says when `update` is called.
 */

import { adviceFor } from "./advice.ts";
import { append, copyText, h, iconButton } from "./dom.ts";
import type { Message } from "./conversations.ts";
import * as format from "./format.ts";
import { MarkdownView } from "./markdown.ts";

/** What the page does when a message's buttons are used. */
export interface MessageActions {
  regenerate(id: string): void;
  edit(id: string, text: string): void;
  remove(id: string): void;
}

/** Split reasoning (`<think>…</think>` at the start) from the answer proper. */
export function splitReasoning(text: string): { reasoning: string | null; answer: string; open: boolean } {
  const start = /^\s*<think>\n?/.exec(text);
  if (!start) return { reasoning: null, answer: text, open: false };
  const rest = text.slice(start[0].length);
  const end = rest.indexOf("</think>");
  if (end < 0) return { reasoning: rest, answer: "", open: true };
  return { reasoning: rest.slice(0, end), answer: rest.slice(end + 8).replace(/^\s+/, ""), open: false };
}

export class MessageView {
  readonly element: HTMLElement;
  readonly #message: Message;
  readonly #actions: MessageActions;
  readonly #body = h("div", { class: "message-body" });
  readonly #foot = h("div", { class: "message-foot" });
  readonly #markdown = new MarkdownView();
  #thought: { element: HTMLDetailsElement; view: MarkdownView } | undefined;
  #running = false;

  constructor(message: Message, actions: MessageActions) {
    this.#message = message;
    this.#actions = actions;
    const own = message.role === "user";
    this.element = h(
      "article",
      { class: `message ${message.role}`, "aria-label": own ? "You" : "Answer", "data-id": message.id },
      h("h3", { class: "visually-hidden" }, own ? "You said" : `${message.model ?? "The model"} said`),
      this.#body,
      this.#foot,
    );
  }

  /** Show the message as it is now. `waiting` says what an answer without text waits for. */
  update(options: { running: boolean; waiting?: string; details: boolean }): void {
    this.#running = options.running;
    if (this.#message.role === "user") this.#showOwn();
    else this.#showAnswer(options.waiting);
    this.element.classList.toggle("running", options.running);
    if (options.running) this.#foot.replaceChildren();
    else this.#showFoot(options.details);
  }

  /** Turn the message into a field; used from the keyboard, too. */
  beginEdit(): void {
    if (this.#running) return;
    const field = h("textarea", { class: "edit-field", "aria-label": "Edit your message", rows: 3 });
    field.value = this.#message.content;
    const close = () => {
      this.#showOwn();
      this.#foot.hidden = false;
      this.#foot.querySelector("button")?.focus();
    };
    const send = () => {
      if (field.value.trim()) this.#actions.edit(this.#message.id, field.value.trim());
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        send();
      }
    });
    this.#foot.hidden = true;
    this.#body.replaceChildren(
      field,
      h(
        "div",
        { class: "edit-buttons" },
        h("button", { type: "button", class: "plain", onclick: close }, "Cancel"),
        h("button", { type: "button", class: "primary", onclick: send }, "Send again"),
      ),
    );
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  #showOwn(): void {
    this.#body.replaceChildren(h("div", { class: "own-text" }, this.#message.content));
  }

  #showAnswer(waiting: string | undefined): void {
    const { content, error, finish, leftOut } = this.#message;
    const { reasoning, answer, open } = splitReasoning(content);
    const parts: (Node | null)[] = [];
    if (leftOut) {
      parts.push(h("p", { class: "aside-note" }, `The ${leftOut} oldest messages no longer fit the context and were left out.`));
    }
    if (reasoning !== null) parts.push(this.#showThought(reasoning, open && this.#running));
    this.#markdown.update(answer);
    parts.push(this.#markdown.element);
    if (this.#running && !answer) parts.push(laying(waiting ?? (reasoning === null ? "Reading" : "Thinking")));
    if (!this.#running && !content && finish === "stopped") parts.push(h("p", { class: "aside-note" }, "Stopped before the first word."));
    if (!this.#running && !content && finish === "stop") parts.push(h("p", { class: "aside-note" }, "The model had nothing to say."));
    if (error) parts.push(this.#showError(error));
    // Nodes that are already in place stay there: replacing them would lose selection and focus.
    const wanted = parts.filter((part) => part !== null);
    [...this.#body.childNodes].filter((node) => !wanted.includes(node)).forEach((node) => node.remove());
    wanted.forEach((node, index) => {
      if (this.#body.childNodes[index] !== node) this.#body.insertBefore(node, this.#body.childNodes[index] ?? null);
    });
  }

  #showThought(reasoning: string, open: boolean): Node {
    if (!this.#thought) {
      const view = new MarkdownView();
      const element = h("details", { class: "thought" }, h("summary", {}), view.element);
      this.#thought = { element, view };
    }
    this.#thought.view.update(reasoning);
    this.#thought.element.querySelector("summary")!.textContent = open ? "Thinking…" : "Thoughts";
    return this.#thought.element;
  }

  #showError(error: { code: string; message: string }): Node {
    const { title, message, advice, code } = adviceFor(error);
    const again = () => this.#actions.regenerate(this.#message.id);
    const retry = h("button", { type: "button", class: "primary", onclick: again }, "Try again");
    return h(
      "div",
      { class: "error-card", role: "group", "aria-label": "Error" },
      h("strong", {}, title),
      h("p", {}, message),
      h("p", {}, advice),
      h("p", { class: "error-foot" }, retry, h("code", {}, code)),
    );
  }

  #showFoot(details: boolean): void {
    const { id, role, content } = this.#message;
    const buttons = h("div", { class: "message-actions" });
    if (content) {
      const copy = iconButton("copy", role === "user" ? "Copy message" : "Copy answer", () => void copyText(content, copy));
      append(buttons, copy);
    }
    if (role === "user") append(buttons, iconButton("edit", "Edit message", () => this.beginEdit()));
    else append(buttons, iconButton("again", "Answer again", () => this.#actions.regenerate(id)));
    append(buttons, iconButton("trash", role === "user" ? "Delete message" : "Delete answer", () => this.#actions.remove(id)));
    this.#foot.hidden = false;
    this.#foot.replaceChildren(buttons, ...(details ? [this.#details()].filter((line) => line !== null) : []));
  }

  #details(): Node | null {
    const { stats, finish, model } = this.#message;
    const facts: string[] = [];
    if (stats) {
      facts.push(
        `${format.rate(stats.tokensPerSecond)} tokens/s`,
        `first after ${format.duration(stats.timeToFirstToken)}`,
        `${format.whole(stats.completionTokens)} tokens`,
        `${format.whole(stats.promptTokens + stats.completionTokens)} of ${format.whole(stats.contextLength)} context`,
      );
    }
    if (finish === "length") facts.push("cut at the longest answer");
    if (finish === "stopped") facts.push("stopped");
    if (facts.length === 0) return null;
    return h("p", { class: "details-line", title: model ?? null }, ...facts.map((fact) => h("span", {}, fact)));
  }
}

/** Three tiles being laid, while there is no text yet. */
function laying(text: string): Node {
  return h(
    "p",
    { class: "laying" },
    h("span", { class: "laying-tiles", "aria-hidden": "true" }, h("i"), h("i"), h("i")),
    h("span", {}, text),
  );
}
