/**
 * What a page that has an engine and the site's service worker say to each other. Types only.
 *
 * A request goes to all pages, each with a port of its own. Whoever has an engine, or will have one,
 * answers `taking`; the first is told `go`, the others `cancel`. The body comes piece by piece, each
 * asked for with `pull`.
 */

export interface SiteRequest {
  type: "tilewright-request";
  method: string;
  url: string;
  body: string | undefined;
}

export type FromPage =
  | { type: "taking" }
  | { type: "head"; status: number; headers: [string, string][] }
  | { type: "piece"; bytes: Uint8Array<ArrayBuffer> }
  | { type: "end" }
  | { type: "failed"; message: string };

export type FromServiceWorker = { type: "go" } | { type: "pull" } | { type: "cancel" };
