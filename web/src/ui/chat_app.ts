/**
 * The chat page's conductor: conversations, the running answers, and the views that show them.
 *
 * An answer goes on when another conversation is opened; each conversation runs one at a time.
 */

import { announce } from "./announce.ts";
import { Composer } from "./composer.ts";
import {
  type Conversation,
  ConversationStore,
  type Message,
  newConversation,
  newMessage,
  titleOf,
} from "./conversations.ts";
import { byId, h } from "./dom.ts";
import { generate } from "./generation.ts";
import { warmUp } from "./markdown.ts";
import { splitReasoning } from "./message_view.ts";
import { firstModel, type LoadDetails, type ModelSource } from "./models.ts";
import { loadingFacts, ModelView } from "./model_view.ts";
import { Picker } from "./picker.ts";
import { ModelSession } from "./session.ts";
import { loadSettings } from "./settings.ts";
import { SettingsPanel } from "./settings_panel.ts";
import { Sidebar } from "./sidebar.ts";
import { StatsPanel } from "./stats_panel.ts";
import { toast } from "./toast.ts";
import { Transcript } from "./transcript.ts";
import { TuningPanel } from "./tuning_panel.ts";
import { turn } from "./turn.ts";

/** What the bundled model can do, and any other, too. */
const SUGGESTIONS = [
  "Tell me a story about a brave cat.",
  "What can you do?",
  "What is 12 plus 7?",
  "Tell me a joke.",
];
/** Answers up to this many characters are read out whole; of longer ones only the length. */
const SPOKEN_LENGTH = 300;
/** How often a running answer is written to the store. */
const SAVE_MS = 1000;

/** Errors after which the engine is of no more use; the next answer loads the model again. */
const ENGINE_DEATHS = new Set(["device_lost", "worker_failed", "runtime_failed"]);

interface Running {
  answer: Message;
  stop: AbortController;
}

export class ChatApp {
  readonly #store: ConversationStore;
  readonly #settings = loadSettings();
  readonly #session = new ModelSession();
  readonly #running = new Map<string, Running>();
  readonly #transcript: Transcript;
  readonly #composer: Composer;
  readonly #sidebar: Sidebar;
  readonly #stats: StatsPanel;
  readonly #picker: Picker;
  #current: Conversation;

