/**
 * `<tilewright-chat>`: a chat with a model that runs in the visitor's browser.
 *
 * Attributes are properties; see `base.ts` for those that all elements have. Slots: `header`,
 * `empty` (in it, an element with `data-send="text"` sends that text). Parts: `chat header messages
 * message user-message answer input send progress error`. Events: `tilewright-ready`,
 * `-progress`, `-message`, `-error`. Methods: `send`, `stop`, `clear`, `prepare`.
 */

import type { Progress } from "../client.ts";
import type { ChatMessage } from "../openai/messages.ts";
import type { Usage } from "../openai/types.ts";
import { adviceFor, isStop } from "../ui/advice.ts";
import { append, h, icon, iconButton } from "../ui/dom.ts";
import * as format from "../ui/format.ts";
import { MarkdownView } from "../ui/markdown.ts";
import { splitReasoning } from "../ui/message_view.ts";
import { type ElementState, TilewrightElement } from "./base.ts";
import { dress } from "./styles.ts";

export interface ElementMessage {
  role: "user" | "assistant";
  content: string;
}

/** `detail` of `tilewright-message`; the last two only of answers. */
export interface MessageDetail extends ElementMessage {
  finish_reason?: string;
  usage?: Usage;
}

const PHASES: Record<string, string> = {
  runtime: "Starting the engine",
  header: "Reading the model",
  weights: "Loading the model",
  kernels: "Preparing",
};
/** Answers up to this many characters are read out whole, of longer ones only the beginning. */
const SPOKEN_LENGTH = 300;

export class TilewrightChat extends TilewrightElement {
  static override readonly observedAttributes = [...TilewrightElement.observedAttributes, "label"];

  readonly #title = h("span");
  readonly #clear = iconButton("trash", "Clear the conversation", () => this.clear());
  readonly #empty = h("div", { class: "empty" }, h("slot", { name: "empty" }, "The model runs on this device: what you write is not sent anywhere."));
  readonly #list = h("div", { class: "messages", part: "messages", role: "log", "aria-live": "off", "aria-label": "Conversation", tabindex: 0 }, this.#empty);
  readonly #phase = h("span");
  readonly #bar = h("progress", { "aria-label": "Loading" });
  readonly #load = h("div", { class: "load", part: "progress", hidden: true });
  readonly #field = h("textarea", { part: "input", rows: 1, "aria-label": "Message" });
  readonly #send = h("button", { class: "send", part: "send", type: "submit" });
  readonly #spoken = h("div", { class: "visually-hidden", role: "status" });
  #messages: ElementMessage[] = [];
  #stop: AbortController | undefined;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open", delegatesFocus: true });
    dress(root, "chat");
    const cancel = h("button", { type: "button", class: "plain", onclick: () => this.stop() }, "Cancel");
    append(this.#load, h("div", { class: "load-line" }, this.#phase, cancel), this.#bar);
    const form = h("form", { part: "composer" }, this.#field, this.#send);
    append(
      root,
      h(
        "section",
        { class: "chat", part: "chat", "aria-label": "Chat" },
        h("header", { part: "header" }, h("div", { class: "header-slot" }, h("slot", { name: "header" }, this.#title)), this.#clear),
        this.#list,
        this.#load,
        form,
        this.#spoken,
      ),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#stop) this.stop();
      else this.#sendField();
    });
    this.#field.addEventListener("input", () => this.#typed());
    this.#field.addEventListener("keydown", (event) => this.#key(event));
    this.#empty.addEventListener("click", (event) => {
      const from = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-send]") : null;
      if (from && !this.disabled) this.send(from.dataset["send"]!).catch(() => undefined);
    });
    this.#showAttributes();
    this.#showButtons();
  }

  override attributeChangedCallback(name: string, before: string | null, now: string | null): void {
    super.attributeChangedCallback(name, before, now);
    this.#showAttributes();
    this.#showButtons();
  }

