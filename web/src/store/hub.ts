/**
 * References to models on a hub: `hf:org/repo`, `hf:org/repo:Q4_K_M`, `hf:org/repo/file.gguf`, each
 * with `@revision`. A repository is listed, page by page, and the right file chosen.
 *
 * Speaks the Hugging Face Hub's API (https://huggingface.co/docs/hub/api, `tree` and `resolve`).
 */

import { SourceError, TilewrightError } from "../errors.ts";
import { ask, type Asking, nextPage } from "./http.ts";
import { isHelper, siblingNames } from "./source.ts";

export const HUB = "https://huggingface.co";
const PAGES = 50;

/** A parsed reference. */
export interface HubReference {
  repository: string;
  revision: string;
  path: string | null;
  quantization: string | null;
}

/** A file of a repository. */
export interface HubFile {
  path: string;
  size: number;
  /** Where the hub knows it: of files in its large storage. */
  sha256: string | null;
}

/** What a reference stands for: the file to open first, and all files that belong to it. */
export interface Resolved {
  /** Address of the folder of the files, ending with a slash. */
  base: string;
  main: HubFile;
  /** Files beside the main one, by the name under which the model asks for them. */
  files: HubFile[];
  /** What was chosen, for people: `Q4_K_M` or the file's name. */
  label: string;
  /** All quantizations of the repository with their sizes, best first. */
  choices: { name: string; path: string; bytes: number }[];
  bytes: number;
}

const PARTS =
  /^hf:(?:\/\/)?([\w.-]+\/[\w.-]+?)(?::([\w.-]+))?(?:@(refs\/[\w-]+\/[\w.-]+|[^/@]+))?(?:\/([^@]+?))?(?:@(.+))?$/;

/** Parse a reference. Raises TilewrightError `invalid_request`. */
export function parseReference(reference: string): HubReference {
  const found = PARTS.exec(reference.trim());
  const [, repository, quantization, early, path, late] = found ?? [];
  if (!repository || (early && late) || path?.split("/").some((part) => /^\.{0,2}$/.test(part))) {
    throw new TilewrightError(
      "invalid_request",
      `${reference} is no reference to a model: write hf:organisation/repository, with :Q4_K_M, ` +
        "/file.gguf or @revision after it where needed.",
    );
  }
  return {
    repository,
    revision: early ?? late ?? "main",
    path: path ?? null,
    quantization: quantization ?? null,
  };
}

