/**
 * Conversations as data, and the place in the browser where they are kept.
 *
 * IndexedDB, one record per conversation; where it is refused (some private windows), they live in
 * memory until the page closes and `persistent` says so. Other tabs are told of changes. Knows
 * nothing of the page.
 */

import { turn } from "./turn.ts";

/** What an answer cost, as shown below it. */
export interface AnswerStats {
  promptTokens: number;
  completionTokens: number;
  cachedTokens: number;
  contextLength: number;
  tokensPerSecond: number;
  timeToFirstToken: number;
}

export interface Message {
  id: string;
  role: "user" | "assistant";
  content: string;
  createdAt: number;
  /** Of an answer: the model's name. */
  model?: string;
  /** Of an answer: why it ended. */
  finish?: "stop" | "length" | "stopped" | "error";
  error?: { code: string; message: string };
  /** Of an answer: earlier messages that no longer fitted the context. */
  leftOut?: number;
  stats?: AnswerStats;
}

export interface Conversation {
  id: string;
  title: string;
  /** True once the user has given the title: it is then never derived from the text. */
  named: boolean;
  createdAt: number;
  updatedAt: number;
  messages: Message[];
}

export const UNTITLED = "New chat";
const TITLE_LENGTH = 48;

/** Return an empty conversation. */
export function newConversation(): Conversation {
  const now = Date.now();
  return { id: crypto.randomUUID(), title: UNTITLED, named: false, createdAt: now, updatedAt: now, messages: [] };
}

/** Return a message. */
export function newMessage(role: Message["role"], content: string): Message {
  return { id: crypto.randomUUID(), role, content, createdAt: Date.now() };
}

/** Return a title made from the first thing that the user said. */
export function titleOf(conversation: Conversation): string {
  if (conversation.named) return conversation.title;
  const first = conversation.messages.find(({ role }) => role === "user");
  const line = first?.content.trim().split(/\s+/).join(" ") ?? "";
  if (line.length <= TITLE_LENGTH) return line || UNTITLED;
  const cut = line.slice(0, TITLE_LENGTH);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(" "), TITLE_LENGTH / 2)).trimEnd()}…`;
}

const DATABASE = "tilewright";
const TABLE = "conversations";

/** All conversations: read once, then kept in memory and written through. */
export class ConversationStore {
  /** False where nothing outlives the page. */
  readonly persistent: boolean;
  readonly #database: IDBDatabase | null;
  readonly #known = new Map<string, Conversation>();
  readonly #channel = new BroadcastChannel("tilewright-conversations");
  #changed: (id: string) => void = () => {};

  private constructor(database: IDBDatabase | null, known: Conversation[]) {
    this.#database = database;
    this.persistent = database !== null;
    for (const conversation of known) this.#known.set(conversation.id, conversation);
    this.#channel.onmessage = ({ data }: MessageEvent<{ id: string; conversation: Conversation | null }>) => {
      if (data.conversation) this.#known.set(data.id, data.conversation);
      else this.#known.delete(data.id);
      this.#changed(data.id);
    };
  }

  static async open(): Promise<ConversationStore> {
    try {
      const database = await openDatabase();
      const read = database.transaction(TABLE).objectStore(TABLE).getAll();
      const found = (await settled(read)) as unknown[];
      return new ConversationStore(database, found.filter(isConversation));
    } catch {
      return new ConversationStore(null, []);
    }
  }

  /** All conversations, latest first. */
  list(): Conversation[] {
    return [...this.#known.values()].sort((a, b) => b.updatedAt - a.updatedAt);
  }

  get(id: string): Conversation | undefined {
    return this.#known.get(id);
  }

  /** Keep a conversation once the page has shown it. */
  async saveSoon(conversation: Conversation): Promise<void> {
    this.#known.set(conversation.id, conversation);
    await turn();
    if (this.#known.get(conversation.id) === conversation) await this.save(conversation);
  }

  /** Keep a conversation as it is now. */
  async save(conversation: Conversation): Promise<void> {
    this.#known.set(conversation.id, conversation);
    const record = structuredClone(conversation);
    await this.#write((table) => table.put(record));
    this.#channel.postMessage({ id: conversation.id, conversation: record });
  }

  async remove(id: string): Promise<void> {
    this.#known.delete(id);
    await this.#write((table) => table.delete(id));
    this.#channel.postMessage({ id, conversation: null });
  }

  /** Call `listener` when another tab has changed or removed a conversation. */
  onForeignChange(listener: (id: string) => void): void {
    this.#changed = listener;
  }

  /** Return everything as JSON that `merge` reads again. */
  export(): string {
    return JSON.stringify({ format: "tilewright-conversations", version: 1, conversations: this.list() }, null, 2);
  }

  /** Add the conversations of an export; return how many. Throws where the text is something else. */
  async merge(text: string): Promise<number> {
    const data: unknown = JSON.parse(text);
    const list = (data as { conversations?: unknown } | null)?.conversations;
    if (!Array.isArray(list)) throw new Error("There are no conversations in this file.");
    const good = list.filter(isConversation);
    for (const conversation of good) await this.save(conversation);
    return good.length;
  }

  async #write(change: (table: IDBObjectStore) => IDBRequest): Promise<void> {
    if (!this.#database) return;
    await settled(change(this.#database.transaction(TABLE, "readwrite").objectStore(TABLE)));
  }
}

function openDatabase(): Promise<IDBDatabase> {
  const request = indexedDB.open(DATABASE, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
  return settled(request);
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("The browser's database failed."));
  });
}

/** Tell a conversation from anything else: an export is a file that anybody may have written. */
export function isConversation(value: unknown): value is Conversation {
  const record = value as Partial<Conversation> | null;
  return (
    typeof record === "object" &&
    record !== null &&
    typeof record.id === "string" &&
    typeof record.title === "string" &&
    typeof record.updatedAt === "number" &&
    Array.isArray(record.messages) &&
    record.messages.every(
      (message: Partial<Message> | null) =>
        typeof message?.id === "string" &&
        typeof message.content === "string" &&
        (message.role === "user" || message.role === "assistant"),
    )
  );
}
