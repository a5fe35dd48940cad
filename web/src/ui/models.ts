/**
 * The models a visitor can choose, as references that `Tilewright.load` understands.
 */

import { parseReference as parseHub } from "../store/hub.ts";
import { mainFile } from "../store/source.ts";
import { recall, remember } from "./memory.ts";

export type ModelSource =
  | { kind: "bundled" | "hub" | "url" | "server"; label: string; reference: string; bytes?: number }
  | { kind: "file"; label: string; files: readonly File[]; bytes: number };

/** What is said about one load, and kept nowhere: tokens least of all. */
export interface LoadDetails {
  token?: string;
  context_length?: number;
  memory_budget?: number;
}

/** The model that ships with the site: the one place that names its file. */
export const BUNDLED: ModelSource = {
  kind: "bundled",
  label: "Tilewright tiny",
  reference: "models/tilewright-tiny.gguf",
};

/** Where a server may list the models it offers. */
const SERVER_LIST = "models/";

/** Turn what was typed into a reference. Throws a sentence for people where it is none. */
export function parseReference(typed: string): ModelSource {
  const text = typed.trim();
  if (text === "") throw new Error("Type a Hub reference such as hf:org/repo/file.gguf, or an address.");
  const page = /^https:\/\/huggingface\.co\/([^/]+\/[^/?#]+)(?:\/(?:blob|resolve|tree)\/([^/]+)(?:\/([^?]+))?)?/.exec(text);
  const [, repository, revision = "main", path] = page ?? [];
  const hub = repository
    ? `hf:${repository}${path ? `/${path}` : ""}${revision === "main" ? "" : `@${revision}`}`
    : text;
  if (hub.startsWith("hf:")) {
    const { path: file, repository: found, quantization } = parseHub(hub);
    const label = file?.split("/").at(-1) ?? found.split("/")[1]! + (quantization ? ` ${quantization}` : "");
    return { kind: "hub", label, reference: hub };
  }
  let url: URL;
  try {
    if (/\s/.test(text)) throw new TypeError("an address has no spaces");
    url = new URL(text, document.baseURI);
  } catch {
    throw new Error("This is neither a Hub reference (hf:…) nor an address.");
  }
  if (!["https:", "http:"].includes(url.protocol)) {
    throw new Error("Only http and https addresses can be loaded; drop a file on the page instead.");
  }
  return { kind: "url", label: decodeURIComponent(url.pathname.split("/").at(-1) || url.host), reference: url.href };
}

/** Return a source for files that belong together, or throw a sentence where they are no model. */
export function fromFiles(files: readonly File[]): ModelSource {
  const [first] = files;
  if (!first) throw new Error("There is no file here.");
  if (files.length === 1 && !/\.(gguf|safetensors)$/i.test(first.name)) {
    throw new Error(`${first.name} is not a model file: choose one that ends in .gguf.`);
  }
  const main = files.length === 1 ? first.name : mainFile(files.map(({ name }) => name));
  const folder = first.webkitRelativePath.split("/")[0];
  const label = folder && !main.endsWith(".gguf") ? folder : main;
  return { kind: "file", label, files, bytes: files.reduce((sum, { size }) => sum + size, 0) };
}

/** Return the models that the site's server offers; none where it has no list. */
export async function serverModels(): Promise<ModelSource[]> {
  try {
    const answer = await fetch(SERVER_LIST, { headers: { accept: "application/json" } });
    if (!answer.ok || !answer.headers.get("content-type")?.includes("json")) return [];
    const list = ((await answer.json()) as { models?: unknown }).models;
    if (!Array.isArray(list)) return [];
    return list.flatMap((entry: { name?: unknown; size?: unknown } | null) => {
      if (typeof entry?.name !== "string") return [];
      const path = entry.name.split("/").map(encodeURIComponent).join("/");
      const reference = SERVER_LIST + path;
      if (BUNDLED.kind !== "file" && reference === BUNDLED.reference) return [];
      const size = typeof entry.size === "number" ? { bytes: entry.size } : {};
      return [{ kind: "server" as const, label: entry.name, reference, ...size }];
    });
  } catch {
    return [];
  }
}

const RECENT = "recent-models";
const FIRST = "first-model";
const RECENT_COUNT = 6;

type Remembered = Exclude<ModelSource, { kind: "file" }>;

function isRemembered(value: unknown): value is Remembered {
  const entry = value as Partial<Remembered> | null;
  return (
    typeof entry?.reference === "string" &&
    typeof entry.label === "string" &&
    ["bundled", "hub", "url", "server"].includes(entry.kind ?? "")
  );
}

/** Return the models that were loaded here before, latest first. Files cannot be kept. */
export function recentModels(): Remembered[] {
  const stored = recall<unknown>(RECENT);
  return Array.isArray(stored) ? stored.filter(isRemembered) : [];
}

export function rememberModel(source: ModelSource, bytes: number): void {
  if (source.kind !== "hub" && source.kind !== "url") return;
  const others = recentModels().filter(({ reference }) => reference !== source.reference);
  remember(RECENT, [{ ...source, bytes }, ...others].slice(0, RECENT_COUNT));
}

export function forgetModel(reference: string): void {
  remember(RECENT, recentModels().filter((entry) => entry.reference !== reference));
}

/** The model loaded when the page opens: the bundled one unless the user chose another. */
export function firstModel(): ModelSource {
  const stored = recall<unknown>(FIRST);
  return isRemembered(stored) ? stored : BUNDLED;
}

export function chooseFirst(source: ModelSource | null): void {
  remember(FIRST, source && source.kind !== "file" && source.kind !== "bundled" ? source : null);
}
