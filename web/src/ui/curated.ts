/** The models that are known to run: the same list as `tilewright models` prints. */

import list from "../../../py_core/tilewright/serve/curated_models.json";
import * as format from "./format.ts";
import type { ModelSource } from "./models.ts";

export interface Curated {
  name: string;
  reference: string;
  quantization: string;
  bytes: number;
  parameters: number;
  license: string;
  task: string;
  good_at: string;
}

export const CURATED: readonly Curated[] = list.models;

export function sourceOf({ name, reference, bytes }: Curated): Exclude<ModelSource, { kind: "file" }> {
  return { kind: "hub", label: name, reference, bytes };
}

/** What a row says besides the name. */
export function noteOf({ bytes, license, good_at }: Curated): string {
  return `${good_at} ${format.bytes(bytes)}, ${license}.`;
}
