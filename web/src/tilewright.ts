/** The entry module of the site: `import { Tilewright } from "./tilewright.js"`. */

export { modelUrl, Tilewright } from "./client.ts";
export type { EngineOptions, Progress, StreamPart } from "./client.ts";
export { TilewrightError } from "./errors.ts";
export type * from "./protocol.ts";
export type * from "./requests.ts";
export type { RecordsSource, TuneOptions, TuningEvent, TuningResult } from "./tuning.ts";
