/** The entry module of the site: `import { Tilewright } from "./tilewright.js"`. */

export { Tilewright } from "./client.ts";
export type { EngineOptions, Progress, StreamPart } from "./client.ts";
export { TilewrightError } from "./errors.ts";
export type * from "./protocol.ts";
export type { GenerateRequest } from "./requests.ts";
export type { Fetch } from "./openai/fetch.ts";
export type * from "./openai/messages.ts";
export type * from "./openai/resources.ts";
export { serveSite } from "./openai/serve_site.ts";
export type { SiteOptions } from "./openai/serve_site.ts";
export { PendingStream, Stream } from "./openai/stream.ts";
export type * from "./openai/types.ts";
export type { Choice } from "./openai/types.ts"; // not the tuning records' choice
export type { RecordsSource, TuneOptions, TuningEvent, TuningResult } from "./tuning.ts";