function encoded(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

/** The address under which the hub gives a file. */
export function fileAddress(hub: string, { repository, revision }: HubReference, path: string): string {
  return `${hub}/${repository}/resolve/${encodeURIComponent(revision)}/${encoded(path)}`;
}

/** List a folder of a repository (default: all of it). Raises SourceError. */
export async function listFiles(
  hub: string,
  { repository, revision }: HubReference,
  asking: Asking,
  folder: string | null = null,
): Promise<HubFile[]> {
  const under = folder === null ? "?recursive=true" : folder === "" ? "" : `/${encoded(folder)}`;
  let page: string | null =
    `${hub}/api/models/${repository}/tree/${encodeURIComponent(revision)}${under}`;
  const files: HubFile[] = [];
  for (let count = 0; page !== null && count < PAGES; count++) {
    const answer: Response = await ask(page, asking);
    const list: unknown = await answer.json().catch(() => null);
    if (!Array.isArray(list)) throw new SourceError(`${page} is no list of files: is this a hub?`);
    for (const item of list as Partial<ListedFile>[]) {
      if (item.type !== "file" || typeof item.path !== "string") continue;
      const digest = item.lfs?.oid ?? item.lfs?.sha256 ?? "";
      files.push({
        path: item.path,
        size: Number(item.lfs?.size ?? item.size ?? 0),
        sha256: /^[0-9a-f]{64}$/.test(digest) ? digest : null,
      });
    }
    page = nextPage(answer.headers.get("Link"), page);
    // A list that leads elsewhere must not take the token along.
    if (page !== null && new URL(page).origin !== new URL(hub).origin) page = null;
  }
  return files;
}

interface ListedFile {
  type: string;
  path: string;
  size: number;
  lfs: { oid?: string; sha256?: string; size?: number };
}

const QUANT =
  /(?:^|[-._/])((?:UD-)?(?:I?Q\d+(?:_[0-9A-Z]+)*|TQ\d_\d|MXFP4(?:_MOE)?|BF16|F16|F32|FP16|FP32))(?=[-._/]|$)/gi;

/** The quantization that a file's name tells: `Q4_K_M`; empty where it tells none. */
export function quantizationOf(path: string): string {
  const name = path.replace(/(-\d{5}-of-\d{5})?\.gguf$/i, "");
  return ([...name.matchAll(QUANT)].at(-1)?.[1] ?? "").toUpperCase();
}

/** Liked most first: the usual balance of size and quality, then what is nearest to it. */
const LIKED = ["Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q4_1", "IQ4_XS", "IQ4_NL", "MXFP4", "Q5_K_S", "Q8_0"];

interface Choice {
  name: string;
  parts: HubFile[];
  bytes: number;
}

/** The GGUF models of a repository, each with all its parts; the largest first. */
function ggufChoices(files: readonly HubFile[]): Choice[] {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const choices: Choice[] = [];
  for (const { path } of files) {
    if (!/\.gguf$/i.test(path) || isHelper(path)) continue;
    const folder = path.slice(0, path.lastIndexOf("/") + 1);
    const names = siblingNames(path.slice(folder.length)).map((name) => folder + name);
    if (names[0] !== path) continue;
    const parts = names.flatMap((name) => byPath.get(name) ?? []);
    if (parts.length < names.length) continue;
    const bytes = parts.reduce((sum, part) => sum + part.size, 0);
    choices.push({ name: quantizationOf(path) || path, parts, bytes });
  }
  return choices.sort((a, b) => b.bytes - a.bytes);
}

/** Choose among the models of a repository. Raises SourceError with what there is. */
function choose(choices: Choice[], wanted: string | null, budget: number, where: string): Choice {
  if (wanted !== null) {
    const upper = wanted.toUpperCase();
    const found =
      choices.find(({ name }) => name === upper) ??
      choices.find(({ name }) => name.replace(/^UD-/, "") === upper);
    if (found) return found;
    const names = [...new Set(choices.map(({ name }) => name))].join(", ");
    throw new SourceError(`${where} has no ${wanted}; it has ${names}.`, { reason: "missing", names });
  }
  const fitting = choices.filter(({ bytes }) => bytes <= budget);
  for (const name of LIKED) {
    const found = fitting.find((choice) => choice.name === name);
    if (found) return found;
  }
  return fitting[0] ?? choices.at(-1)!;
}

/** Where references are looked up, and what fits the device. */
export interface Looking extends Asking {
  hub?: string;
  /** Bytes of weights that fit this device; the choice prefers what does. */
  budget?: number;
}

/** Find the files that a reference stands for. Raises SourceError, TilewrightError. */
export async function resolve(reference: string, looking: Looking = {}): Promise<Resolved> {
  const { hub = HUB, budget = Infinity, ...asking } = looking;
  const parsed = parseReference(reference);
  const root = `${hub}/${parsed.repository}/resolve/${encodeURIComponent(parsed.revision)}/`;
  if (parsed.path !== null) return resolvePath(root, parsed, parsed.path, hub, asking);
  const files = await listFiles(hub, parsed, asking);
  const choices = ggufChoices(files);
  const listed = choices.map(({ name, parts, bytes }) => ({ name, path: parts[0]!.path, bytes }));
  if (choices.length === 0 || parsed.quantization?.toLowerCase() === "safetensors") {
    return { ...safetensors(files, root, parsed.repository), choices: listed };
  }
  const chosen = choose(choices, parsed.quantization, budget, parsed.repository);
  const [main] = chosen.parts;
  const folder = main!.path.slice(0, main!.path.lastIndexOf("/") + 1);
  const inFolder = files.filter(({ path }) => path.startsWith(folder));
  return {
    base: root + encoded(folder),
    main: { ...main!, path: main!.path.slice(folder.length) },
    files: inFolder.map((file) => ({ ...file, path: file.path.slice(folder.length) })),
    label: chosen.name,
    choices: listed,
    bytes: chosen.bytes,
  };
}

/** A file that is named needs no list; where there is one, it tells digests and what lies beside. */
async function resolvePath(
  root: string,
  parsed: HubReference,
  path: string,
  hub: string,
  asking: Asking,
): Promise<Resolved> {
  const folder = path.slice(0, path.lastIndexOf("/") + 1);
  const name = path.slice(folder.length);
  let files: HubFile[] = [];
  try {
    const once = { ...asking, pace: { retries: 0, pauseMs: 0 } };
    files = await listFiles(hub, parsed, once, folder.slice(0, -1));
  } catch (error) {
    if ((error as Error & { code?: string }).code === "cancelled") throw error;
    // A mirror without the API: the file itself will tell whether it is there.
  }
  const local = files.map((file) => ({ ...file, path: file.path.slice(folder.length) }));
  const main = local.find((file) => file.path === name) ?? { path: name, size: 0, sha256: null };
  const names = siblingNames(name);
  const parts = local.filter((file) => names.includes(file.path));
  const bytes = parts.reduce((sum, part) => sum + part.size, 0);
  return { base: root + encoded(folder), main, files: local, label: name, choices: [], bytes };
}

function safetensors(files: HubFile[], root: string, repository: string): Omit<Resolved, "choices"> {
  const tensors = files.filter(({ path }) => /^[^/]+\.safetensors$/.test(path));
  const main =
    files.find(({ path }) => path === "model.safetensors.index.json") ??
    files.find(({ path }) => path === "model.safetensors") ??
    (tensors.length === 1 ? tensors[0] : undefined);
  if (!main || !files.some(({ path }) => path === "config.json")) {
    throw new SourceError(
      `${repository} holds no model that can be loaded: a .gguf file is needed, or config.json and ` +
        "model.safetensors. Look for a repository of the model with GGUF in its name.",
      { reason: "missing" },
    );
  }
  const bytes = tensors.reduce((sum, file) => sum + file.size, 0);
  return { base: root, main, files, label: "safetensors", bytes };
}