  /** The conversation, without the system prompt; may be set. */
  get messages(): ElementMessage[] {
    return this.#messages.map((message) => ({ ...message }));
  }
  set messages(messages: ElementMessage[]) {
    this.stop();
    this.#messages = messages.map(({ role, content }) => ({ role, content: String(content) }));
    for (const old of [...this.#list.children]) if (old !== this.#empty) old.remove();
    for (const message of this.#messages) this.#show(message);
    this.#showButtons();
  }

  /**
   * Send a message; the model is loaded if need be. Resolves with the answer's text, or with what
   * there was of it when it was stopped. Rejects with a TilewrightError.
   */
  async send(text: string): Promise<string> {
    const content = text.trim();
    if (!content) return "";
    if (this.#stop) throw Object.assign(new Error("An answer is running: stop it first."), { code: "busy" });
    const stop = (this.#stop = new AbortController());
    const asked: ElementMessage = { role: "user", content };
    const answer: ElementMessage = { role: "assistant", content: "" };
    this.#list.querySelector(".error")?.remove();
    this.#messages.push(asked);
    this.#show(asked);
    const view = this.#show(answer);
    this.emit("message", { ...asked } satisfies MessageDetail);
    this.#showButtons();
    view.waiting("Waiting for the model");
    try {
      await this.withEngine(stop.signal, (engine) => this.#answer(engine, answer, view, stop.signal));
    } catch (error) {
      view.end(answer.content);
      if (!answer.content) view.element.remove();
      if (!stop.signal.aborted && !isStop(error)) throw error;
    } finally {
      if (this.#stop === stop) this.#stop = undefined;
      this.#showButtons();
    }
    return answer.content;
  }

  override stop(): void {
    this.#stop?.abort();
    this.stopLoading();
  }

  /** Stop, and forget the conversation. */
  clear(): void {
    this.messages = [];
    if (this.state === "failed") this.setState("idle");
    this.#say("The conversation is empty.");
    this.#field.focus();
  }

  protected override setState(state: ElementState): void {
    super.setState(state);
    if (state !== "loading") this.#load.hidden = true;
  }

  protected override showProgress({ phase, done, total }: Progress): void {
    this.#load.hidden = false;
    const facts = total > 0 ? ` · ${format.bytes(done)} of ${format.bytes(total)}` : "";
    this.#phase.textContent = `${PHASES[phase] ?? "Loading the model"}${facts}`;
    if (total > 0) this.#bar.value = done / total;
    else this.#bar.removeAttribute("value");
  }

  protected override showError(error: { code: string; message: string }): void {
    this.#list.querySelector(".error")?.remove();
    const { title, message } = adviceFor(error);
    const card = h("div", { class: "error", part: "error", role: "alert" }, h("strong", {}, title), h("p", {}, message));
    if (this.#messages.at(-1)?.role === "user") {
      append(card, h("button", { type: "button", class: "plain", onclick: () => this.#again() }, "Try again"));
    }
    this.#list.append(card);
    this.#toEnd();
  }

  async #answer(engine: Awaited<ReturnType<TilewrightElement["prepare"]>>, answer: ElementMessage, view: AnswerView, signal: AbortSignal): Promise<void> {
    let finish = "stop";
    let usage: Usage | undefined;
    let thought = "";
    const shown = () => (thought ? `<think>${thought}${answer.content && "</think>"}` : "") + answer.content;
    let frame = 0;
    const draw = () => {
      frame = 0;
      const atEnd = this.#isAtEnd();
      view.update(shown());
      if (atEnd) this.#toEnd();
    };
    view.waiting("Reading");
    try {
      signal.throwIfAborted();
      const system: ChatMessage[] = this.system ? [{ role: "system", content: this.system }] : [];
      const chunks = engine.chat.completions.create({
        messages: [...system, ...this.#messages],
        stream: true,
        stream_options: { include_usage: true },
        ...this.sampling(),
        signal,
      });
      for await (const chunk of await chunks) {
        const choice = chunk.choices[0];
        thought += choice?.delta.reasoning_content ?? "";
        answer.content += choice?.delta.content ?? "";
        finish = choice?.finish_reason ?? finish;
        if (chunk.usage) usage = chunk.usage;
        frame ||= requestAnimationFrame(draw);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
      finish = "stopped";
    } finally {
      cancelAnimationFrame(frame);
      draw();
      view.end(shown(), finish);
      // A cleared conversation keeps no answer.
      if (answer.content && view.element.isConnected) this.#messages.push(answer);
    }
    this.emit("message", { ...answer, finish_reason: finish, ...(usage ? { usage } : {}) } satisfies MessageDetail);
    const spoken = splitReasoning(answer.content).answer;
    this.#say(spoken.length <= SPOKEN_LENGTH ? `Answer: ${spoken}` : `Answer: ${spoken.slice(0, SPOKEN_LENGTH)} … It goes on in the conversation.`);
  }

  #again(): void {
    const last = this.#messages.at(-1);
    if (last?.role !== "user" || this.#stop) return;
    this.messages = this.#messages.slice(0, -1);
    this.send(last.content).catch(() => undefined);
  }

  #sendField(): void {
    const text = this.#field.value;
    if (!text.trim() || this.disabled) return;
    this.#field.value = "";
    this.send(text).catch(() => undefined); // shown and told by an event
    this.#field.focus();
  }

  #typed(): void {
    this.#showButtons();
    if (this.state === "idle" && this.load !== "send" && this.#field.value) this.prepare().catch(() => undefined);
  }

  #key(event: KeyboardEvent): void {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (!this.#stop) this.#sendField();
    } else if (event.key === "Escape" && this.#stop) {
      event.preventDefault();
      this.stop();
    }
  }

  #show(message: ElementMessage): AnswerView {
    const view = new AnswerView(message);
    this.#list.append(view.element);
    this.#toEnd();
    return view;
  }

  #showAttributes(): void {
    this.#title.textContent = this.heading ?? "Chat";
    this.#field.placeholder = this.placeholder ?? "Write a message";
    this.#field.disabled = this.disabled;
  }

  #showButtons(): void {
    const running = this.#stop !== undefined;
    const label = running ? "Stop the answer" : "Send";
    this.#send.classList.toggle("stop", running);
    this.#send.setAttribute("aria-label", label);
    this.#send.title = running ? "Stop (Esc)" : "Send (Enter)";
    this.#send.disabled = this.disabled || (!running && !this.#field.value.trim());
    this.#send.replaceChildren(icon(running ? "stop" : "send"));
    const empty = this.#list.childElementCount <= 1;
    this.#empty.hidden = !empty;
    this.#clear.hidden = empty;
  }

  #isAtEnd(): boolean {
    return this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 48;
  }

  #toEnd(): void {
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  #say(sentence: string): void {
    this.#spoken.textContent = "";
    setTimeout(() => (this.#spoken.textContent = sentence), 50);
  }
}

/** One message in the shadow tree. */
class AnswerView {
  readonly element: HTMLElement;
  readonly #markdown = new MarkdownView();
  readonly #thought = new MarkdownView();
  readonly #thoughts = h("details", { hidden: true }, h("summary", {}, "Thoughts"), this.#thought.element);
  readonly #note = h("p", { class: "note", hidden: true });

  constructor({ role, content }: ElementMessage) {
    const own = role === "user";
    this.element = h("article", {
      class: `message ${role}`,
      part: own ? "message user-message" : "message answer",
      "aria-label": own ? "You" : "Answer",
    });
    if (own) append(this.element, content);
    else append(this.element, this.#thoughts, this.#markdown.element, this.#note);
    if (!own && content) this.update(content);
  }

  /** Say what an answer without text waits for. */
  waiting(text: string): void {
    this.#note.textContent = `${text} …`;
    this.#note.classList.add("waiting");
    this.#note.hidden = false;
  }

  update(content: string): void {
    const { reasoning, answer } = splitReasoning(content);
    if (content) this.#note.hidden = true;
    if (reasoning !== null) {
      this.#thoughts.hidden = false;
      this.#thought.update(reasoning);
    }
    this.#markdown.update(answer);
  }

  /** Show the complete answer and, where it matters, why it ended. */
  end(content: string, finish = ""): void {
    const why = { stopped: "Stopped.", length: "Cut at the longest answer." }[finish] ?? (content ? "" : "The model had nothing to say.");
    this.#note.classList.remove("waiting");
    this.#note.textContent = why;
    this.#note.hidden = why === "";
  }
}