  private constructor(store: ConversationStore) {
    this.#store = store;
    this.#current = this.#atStart();
    this.#transcript = new Transcript({
      regenerate: (id) => this.#regenerate(id),
      edit: (id, text) => this.#edit(id, text),
      remove: (id) => this.#removeMessage(id),
    });
    this.#composer = new Composer({
      send: (text) => this.#send(text),
      stop: () => this.#stop(),
      editLast: () => this.#editLast(),
    });
    this.#sidebar = new Sidebar(store, {
      open: (id) => this.#open(id),
      create: () => this.#create(),
      rename: (id, title) => this.#rename(id, title),
      remove: (id) => this.#removeConversation(id),
      imported: (count) => {
        this.#showList();
        toast(`${count} ${count === 1 ? "conversation was" : "conversations were"} imported.`);
      },
      failed: (sentence) => toast(sentence),
    });
    this.#picker = new Picker(this.#session, (source, details) => this.#load(source, details));
    new ModelView(this.#session, { retry: () => this.#loadAgain(), choose: () => this.#picker.open() });
    this.#stats = new StatsPanel(this.#session, () => this.#current);
    new TuningPanel(this.#session);
    new SettingsPanel(this.#settings, () => this.#transcript.refreshAll(this.#current, this.#shown()));
    this.#session.addEventListener("change", () => this.#showWaiting());
    store.onForeignChange((id) => this.#changedElsewhere(id));
    addEventListener("hashchange", () => this.#followAddress());
    addEventListener("pagehide", () => void this.#store.save(this.#current).catch(() => undefined));
    document.addEventListener("keydown", (event) => this.#key(event));
    byId("suggestions", HTMLElement).append(
      ...SUGGESTIONS.map((text) =>
        h("li", {}, h("button", { type: "button", class: "suggestion", onclick: () => this.#send(text) }, text)),
      ),
    );
  }

  /** Open the store, show the page and begin to load the first model. */
  static async start(): Promise<ChatApp> {
    const app = new ChatApp(await ConversationStore.open());
    // Each in a task of its own, so that the page can answer in between.
    await turn();
    app.#showAll();
    await turn();
    if (app.#session.state.kind === "none") app.#load(firstModel());
    await warmUp();
    return app;
  }

  #load(source: ModelSource, details: LoadDetails = {}): void {
    const { context_length } = this.#settings;
    for (const { stop } of this.#running.values()) {
      if (this.#session.state.kind === "ready") stop.abort();
    }
    void this.#session.load(source, { ...(context_length === null ? {} : { context_length }), ...details });
  }

  #loadAgain(): void {
    const { state } = this.#session;
    this.#load(state.kind === "none" ? firstModel() : state.source);
  }

  // Sending and answering ---------------------------------------------------------------------

  #send(text: string): void {
    if (this.#running.has(this.#current.id)) return;
    this.#current.messages.push(newMessage("user", text));
    this.#answer();
    this.#transcript.toEnd();
    this.#composer.focus();
  }

  /** Add an answer to the open conversation and stream into it once the model is ready. */
  #answer(): void {
    const conversation = this.#current;
    const history = [...conversation.messages];
    const answer = newMessage("assistant", "");
    const stop = new AbortController();
    conversation.messages.push(answer);
    conversation.title = titleOf(conversation);
    this.#running.set(conversation.id, { answer, stop });
    this.#touch(conversation);
    this.#showAll();
    const { kind } = this.#session.state;
    if (kind === "failed" || kind === "cancelled" || kind === "none") this.#loadAgain();
    void this.#run(conversation, history, answer, stop.signal);
  }

  async #run(conversation: Conversation, history: Message[], answer: Message, signal: AbortSignal): Promise<void> {
    let frame = 0;
    let saved = performance.now();
    const show = () => {
      frame = 0;
      if (this.#current === conversation) this.#transcript.refresh(answer, this.#shown());
      if (performance.now() - saved < SAVE_MS) return;
      saved = performance.now();
      void this.#store.save(conversation).catch(() => undefined);
    };
    try {
      const { engine, info } = await this.#session.whenReady(signal);
      await generate(engine, info, history, answer, this.#settings, signal, () => {
        frame ||= requestAnimationFrame(show);
      });
    } catch {
      answer.finish = "stopped"; // whenReady rejects only when the user has stopped
    }
    cancelAnimationFrame(frame);
    this.#running.delete(conversation.id);
    if (answer.error && ENGINE_DEATHS.has(answer.error.code)) this.#session.drop();
    this.#touch(conversation);
    if (this.#current === conversation) {
      this.#transcript.refresh(answer, this.#shown());
      this.#composer.setRunning(false);
      this.#speak(answer);
    }
    this.#showList();
  }

  #speak(answer: Message): void {
    const text = splitReasoning(answer.content).answer;
    if (answer.error) announce("The answer failed. The error is shown at the end of the conversation.");
    else if (answer.finish === "stopped") announce("Stopped.");
    else if (text.length <= SPOKEN_LENGTH) announce(`Answer: ${text}`);
    else announce(`The answer is complete, ${text.split(/\s+/).length} words.`);
  }

  #stop(): void {
    this.#running.get(this.#current.id)?.stop.abort();
  }

  #regenerate(id: string): void {
    const at = this.#current.messages.findIndex((message) => message.id === id);
    if (at < 0 || this.#running.has(this.#current.id)) return;
    this.#cut(at, "The later messages were removed.", this.#current.messages.length > at + 1);
    this.#answer();
  }

  #edit(id: string, text: string): void {
    const { messages } = this.#current;
    const at = messages.findIndex((message) => message.id === id);
    if (at < 0) return;
    this.#stop();
    const later = messages.length > at + 2;
    this.#cut(at, "The conversation goes on from the edited message.", later);
    this.#running.delete(this.#current.id);
    this.#send(text);
  }

  /** Cut the messages from an index on; where more than an answer goes, offer to undo. */
  #cut(at: number, note: string, offerUndo: boolean): void {
    const conversation = this.#current;
    const before = [...conversation.messages];
    conversation.messages.length = at;
    if (offerUndo) this.#offerUndo(note, conversation, before);
  }

  #offerUndo(note: string, conversation: Conversation, before: Message[]): void {
    const run = () => {
      this.#running.get(conversation.id)?.stop.abort();
      this.#running.delete(conversation.id);
      conversation.messages = before;
      this.#touch(conversation);
      this.#showAll();
    };
    toast(note, { label: "Undo", run });
  }

  #removeMessage(id: string): void {
    const conversation = this.#current;
    const before = [...conversation.messages];
    conversation.messages = before.filter((message) => message.id !== id);
    this.#touch(conversation);
    this.#showAll();
    this.#composer.focus();
    this.#offerUndo("Deleted.", conversation, before);
  }

  #editLast(): void {
    const last = this.#current.messages.findLast(({ role }) => role === "user");
    if (last && !this.#running.has(this.#current.id)) this.#transcript.edit(last.id);
  }

  // Conversations -----------------------------------------------------------------------------

  /** The conversation that the address names, or a new one. */
  #atStart(): Conversation {
    return this.#store.get(location.hash.slice(1)) ?? newConversation();
  }

  #open(id: string): void {
    const conversation = this.#store.get(id);
    if (!conversation) return;
    this.#current = conversation;
    this.#showAll();
    this.#composer.focus();
  }

  #create(): void {
    if (this.#current.messages.length > 0) this.#current = newConversation();
    this.#showAll();
    this.#composer.focus();
  }

  #rename(id: string, title: string): void {
    const conversation = this.#store.get(id);
    if (!conversation) return;
    if (title !== titleOf(conversation)) {
      conversation.title = title;
      conversation.named = true;
      this.#keep(conversation);
    }
    this.#showAll();
  }

  #removeConversation(id: string): void {
    const conversation = this.#store.get(id);
    if (!conversation) return;
    this.#running.get(id)?.stop.abort();
    void this.#store.remove(id).catch(() => undefined);
    if (this.#current.id === id) this.#current = this.#store.list()[0] ?? newConversation();
    this.#showAll();
    const run = () => {
      this.#keep(conversation);
      this.#open(id);
    };
    toast(`“${titleOf(conversation)}” was deleted.`, { label: "Undo", run });
  }

  #changedElsewhere(id: string): void {
    const fresh = this.#store.get(id);
    if (id === this.#current.id && !this.#running.has(id)) {
      this.#current = fresh ?? newConversation();
      this.#transcript.forget();
      return this.#showAll();
    }
    this.#showList();
  }

  #followAddress(): void {
    const id = location.hash.slice(1);
    if (id && id !== this.#current.id) this.#open(id);
  }

  /** Note a change of a conversation and keep it. */
  #touch(conversation: Conversation): void {
    conversation.updatedAt = Date.now();
    this.#keep(conversation);
  }

  #keep(conversation: Conversation): void {
    if (conversation.messages.length === 0) {
      void this.#store.remove(conversation.id).catch(() => undefined);
      return;
    }
    this.#store.saveSoon(conversation).catch(() => {
      toast("This conversation could not be kept: the browser's storage refused it.");
    });
  }

  // Showing -----------------------------------------------------------------------------------

  #shown() {
    const { state } = this.#session;
    let waiting: string | undefined;
    if (state.kind === "loading") {
      waiting = ["Waiting for the model", ...loadingFacts(state).slice(-1)].join(" · ");
    } else if (state.kind === "failed" || state.kind === "cancelled") {
      waiting = "Waiting for a model";
    }
    const running = (message: Message) => this.#running.get(this.#current.id)?.answer === message;
    return { running, waiting, details: this.#settings.details };
  }

  #showAll(): void {
    this.#transcript.show(this.#current, this.#shown());
    this.#composer.setRunning(this.#running.has(this.#current.id));
    void turn().then(() => this.#showAround());
  }

  /** Show the open conversation in the list, the title and the address. */
  #showAround(): void {
    const { id } = this.#current;
    this.#showList();
    const title = titleOf(this.#current);
    document.title = this.#current.messages.length > 0 ? `${title} · Tilewright` : "Tilewright";
    byId("conversation-heading", HTMLElement).textContent = title;
    const address = this.#current.messages.length > 0 ? `#${id}` : location.pathname + location.search;
    history.replaceState(null, "", address);
  }

  #showList(): void {
    this.#sidebar.show(this.#current.id, new Set(this.#running.keys()));
  }

  #showWaiting(): void {
    const running = this.#running.get(this.#current.id);
    if (running && !running.answer.content) this.#transcript.refresh(running.answer, this.#shown());
  }

  #key(event: KeyboardEvent): void {
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    const writing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
    if (event.key === "Escape") {
      if (this.#running.has(this.#current.id)) this.#stop();
      else this.#stats.setOpen(false);
    } else if (event.key === "/" && !writing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      this.#composer.focus();
    } else if (event.key.toLowerCase() === "o" && event.shiftKey && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.#create();
    }
  }
}
