/** The drawer with the engine's counters, for those who look. Asks the engine only while it is open. */

import { byId, h } from "./dom.ts";
import type { Conversation } from "./conversations.ts";
import * as format from "./format.ts";
import type { ModelSession } from "./session.ts";

const REFRESH_MS = 1000;

const LABELS: Record<string, string> = {
  prompt_tokens: "Prompt tokens read",
  generated_tokens: "Tokens generated",
  discarded_tokens: "Tokens discarded",
  decode_steps: "Decode steps",
  prefill_chunks: "Prompt chunks",
  preemptions: "Preemptions",
  waiting: "Requests waiting",
  running: "Requests running",
  dispatches_per_token: "Dispatches per token",
  submits_per_token: "Submits per token",
  bytes_per_token: "Bytes moved per token",
  submits: "Submits",
  device_bytes: "Device memory",
  total: "KV cache blocks",
  held: "KV cache blocks held",
  cached: "KV cache blocks kept for reuse",
  hits: "Prefix cache hits",
  queries: "Prefix cache look-ups",
  evictions: "Prefix cache evictions",
};

/** Memory comes first: it is what people look for. */
const FIRST: Record<string, true> = { "Device memory": true };

type Fact = [name: string, value: string];

export class StatsPanel {
  readonly #panel = byId("stats", HTMLElement);
  readonly #button = byId("stats-toggle", HTMLButtonElement);
  readonly #session: ModelSession;
  readonly #conversation: () => Conversation;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(session: ModelSession, conversation: () => Conversation) {
    this.#session = session;
    this.#conversation = conversation;
    this.#button.addEventListener("click", () => this.setOpen(Boolean(this.#panel.hidden)));
    byId("stats-close", HTMLButtonElement).addEventListener("click", () => {
      this.setOpen(false);
      this.#button.focus();
    });
  }

  setOpen(open: boolean): void {
    this.#panel.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    clearInterval(this.#timer);
    if (!open) return;
    void this.#show();
    this.#timer = setInterval(() => void this.#show(), REFRESH_MS);
  }

  async #show(): Promise<void> {
    const groups = [this.#answerFacts(), this.#modelFacts(), await this.#engineFacts(), await memoryFacts()];
    const sections = groups.flatMap(([title, facts]) =>
      facts.length === 0
        ? []
        : [
            h("h3", {}, title),
            h("dl", { class: "facts" }, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
          ],
    );
    byId("stats-body", HTMLElement).replaceChildren(
      ...(sections.length > 0 ? sections : [h("p", {}, "Numbers appear here once a model is loaded.")]),
    );
  }

  #answerFacts(): [string, Fact[]] {
    const stats = this.#conversation().messages.findLast((message) => message.stats)?.stats;
    if (!stats) return ["Last answer", []];
    return [
      "Last answer",
      [
        ["Speed", `${format.rate(stats.tokensPerSecond)} tokens/s`],
        ["Time to first token", format.duration(stats.timeToFirstToken)],
        ["Prompt", `${format.whole(stats.promptTokens)} tokens, ${format.whole(stats.cachedTokens)} from cache`],
        ["Answer", `${format.whole(stats.completionTokens)} tokens`],
        ["Context used", `${format.whole(stats.promptTokens + stats.completionTokens)} of ${format.whole(stats.contextLength)}`],
      ],
    ];
  }

  #modelFacts(): [string, Fact[]] {
    const { state } = this.#session;
    if (state.kind !== "ready") return ["Model", []];
    const { info } = state;
    return [
      "Model",
      [
        ["Name", info.name || state.source.label],
        ["Architecture", info.architecture],
        ["File", format.bytes(info.bytes)],
        ["Device", info.device],
        ["Loaded in", format.duration(state.seconds)],
      ],
    ];
  }

  async #engineFacts(): Promise<[string, Fact[]]> {
    const { state } = this.#session;
    if (state.kind !== "ready") return ["Engine", []];
    const counters = await state.engine.stats().catch(() => ({}));
    return ["Engine", flatten(counters).sort(([a], [b]) => Number(b in FIRST) - Number(a in FIRST))];
  }
}

async function memoryFacts(): Promise<[string, Fact[]]> {
  const facts: Fact[] = [];
  try {
    const { usage, quota } = await navigator.storage.estimate();
    if (usage !== undefined) facts.push(["Kept in this browser", format.bytes(usage)]);
    if (quota !== undefined) facts.push(["Room the browser gives", format.bytes(quota)]);
  } catch {
    // Not offered outside secure contexts; the section is then left out.
  }
  return ["Storage", facts];
}

/** Turn the engine's counters, nested ones too, into lines. */
function flatten(counters: Record<string, unknown>, prefix = ""): Fact[] {
  return Object.entries(counters).flatMap(([key, value]): Fact[] => {
    const name = LABELS[key] ?? `${prefix}${key.replaceAll("_", " ")}`;
    if (typeof value === "number") return [[name, key.includes("bytes") ? format.bytes(value) : format.whole(value)]];
    if (typeof value === "string") return [[name, value]];
    if (value && typeof value === "object") return flatten(value as Record<string, unknown>, `${key.replaceAll("_", " ")}: `);
    return [];
  });
}
