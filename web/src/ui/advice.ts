/**
 * What a person can do about an error: one row per stable code of `tilewright/errors.py`.
 *
 * The sentence of the error says what happened; the row says what to do about it.
 */

import type { TilewrightError } from "../errors.ts";

export interface Advice {
  code: string;
  /** What happened, in a few words. */
  title: string;
  /** The error's own sentence. */
  message: string;
  /** What to do. */
  advice: string;
  /** Whether trying the same again can help. */
  again: boolean;
}

type Row = [title: string, advice: string, again: boolean];

const ROWS: Record<string, Row> = {
  bad_model_file: ["This file is not a sound model", "Download the file again, or choose another one: a GGUF file, or the folder of a safetensors model.", false],
  unsupported_model: ["This kind of model is not supported yet", "Choose another model; the list of supported architectures is in the README.", false],
  source_unavailable: ["The model could not be read", "Check the address and your connection, then try again. What has arrived is kept, so the download goes on where it stopped.", true],
  bad_tokenizer: ["The model's vocabulary cannot be used", "Choose another file of this model: this one was made with a broken vocabulary.", false],
  template_failed: ["The model's chat template failed", "Start a new chat or shorten the system prompt. Some models refuse system prompts altogether.", true],
  invalid_request: ["The request was refused", "Look at the settings: one of the values does not suit this model.", false],
  context_length_exceeded: ["The conversation is too long for the model", "Start a new chat, shorten the message, or load the model with a larger context (Settings).", false],
  no_device: ["There is no usable graphics device", "Update the browser and the graphics driver, and check that hardware acceleration is switched on.", true],
  device_lost: ["The graphics device was lost", "Another program may have claimed it, or the driver restarted. Try again; if it happens often, choose a smaller model.", true],
  out_of_memory: ["There is not enough memory", "Close other tabs, choose a smaller model or a stronger quantization, or a smaller context (Settings).", true],
  kernel_failed: ["A graphics kernel failed", "Update the browser and the graphics driver. The page “Kernels” shows which parts work on this device.", true],
  busy: ["The engine is busy", "Wait until the running answer is complete, or stop it.", true],
  worker_failed: ["The engine stopped", "Try again. If it stops again, reload the page; your conversations are kept.", true],
  runtime_failed: ["The engine did not start", "Reload the page. If that does not help, a browser extension or a proxy may be blocking WebAssembly.", true],
};
/** More precise than the row of `source_unavailable`: by `details.reason` of the store's errors. */
const SOURCES: Record<string, Row> = {
  gated: ["The hub asks who you are", "Open the model's page at the hub, accept its terms if there are any, and make an access token that may read. Give the token where models are chosen, under “Access token”; it is forgotten when this page is closed.", false],
  missing: ["There is no such model", "Look at the list of files of the repository: the name, the quantization or the revision may have changed.", false],
  rate_limited: ["The server asks for patience", "Wait a few minutes, then try again. What has arrived is kept, so the download goes on where it stopped.", true],
  server: ["The server has a problem", "Try again later. What has arrived is kept, so the download goes on where it stopped.", true],
  changed: ["The model changed while it was read", "Try again: the new file is fetched from its start.", true],
  corrupt: ["The model arrived damaged", "Try again: what was damaged is fetched anew and checked again. If it happens twice, the network or the disk is at fault.", true],
};
const UNKNOWN: Row = ["Something went wrong", "Try again. If it happens again, reload the page; your conversations are kept.", true];

/** Whether it is one of our errors; not by its class, because elements and client are two bundles. */
function isOurs(error: unknown): error is TilewrightError {
  return error instanceof Error && typeof (error as Partial<TilewrightError>).code === "string";
}

/** Whether an error only says that the user stopped. */
export function isStop(error: unknown): boolean {
  if (isOurs(error)) return error.code === "cancelled";
  return error instanceof DOMException && error.name === "AbortError";
}

/** Return the code and sentence of anything that was thrown. */
export function codeOf(error: unknown): Told {
  if (isOurs(error)) {
    const { code, message, details = {} } = error as Told;
    return { code, message, details };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal", message };
}

/** What is known of an error. */
export interface Told {
  code: string;
  message: string;
  details?: Record<string, unknown>;
}

/** Return what to tell about an error. */
export function adviceFor({ code, message, details }: Told): Advice {
  const row = code === "source_unavailable" ? SOURCES[String(details?.["reason"])] : undefined;
  const [title, advice, again] = row ?? ROWS[code] ?? UNKNOWN;
  return { code, title, message, advice, again };
}
