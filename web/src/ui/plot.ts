/** A line plot as inline SVG: one series over a logarithmic axis. Colours come from the style sheet. */

import { svg } from "./dom.ts";

export interface Point {
  x: number;
  y: number;
}

const HEIGHT = 280;
const LEFT = 52;
const BOTTOM = 44;
const TOP = 28;
const RIGHT = 20;

/** Return 3 to 6 round values from 0 to at least `most`. */
export function ticks(most: number): number[] {
  const rough = Math.max(most, 1e-9) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough)! * power;
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(12)));
}

/** Draw points over log2(x), `width` pixels wide; `summary` is what a screen reader hears. */
export function linePlot(
  points: Point[],
  width: number,
  xLabel: string,
  yLabel: string,
  summary: string,
): SVGSVGElement {
  const marks = ticks(Math.max(...points.map(({ y }) => y)));
  const [low, high] = [Math.log2(points[0]!.x), Math.log2(points.at(-1)!.x)];
  const toX = (x: number) => LEFT + ((Math.log2(x) - low) / Math.max(high - low, 1e-9)) * (width - LEFT - RIGHT);
  const toY = (y: number) => HEIGHT - BOTTOM - (y / marks.at(-1)!) * (HEIGHT - BOTTOM - TOP);
  const label = (text: string, attributes: Record<string, string | number>) => {
    const element = svg("text", attributes);
    element.textContent = text;
    return element;
  };
  const lines = marks.flatMap((mark) => [
    svg("line", { class: "plot-grid", x1: LEFT, x2: width - RIGHT, y1: toY(mark), y2: toY(mark) }),
    label(String(mark), { class: "plot-tick", x: LEFT - 8, y: toY(mark) + 4, "text-anchor": "end" }),
  ]);
  const path = points.map(({ x, y }, index) => `${index === 0 ? "M" : "L"}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`);
  const dots = points.flatMap(({ x, y }) => [
    // A tile for each measurement.
    svg("rect", { class: "plot-dot", x: toX(x) - 5, y: toY(y) - 5, width: 10, height: 10 }),
    label(x.toLocaleString("en"), { class: "plot-tick", x: toX(x), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }),
  ]);
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${HEIGHT}`, class: "plot", role: "img", "aria-label": summary },
    ...lines,
    svg("path", { class: "plot-line", d: path.join("") }),
    ...dots,
    label(xLabel, { class: "plot-label", x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }),
    label(yLabel, { class: "plot-label", x: LEFT - 30, y: 12 }),
  );
}
