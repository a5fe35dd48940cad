/**
 * The list of conversations. On narrow screens it slides over the page and takes the focus with it.
 */

import { byId, h, iconButton, saveFile } from "./dom.ts";
import { type Conversation, type ConversationStore, titleOf } from "./conversations.ts";
import { ago } from "./format.ts";
import { mosaic, seedOf } from "./mosaic.ts";

export interface SidebarActions {
  open(id: string): void;
  create(): void;
  rename(id: string, title: string): void;
  remove(id: string): void;
  imported(count: number): void;
  failed(sentence: string): void;
}

export class Sidebar {
  readonly #store: ConversationStore;
  readonly #actions: SidebarActions;
  readonly #side = byId("sidebar", HTMLElement);
  readonly #main = byId("main", HTMLElement);
  readonly #list = byId("conversation-list", HTMLElement);
  readonly #toggle = byId("sidebar-toggle", HTMLButtonElement);
  readonly #narrow = matchMedia("(max-width: 899px)");
  #renaming: string | null = null;

  constructor(store: ConversationStore, actions: SidebarActions) {
    this.#store = store;
    this.#actions = actions;
    this.#toggle.addEventListener("click", () => this.setOpen(!this.isOpen()));
    byId("sidebar-shade", HTMLElement).addEventListener("click", () => this.setOpen(false));
    byId("sidebar-close", HTMLButtonElement).addEventListener("click", () => this.setOpen(false));
    byId("new-chat", HTMLButtonElement).addEventListener("click", () => {
      actions.create();
      if (this.#narrow.matches) this.setOpen(false);
    });
    byId("export-chats", HTMLButtonElement).addEventListener("click", () => {
      const day = new Date().toISOString().slice(0, 10);
      saveFile(`tilewright-conversations-${day}.json`, store.export(), "application/json");
    });
    const file = byId("import-file", HTMLInputElement);
    byId("import-chats", HTMLButtonElement).addEventListener("click", () => file.click());
    file.addEventListener("change", () => void this.#import(file));
    byId("not-kept", HTMLElement).hidden = store.persistent;
    this.#side.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#narrow.matches) this.setOpen(false);
    });
    this.#narrow.addEventListener("change", () => this.setOpen(false));
    this.setOpen(false);
  }

  isOpen(): boolean {
    return this.#side.classList.contains("open");
  }

  /** Open or close on narrow screens; wide ones always show the list. */
  setOpen(open: boolean): void {
    const narrow = this.#narrow.matches;
    const was = this.isOpen();
    this.#side.classList.toggle("open", open && narrow);
    this.#side.inert = narrow && !open;
    this.#main.inert = narrow && open;
    this.#toggle.setAttribute("aria-expanded", String(open));
    if (narrow && open) byId("new-chat", HTMLButtonElement).focus();
    else if (narrow && was) this.#toggle.focus();
  }

  /** Show the list with the open conversation marked. */
  show(current: string, running: ReadonlySet<string>): void {
    if (this.#renaming !== null) return; // not under the user's hands
    const items = this.#store.list().map((conversation) => this.#item(conversation, current, running.has(conversation.id)));
    const focused = (document.activeElement as HTMLElement | null)?.closest<HTMLElement>("[data-conversation]");
    const hint = h("li", { class: "list-hint" }, "Conversations are kept here, in this browser only.");
    this.#list.replaceChildren(...(items.length > 0 ? items : [hint]));
    if (focused) {
      const id = CSS.escape(focused.dataset["conversation"]!);
      this.#list.querySelector<HTMLElement>(`[data-conversation="${id}"] .conversation-open`)?.focus();
    }
  }

  #item(conversation: Conversation, current: string, running: boolean): HTMLElement {
    const { id, updatedAt } = conversation;
    const title = titleOf(conversation);
    const open = h(
      "button",
      {
        type: "button",
        class: "conversation-open",
        "aria-current": id === current ? "page" : null,
        onclick: () => {
          this.#actions.open(id);
          if (this.#narrow.matches) this.setOpen(false);
        },
        ondblclick: () => this.#rename(item, conversation),
      },
      mosaic(3, 3, seedOf(id), "conversation-mark"),
      h("span", { class: "conversation-title" }, title),
      h("span", { class: "conversation-time" }, running ? "answering" : ago(updatedAt)),
    );
    const item = h(
      "li",
      { class: "conversation", "data-conversation": id },
      open,
      h(
        "span",
        { class: "conversation-actions" },
        iconButton("edit", `Rename ${title}`, () => this.#rename(item, conversation)),
        iconButton("trash", `Delete ${title}`, () => this.#actions.remove(id)),
      ),
    );
    return item;
  }

  #rename(item: HTMLElement, conversation: Conversation): void {
    const field = h("input", { class: "rename-field", "aria-label": "Title of the conversation", maxlength: 120 });
    field.value = titleOf(conversation);
    this.#renaming = conversation.id;
    let ended = false;
    const end = (keep: boolean) => {
      if (ended) return;
      ended = true;
      this.#renaming = null;
      const title = field.value.trim();
      this.#actions.rename(conversation.id, keep && title ? title : titleOf(conversation));
      const id = CSS.escape(conversation.id);
      this.#list.querySelector<HTMLElement>(`[data-conversation="${id}"] .conversation-open`)?.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
      }
    });
    field.addEventListener("blur", () => end(true));
    item.replaceChildren(field);
    field.select();
  }

  async #import(input: HTMLInputElement): Promise<void> {
    const file = input.files?.[0];
    input.value = "";
    if (!file) return;
    try {
      this.#actions.imported(await this.#store.merge(await file.text()));
    } catch (error) {
      const reason = error instanceof SyntaxError ? "it is not JSON" : error instanceof Error ? error.message : "";
      this.#actions.failed(`${file.name} could not be imported: ${reason}`);
    }
  }
}
