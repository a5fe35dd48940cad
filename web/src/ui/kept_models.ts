/**
 * The models kept on this device: how large they are and when they were used last, and what can be
 * done with each: load, pin, check, save as a file, remove.
 */

import { StoreConnection } from "../store/connect.ts";
import type { Kept } from "../store/store.ts";
import { codeOf } from "./advice.ts";
import { byId, h, iconButton } from "./dom.ts";
import * as format from "./format.ts";
import type { ModelSource } from "./models.ts";
import { recall, remember } from "./memory.ts";
import { toast } from "./toast.ts";

const ASKED = "asked-to-persist";

/** Ask the browser, once, to keep what was downloaded even when space is short. */
export async function askToPersist(): Promise<void> {
  if (recall<unknown>(ASKED) === true) return;
  remember(ASKED, true);
  try {
    if (!(await navigator.storage.persisted())) await navigator.storage.persist();
  } catch {
    // The browser has no such thing: files stay as long as it pleases.
  }
}

export class KeptModels {
  readonly #load: (source: ModelSource) => void;
  #store: StoreConnection | undefined;
  #busy = "";

  constructor(load: (source: ModelSource) => void) {
    this.#load = load;
  }

  /** Show what is there now. */
  async show(): Promise<void> {
    this.#store ??= new StoreConnection();
    try {
      const { files, quota } = await this.#store.list();
      this.#draw(files, quota);
    } catch {
      byId("picker-kept", HTMLElement).hidden = true;
    }
  }

  /** End the store's worker; `show` starts it again. */
  close(): void {
    this.#store?.terminate();
    this.#store = undefined;
  }

  #draw(files: Kept[], quota: { usage: number; quota: number } | null): void {
    byId("picker-kept", HTMLElement).hidden = files.length === 0;
    byId("picker-kept-list", HTMLElement).replaceChildren(...files.map((file) => this.#row(file)));
    const used = files.reduce((sum, { have }) => sum + have, 0);
    const room = quota ? ` The browser grants this page ${format.bytes(quota.quota)}.` : "";
    byId("picker-kept-sum", HTMLElement).textContent = `${format.bytes(used)} in all.${room}`;
  }

  #row(file: Kept): HTMLElement {
    const { name, url, size, have, complete, pinned, usedAt } = file;
    const state = complete
      ? `${format.bytes(size)} · used ${format.ago(usedAt)}`
      : `${format.bytes(have)} of ${format.bytes(size)} arrived, the rest follows at the next load`;
    const note = this.#busy === url ? "Checking…" : pinned ? `${state} · pinned` : state;
    const source: ModelSource = { kind: "url", label: name, reference: url, bytes: size };
    return h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "choice", onclick: () => this.#load(source) },
        h("span", { class: "choice-name" }, name),
        h("span", { class: "choice-note" }, note),
      ),
      iconButton("pin", pinned ? `Let ${name} go when space is short` : `Keep ${name} when space is short`, () => this.#do({ method: "pin", url, pinned: !pinned }), {
        "aria-pressed": String(pinned),
      }),
      complete && iconButton("check", `Check ${name}`, () => void this.#verify(file)),
      complete && iconButton("download", `Save ${name} as a file`, () => void this.#save(file)),
      iconButton("trash", `Remove ${name} from this device`, () => void this.#remove(file)),
    );
  }

  async #do(call: Parameters<StoreConnection["call"]>[0]): Promise<unknown> {
    try {
      return await this.#store?.call(call);
    } catch (error) {
      toast(codeOf(error).message);
      return undefined;
    } finally {
      await this.show();
    }
  }

  async #verify({ url, name }: Kept): Promise<void> {
    this.#busy = url;
    await this.show();
    this.#busy = "";
    const found = (await this.#do({ method: "verify", url })) as { blocks: number; damaged: number } | undefined;
    if (!found) return;
    if (found.damaged === 0) toast(`${name} is sound: every byte is as it arrived.`);
    else toast(`${found.damaged} of ${found.blocks} pieces of ${name} are damaged; they are fetched again at the next load.`);
  }

  async #remove({ url, name }: Kept): Promise<void> {
    const gone = await this.#do({ method: "remove", url });
    toast(gone ? `${name} was removed from this device.` : `${name} is in use: load another model first.`);
  }

  async #save({ url, name }: Kept): Promise<void> {
    try {
      const blob = await this.#store!.call<Blob>({ method: "blob", url });
      const address = URL.createObjectURL(blob);
      h("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
    } catch (error) {
      toast(codeOf(error).message);
    }
  }
}
