/**
 * The roofline of a device as inline SVG: what its memory and its arithmetic allow, and where each
 * kernel is under that roof. Both axes are logarithmic; colours come from the style sheet.
 *
 * After Williams, Waterman, Patterson: "Roofline: an insightful visual performance model", 2009.
 */

import { svg } from "./dom.ts";

export interface Ceilings {
  bytes_per_s: number;
  flops_per_s: number;
}

export interface KernelPoint {
  name: string;
  /** Groups points by colour: the step of the kernel. */
  workload: string;
  bytes_per_s: number;
  flops_per_s: number;
}

const HEIGHT = 320;
const LEFT = 58;
const BOTTOM = 46;
const TOP = 24;
const RIGHT = 20;

/** Powers of ten from below `low` to above `high`. */
export function decades(low: number, high: number): number[] {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  return Array.from({ length: Math.max(last - first, 1) + 1 }, (_, index) => 10 ** (first + index));
}

/** FLOPs per second that the device allows at `intensity` FLOPs per byte. */
export function roof({ bytes_per_s, flops_per_s }: Ceilings, intensity: number): number {
  return Math.min(bytes_per_s * intensity, flops_per_s);
}

function short(value: number): string {
  const [unit, size] = value >= 1e12 ? ["T", 1e12] : value >= 1e9 ? ["G", 1e9] : value >= 1e6 ? ["M", 1e6] : ["", 1];
  return `${Number((value / Number(size)).toPrecision(3))}${unit}`;
}

/** Draw the roof and the kernels, `width` pixels wide; null where no kernel was measured. */
export function rooflinePlot(ceilings: Ceilings, kernels: KernelPoint[], width: number): SVGSVGElement | null {
  const points = kernels
    .filter(({ bytes_per_s, flops_per_s }) => bytes_per_s > 0 && flops_per_s > 0)
    .map((kernel) => ({ ...kernel, x: kernel.flops_per_s / kernel.bytes_per_s, y: kernel.flops_per_s }));
  if (points.length === 0) return null;
  const ridge = ceilings.flops_per_s / ceilings.bytes_per_s;
  const xs = decades(Math.min(ridge, ...points.map(({ x }) => x)), Math.max(ridge, ...points.map(({ x }) => x)));
  const lowest = Math.min(roof(ceilings, xs[0]!), ...points.map(({ y }) => y));
  const ys = decades(lowest, Math.max(ceilings.flops_per_s, ...points.map(({ y }) => y)));
  const scale = (value: number, marks: number[], from: number, to: number) => {
    const [low, high] = [Math.log10(marks[0]!), Math.log10(marks.at(-1)!)];
    return from + ((Math.log10(value) - low) / (high - low)) * (to - from);
  };
  const toX = (x: number) => scale(x, xs, LEFT, width - RIGHT);
  const toY = (y: number) => scale(y, ys, HEIGHT - BOTTOM, TOP);
  const label = (text: string, attributes: Record<string, string | number>) => {
    const element = svg("text", attributes);
    element.textContent = text;
    return element;
  };
  const grid = [
    ...ys.flatMap((y) => [
      svg("line", { class: "plot-grid", x1: LEFT, x2: width - RIGHT, y1: toY(y), y2: toY(y) }),
      label(short(y), { class: "plot-tick", x: LEFT - 8, y: toY(y) + 4, "text-anchor": "end" }),
    ]),
    ...xs.map((x) => label(short(x), { class: "plot-tick", x: toX(x), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" })),
  ];
  const corners = [xs[0]!, ridge, xs.at(-1)!].map((x) => `${toX(x).toFixed(1)} ${toY(roof(ceilings, x)).toFixed(1)}`);
  const dots = points.map(({ name, workload, x, y }) => {
    const title = svg("title");
    title.textContent = `${name}: ${short(y)}FLOP/s, ${((100 * y) / roof(ceilings, x)).toFixed(0)} % of the roof`;
    const place = { x: toX(x) - 5, y: toY(y) - 5, width: 10, height: 10 };
    return svg("rect", { class: `plot-dot plot-${workload}`, ...place }, title);
  });
  const best = Math.max(...points.map(({ x, y }) => y / roof(ceilings, x)));
  const summary =
    `Roofline: ${points.length} kernels under ${short(ceilings.bytes_per_s)}B/s and ` +
    `${short(ceilings.flops_per_s)}FLOP/s; the best reaches ${(100 * best).toFixed(0)} %.`;
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, class: "plot", role: "img", "aria-label": summary },
    ...grid,
    svg("path", { class: "plot-roof", d: `M${corners.join("L")}` }),
    ...dots,
    label("FLOPs per byte", { class: "plot-label", x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }),
    label("FLOP/s", { class: "plot-label", x: 4, y: 12 }),
  );
}
