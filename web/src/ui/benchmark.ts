/**
 * Measures a loaded model through the client, as `tilewright bench` does natively: the same prompts,
 * the same names in the JSON line. Knows nothing of elements.
 */

import type { Tilewright } from "../client.ts";
import type { UsageReport } from "../protocol.ts";
import type { Point } from "./plot.ts";

export interface Benchmark {
  /** The JSON line. */
  line: Record<string, unknown>;
  /** Decode speed (tokens/s) over tokens of context. */
  speeds: Point[];
}

export interface Listener {
  /** What is being measured, and how far the whole is (0 to 1). */
  onStep(text: string, share: number): void;
  onResult(partial: Benchmark): void;
}

const PREFILLS = [128, 512];
const CONTEXTS = [16, 64, 256, 512, 1024, 2048, 4096, 8192];
const DECODE = 64;
const DECODE_AT = 16;
const REPEAT = 3;

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const rounded = (value: number, digits = 2) => Number(value.toFixed(digits));

/** Run everything; parts appear through `onResult` as they are there. */
export async function benchmark(
  engine: Tilewright,
  loadSeconds: number,
  listener: Listener,
  signal: AbortSignal,
): Promise<Benchmark> {
  const { info } = engine;
  const result: Benchmark = {
    line: {
      bench: "model",
      model: info.name,
      format: (info.formats ?? []).join("+"),
      backend: info.backend ?? "webgpu",
      where: `browser, ${info.device}, ${navigator.userAgent}`,
      file_bytes: info.bytes,
      load_s: rounded(loadSeconds, 3),
    },
    speeds: [],
  };
  const prefills = PREFILLS.filter((length) => length + 1 <= info.context_length);
  const contexts = CONTEXTS.filter((length) => length + DECODE_AT <= info.context_length);
  const steps = prefills.length * REPEAT + REPEAT + contexts.length;
  let step = 0;
  let serial = 0;
  const run = async (ids: number[], tokens: number, text: string): Promise<UsageReport> => {
    signal.throwIfAborted();
    listener.onStep(text, step++ / steps);
    let usage: UsageReport | null = null;
    const sampling = { temperature: 0, max_tokens: tokens, ignore_eos: true };
    for await (const part of engine.complete({ ids, sampling, signal })) usage = part.usage ?? usage;
    if (!usage) throw new Error("The engine reported no usage.");
    return usage;
  };
  // Another prompt each time, so that no prefix of it is in the cache.
  const prompt = (length: number, factor: number, stride: number) => {
    serial++;
    return Array.from({ length }, (_, index) => (serial * factor + index * stride) % info.vocabulary);
  };

  const decodes = Math.min(DECODE, info.context_length - 16);
  const firsts: number[] = [];
  const speeds: number[] = [];
  for (let round = 0; round < REPEAT; round++) {
    const usage = await run(prompt(8, 104729, 17), decodes, `Generating ${decodes} tokens`);
    firsts.push(usage.time_to_first_token_s);
    speeds.push(usage.tokens_per_second);
  }
  Object.assign(result.line, {
    decode_tokens: decodes,
    decode_tokens_per_s: rounded(median(speeds)),
    first_token_cold_s: rounded(firsts[0]!, 4),
    first_token_warm_s: rounded(median(firsts.slice(1)), 4),
  });
  listener.onResult(result);

  for (const length of prefills) {
    const rates: number[] = [];
    for (let round = 0; round < REPEAT; round++) {
      const usage = await run(prompt(length, 7919, 31), 1, `Reading ${length} tokens`);
      rates.push(length / usage.time_to_first_token_s);
    }
    result.line[`prefill_${length}_tokens_per_s`] = rounded(median(rates));
    listener.onResult(result);
  }

  // Each prompt begins like the one before: the engine need not read that part again.
  const longest = prompt(contexts.at(-1) ?? 0, 15485863, 13);
  for (const length of contexts) {
    const usage = await run(longest.slice(0, length), DECODE_AT, `Generating after ${length} tokens`);
    result.speeds.push({ x: length, y: rounded(usage.tokens_per_second) });
    listener.onResult(result);
  }
  result.line["decode_over_context"] = result.speeds.map(({ x, y }) => [x, y]);
  const { dispatches_per_token, submits_per_token, bytes_per_token } = await engine.stats();
  Object.assign(result.line, { dispatches_per_token, submits_per_token });
  await addBandwidth(result.line, Number(bytes_per_token) || 0);
  const downloaded = await startBytes();
  if (downloaded !== null) result.line["start_bytes_brotli"] = downloaded;
  listener.onStep("Done", 1);
  listener.onResult(result);
  return result;
}

/** Add how fast the device copies, and what share of that decoding moves. */
async function addBandwidth(line: Record<string, unknown>, bytesPerToken: number): Promise<void> {
  const bandwidth = await copyBandwidth();
  if (bandwidth === null) return;
  const moved = bytesPerToken * Number(line["decode_tokens_per_s"]);
  line["copy_bandwidth_gb_s"] = rounded(bandwidth / 1e9, 3);
  if (moved > 0) line["decode_share_of_bandwidth"] = rounded(moved / bandwidth, 4);
}

/** Bytes per second that a copy between two buffers reads (as many are written); null where it fails. */
async function copyBandwidth(size = 64 << 20, copies = 8): Promise<number | null> {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter?.requestDevice();
  if (!device) return null;
  try {
    const usage = GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const [from, to] = [0, 1].map(() => device.createBuffer({ size, usage }));
    let best = Infinity;
    for (let round = 0; round < 3; round++) {
      const encoder = device.createCommandEncoder();
      for (let copy = 0; copy < copies; copy++) encoder.copyBufferToBuffer(from!, 0, to!, 0, size);
      const begun = performance.now();
      device.queue.submit([encoder.finish()]);
      await device.queue.onSubmittedWorkDone();
      best = Math.min(best, (performance.now() - begun) / 1000);
    }
    return (size * copies) / best;
  } catch {
    return null;
  } finally {
    device.destroy();
  }
}

/** Compressed bytes that a first visit fetches before Python runs. */
async function startBytes(): Promise<number | null> {
  try {
    const answer = await fetch("manifest.json");
    const manifest = (await answer.json()) as { start?: { brotli?: number } };
    return manifest.start?.brotli ?? null;
  } catch {
    return null;
  }
}
