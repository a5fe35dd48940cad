/** The benchmark page: loads a model, measures it, and shows numbers, a plot and the JSON line. */

import { Tilewright } from "../client.ts";
import { announce } from "../ui/announce.ts";
import { adviceFor, codeOf, isStop } from "../ui/advice.ts";
import { type Benchmark, benchmark } from "../ui/benchmark.ts";
import { byId, copyText, h } from "../ui/dom.ts";
import * as format from "../ui/format.ts";
import { BUNDLED, parseReference } from "../ui/models.ts";
import { row, startPage } from "../ui/page_frame.ts";
import { linePlot } from "../ui/plot.ts";
import { askedBackend } from "../ui/support.ts";
import { rooflinePlot } from "../ui/roofline.ts";
import type { TuningEvent } from "../tuning.ts";

const run = byId("run", HTMLButtonElement);
const state = byId("state", HTMLElement);
const bar = byId("bar", HTMLElement);
let stop: AbortController | undefined;

function progress(text: string, share: number): void {
  state.textContent = text;
  bar.querySelector<HTMLElement>("i")!.style.transform = `scaleX(${share})`;
  bar.setAttribute("aria-valuenow", String(Math.round(share * 10) * 10));
}

function show({ line, speeds }: Benchmark): void {
  const number = (key: string, unit: string) =>
    typeof line[key] === "number" ? [row(LABELS[key]!, `${format.rate(line[key])}${unit}`)] : [];
  const seconds = (key: string) =>
    typeof line[key] === "number" ? [row(LABELS[key]!, format.duration(line[key]))] : [];
  const share = line["decode_share_of_bandwidth"];
  byId("numbers", HTMLElement).replaceChildren(
    row("Model", `${line["model"]}, ${line["format"]}`),
    ...number("decode_tokens_per_s", " tokens/s"),
    ...number("prefill_128_tokens_per_s", " tokens/s"),
    ...number("prefill_512_tokens_per_s", " tokens/s"),
    ...seconds("first_token_cold_s"),
    ...seconds("first_token_warm_s"),
    ...seconds("load_s"),
    ...number("copy_bandwidth_gb_s", " GB/s"),
    ...(typeof share === "number" ? [row(LABELS["decode_share_of_bandwidth"]!, `${(share * 100).toFixed(1)} %`)] : []),
  );
  byId("results", HTMLElement).hidden = false;
  byId("json", HTMLElement).textContent = JSON.stringify(line);
  if (speeds.length > 1) {
    const ends = [speeds[0]!, speeds.at(-1)!].map(({ x, y }) => `${format.rate(y)} tokens/s after ${x} tokens`);
    const place = byId("plot", HTMLElement);
    const width = Math.max(280, place.clientWidth);
    const picture = linePlot(speeds, width, "tokens of context", "tokens/s", `Decode speed: ${ends.join(", ")}.`);
    place.replaceChildren(picture);
  }
}

const LABELS: Record<string, string> = {
  decode_tokens_per_s: "Decode",
  prefill_128_tokens_per_s: "Prefill, 128 tokens",
  prefill_512_tokens_per_s: "Prefill, 512 tokens",
  first_token_cold_s: "First token, cold",
  first_token_warm_s: "First token, warm",
  load_s: "Load",
  copy_bandwidth_gb_s: "Memory bandwidth (copy)",
  decode_share_of_bandwidth: "Share used by decoding",
};

/** Time the kernels of the model, those without a record, and show them under the device's roof. */
async function roofline(engine: Tilewright, signal: AbortSignal): Promise<void> {
  const kernels = new Map<string, TuningEvent>();
  const { ceilings } = await engine.tune({
    signal,
    share: 1,
    onProgress: (event) => {
      progress(`Timing kernels: ${event.kernel}`, event.finished / Math.max(event.total, 1));
      if (event.done && event.kernel) kernels.set(`${event.workload} ${event.kernel}`, event);
    },
  });
  if (!ceilings) return; // on the CPU path they are not measured
  const part = byId("roofline-part", HTMLElement);
  part.hidden = false; // or it has no width
  const place = byId("roofline", HTMLElement);
  const points = [...kernels].map(([name, event]) => ({ ...event, name }));
  const picture = rooflinePlot(ceilings, points, Math.max(280, place.clientWidth));
  part.hidden = picture === null;
  if (picture) place.replaceChildren(picture);
  progress("Done", 1);
}

async function measure(): Promise<void> {
  const error = byId("error", HTMLElement);
  error.hidden = true;
  stop = new AbortController();
  const { signal } = stop;
  run.textContent = "Stop";
  bar.hidden = false;
  let engine: Tilewright | undefined;
  try {
    const typed = byId("model", HTMLInputElement).value.trim();
    const source = typed ? parseReference(typed) : BUNDLED;
    if (source.kind === "file") return;
    const begun = performance.now();
    const backend = askedBackend();
    engine = await Tilewright.load(source.reference, {
      signal,
      ...(backend ? { backend } : {}),
      onProgress: ({ done, total }) =>
        progress(total > 0 ? `Loading ${format.bytes(done)} of ${format.bytes(total)}` : "Starting the engine", 0),
    });
    const seconds = (performance.now() - begun) / 1000;
    await benchmark(engine, seconds, { onStep: progress, onResult: show }, signal);
    await roofline(engine, signal);
    announce("The benchmark is complete.");
  } catch (reason) {
    if (isStop(reason) || signal.aborted) progress("Stopped", 0);
    else {
      const { title, message, advice, code } = adviceFor(codeOf(reason));
      error.replaceChildren(h("strong", {}, title), h("p", {}, message), h("p", {}, advice), h("p", { class: "error-foot" }, h("code", {}, code)));
      error.hidden = false;
      state.textContent = "";
    }
  } finally {
    await engine?.unload().catch(() => undefined);
    stop = undefined;
    run.textContent = "Run again";
    bar.hidden = true;
  }
}

if (await startPage()) {
  run.disabled = false;
  byId("bench-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    if (stop) stop.abort();
    else void measure();
  });
  const copy = byId("copy", HTMLButtonElement);
  copy.addEventListener("click", () => void copyText(byId("json", HTMLElement).textContent ?? "", copy));
}
