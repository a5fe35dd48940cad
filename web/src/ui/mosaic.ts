/**
 * The tile motif: square tiles with a few glazed shapes, laid in a pattern that a number decides.
 *
 * The same seed always gives the same picture: a conversation keeps its own little mark. Colours
 * come from CSS classes, so that both themes have theirs.
 */

import { svg } from "./dom.ts";

/** Shapes on a unit tile; each reads well in all four rotations. */
const SHAPES = [
  "M0 0H1V1H0Z", // full
  "M0 0H1A1 1 0 0 1 0 1Z", // quarter disc
  "M0 0H1L0 1Z", // triangle
  "M.5 0L1 .5L.5 1L0 .5Z", // diamond
  "M0 0H.5A.5 .5 0 0 1 0 .5ZM1 1H.5A.5 .5 0 0 1 1 .5Z", // two corners
] as const;
const GLAZES = 4;

/** A small generator of equally distributed numbers in [0, 1): mulberry32 (public domain). */
function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** Return a number for a text (FNV-1a). */
export function seedOf(text: string): number {
  let hash = 0x811c9dc5;
  for (const character of text) hash = Math.imul(hash ^ character.codePointAt(0)!, 0x01000193);
  return hash >>> 0;
}

interface Laid {
  shape: number;
  glaze: number;
  ground: number;
  quarter: number;
}

/** Draw a pattern of `columns` by `rows` tiles that mirrors itself around both axes. */
export function mosaic(columns: number, rows: number, seed: number, name = "mosaic"): SVGSVGElement {
  const next = numbers(seed);
  const picked = new Map<string, Laid>();
  const pick = (x: number, y: number): Laid => {
    const key = `${x} ${y}`;
    let tile = picked.get(key);
    if (!tile) {
      const glaze = Math.floor(next() * GLAZES);
      tile = {
        shape: Math.floor(next() * SHAPES.length),
        glaze,
        ground: next() < 0.55 ? GLAZES : (glaze + 1 + Math.floor(next() * (GLAZES - 1))) % GLAZES,
        quarter: Math.floor(next() * 4),
      };
      picked.set(key, tile);
    }
    return tile;
  };
  const tiles: SVGElement[] = [];
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const right = x >= columns / 2;
      const low = y >= rows / 2;
      const tile = pick(right ? columns - 1 - x : x, low ? rows - 1 - y : y);
      const mirror = `translate(${x + (right ? 0.96 : 0.04)} ${y + (low ? 0.96 : 0.04)}) scale(${right ? -0.92 : 0.92} ${low ? -0.92 : 0.92})`;
      tiles.push(
        svg(
          "g",
          { class: "tile", transform: mirror },
          svg("rect", { width: 1, height: 1, class: `glaze-${tile.ground}` }),
          svg("path", {
            d: SHAPES[tile.shape]!,
            class: `glaze-${tile.glaze}`,
            transform: `rotate(${tile.quarter * 90} .5 .5)`,
          }),
        ),
      );
    }
  }
  return svg(
    "svg",
    { viewBox: `0 0 ${columns} ${rows}`, class: name, "aria-hidden": "true", focusable: "false" },
    ...tiles,
  );
}

/** Show the first `share` (0 to 1) of a mosaic's tiles as laid, from the middle outwards. */
export function layTiles(picture: SVGSVGElement, share: number): void {
  const [, , columns = 1, rows = 1] = picture.getAttribute("viewBox")!.split(" ").map(Number);
  const tiles = [...picture.querySelectorAll(".tile")];
  const order = tiles
    .map((tile, index) => {
      const x = (index % columns) - (columns - 1) / 2;
      const y = Math.floor(index / columns) - (rows - 1) / 2;
      return { tile, far: Math.hypot(x, y * 1.6) };
    })
    .sort((a, b) => a.far - b.far);
  const laid = Math.round(share * order.length);
  order.forEach(({ tile }, place) => tile.classList.toggle("unlaid", place >= laid));
}
