/**
 * The messages of the open conversation, one below the other, and the scrolling that follows them.
 */

import { byId } from "./dom.ts";
import type { Conversation, Message } from "./conversations.ts";
import { type MessageActions, MessageView } from "./message_view.ts";

/** How near to the end counts as being there, in pixels. */
const NEAR = 48;
/** How long a frame may build messages of a conversation that was opened. */
const BUILD_MS = 6;

export interface Shown {
  running: (message: Message) => boolean;
  waiting: string | undefined;
  details: boolean;
}

export class Transcript {
  readonly #scroller = byId("scroller", HTMLElement);
  readonly #list = byId("messages", HTMLElement);
  readonly #empty = byId("empty", HTMLElement);
  readonly #jump = byId("jump", HTMLButtonElement);
  readonly #views = new Map<string, MessageView>();
  readonly #actions: MessageActions;
  #follow = true;
  #conversation = "";
  /** Messages whose text is not built yet, oldest first. */
  #unbuilt: Message[] = [];
  #building = 0;

  constructor(actions: MessageActions) {
    this.#actions = actions;
    this.#scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    this.#jump.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.#keepEnd()).observe(this.#list);
  }

  /** Show a conversation: views of messages that stay are kept, others come and go. */
  show(conversation: Conversation, shown: Shown): void {
    const changed = this.#conversation !== conversation.id;
    if (changed) {
      this.#views.clear();
      this.#list.replaceChildren();
      this.#unbuilt = [];
      this.#conversation = conversation.id;
      this.#follow = true;
    }
    const wanted = new Set(conversation.messages.map(({ id }) => id));
    for (const [id, view] of this.#views) {
      if (wanted.has(id)) continue;
      view.element.remove();
      this.#views.delete(id);
    }
    for (const message of conversation.messages) {
      if (this.#views.has(message.id)) continue;
      const view = new MessageView(message, this.#actions);
      this.#views.set(message.id, view);
      this.#list.append(view.element);
      this.#unbuilt.push(message);
    }
    this.#build(shown);
    this.#empty.hidden = conversation.messages.length > 0;
    if (this.#empty.hidden && changed) this.toEnd();
    this.#look();
  }

  /** Build texts from the end on, where the reader is, for a few milliseconds of each frame. */
  #build(shown: Shown): void {
    cancelAnimationFrame(this.#building);
    const begun = performance.now();
    while (this.#unbuilt.length > 0 && performance.now() - begun < BUILD_MS) {
      const message = this.#unbuilt.pop()!;
      if (this.#views.has(message.id)) this.refresh(message, shown);
    }
    if (this.#unbuilt.length > 0) this.#building = requestAnimationFrame(() => this.#build(shown));
  }

  /** Show a message as it is now. */
  refresh(message: Message, { running, waiting, details }: Shown): void {
    const isRunning = running(message);
    // What grows is followed by the ResizeObserver, when the layout is known anyway.
    this.#views.get(message.id)?.update({ running: isRunning, details, ...(waiting ? { waiting } : {}) });
  }

  /** Show all messages anew, as after a change of settings. */
  refreshAll(conversation: Conversation, shown: Shown): void {
    for (const message of conversation.messages) this.refresh(message, shown);
  }

  /** Make all views anew at the next `show`: the messages are other objects now. */
  forget(): void {
    this.#conversation = "";
  }

  edit(id: string): void {
    this.#views.get(id)?.beginEdit();
  }

  /** Scroll to the end and stay there while text comes. */
  toEnd(): void {
    this.#follow = true;
    this.#keepEnd();
  }

  #keepEnd(): void {
    if (this.#follow && this.#empty.hidden) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#look();
  }

  #look(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#follow = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#jump.hidden = this.#follow || !this.#empty.hidden;
  }
}
