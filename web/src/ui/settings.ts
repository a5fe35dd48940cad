/**
 * What the user has set: system prompt and sampling, kept in this browser.
 *
 * Ranges are data, so that the panel, the check of stored values and the request agree.
 */

import type { Sampling } from "../protocol.ts";
import { recall, remember } from "./memory.ts";

export interface Settings {
  system: string;
  temperature: number;
  top_p: number;
  top_k: number;
  min_p: number;
  repetition_penalty: number;
  max_tokens: number;
  /** null: another seed each time. */
  seed: number | null;
  /** Positions of the context; null: what suits model and device. Takes effect at the next load. */
  context_length: number | null;
  /** Show speed and token counts below each answer. */
  details: boolean;
}

export const DEFAULTS: Settings = {
  system: "",
  temperature: 0.7,
  top_p: 0.95,
  top_k: 40,
  min_p: 0.05,
  repetition_penalty: 1,
  max_tokens: 512,
  seed: null,
  context_length: null,
  details: true,
};

export type NumberField = Exclude<keyof Settings, "system" | "details">;

export interface Range {
  label: string;
  help: string;
  min: number;
  max: number;
  step: number;
  whole: boolean;
  /** What an empty field means, where it may be empty. */
  empty?: string;
}

export const RANGES: Record<NumberField, Range> = {
  temperature: { label: "Temperature", help: "0 always takes the likeliest token; higher is more varied.", min: 0, max: 2, step: 0.05, whole: false },
  top_p: { label: "Top p", help: "Keep the likeliest tokens that together reach this share.", min: 0, max: 1, step: 0.01, whole: false },
  top_k: { label: "Top k", help: "Keep this many of the likeliest tokens; 0 keeps all.", min: 0, max: 1000, step: 1, whole: true },
  min_p: { label: "Min p", help: "Drop tokens less likely than this share of the likeliest.", min: 0, max: 1, step: 0.01, whole: false },
  repetition_penalty: { label: "Repetition penalty", help: "Above 1, words already said become less likely.", min: 0.5, max: 2, step: 0.01, whole: false },
  max_tokens: { label: "Longest answer", help: "In tokens; one is about three quarters of a word.", min: 1, max: 131072, step: 1, whole: true },
  seed: { label: "Seed", help: "The same seed gives the same answer again.", min: 0, max: 2 ** 32 - 1, step: 1, whole: true, empty: "random" },
  context_length: { label: "Context", help: "Tokens the model can look back on. Used when a model is loaded next.", min: 64, max: 1048576, step: 1, whole: true, empty: "automatic" },
};

const KEY = "settings";

/** Return a field's value if it is acceptable, else undefined. */
export function accepted(field: NumberField, value: unknown): number | null | undefined {
  const { min, max, whole, empty } = RANGES[field];
  if (value === null) return empty ? null : undefined;
  if (typeof value !== "number" || !Number.isFinite(value)) return undefined;
  if (value < min || value > max || (whole && !Number.isInteger(value))) return undefined;
  return value;
}

/** Return the stored settings; what is missing or spoilt has its default. */
export function loadSettings(): Settings {
  const stored = recall<Partial<Record<keyof Settings, unknown>>>(KEY) ?? {};
  const settings: Settings = { ...DEFAULTS };
  if (typeof stored.system === "string") settings.system = stored.system;
  if (typeof stored.details === "boolean") settings.details = stored.details;
  for (const field of Object.keys(RANGES) as NumberField[]) {
    const value = accepted(field, stored[field]);
    if (value !== undefined) (settings as unknown as Record<string, number | null>)[field] = value;
  }
  return settings;
}

export function saveSettings(settings: Settings): void {
  remember(KEY, settings);
}

/** Return the sampling fields of a request. Without a seed of the user, one is drawn. */
export function samplingOf(settings: Settings): Sampling {
  const { temperature, top_p, top_k, min_p, repetition_penalty, max_tokens } = settings;
  const seed = settings.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  return { temperature, top_p, top_k, min_p, repetition_penalty, max_tokens, seed };
}
