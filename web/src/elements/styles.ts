/**
 * The elements' looks. Constructed sheets, so a page's policy needs no `'unsafe-inline'`.
 *
 * Every colour comes from a `--tilewright-…` property that a page may set; the page's own styles
 * win over `:host`. Light or dark is what the page's `color-scheme` says, which is inherited.
 */

const SHARED = `
:host {
  --_background: var(--tilewright-background, light-dark(#f7f4ee, #15191a));
  --_surface: var(--tilewright-surface, light-dark(#fffdf9, #1d2324));
  --_sunken: var(--tilewright-sunken, light-dark(#eee9df, #101415));
  --_color: var(--tilewright-color, light-dark(#231f1a, #ebe6db));
  --_muted: var(--tilewright-muted, light-dark(#665e53, #a8a296));
  --_border: var(--tilewright-border, light-dark(#dbd3c5, #30393a));
  --_accent: var(--tilewright-accent, light-dark(#17616a, #74c4bf));
  --_on-accent: var(--tilewright-on-accent, light-dark(#fffdf9, #0d1c1d));
  --_own: var(--tilewright-own-message, light-dark(#dfeae8, #1f3536));
  --_error: var(--tilewright-error, light-dark(#ab4326, #f0967a));
  --_radius: var(--tilewright-radius, 12px);
  --_font: var(--tilewright-font, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif);
  --_mono: var(--tilewright-mono, ui-monospace, SFMono-Regular, Menlo, Consolas, monospace);
}
*, *::before, *::after { box-sizing: border-box; }
[hidden] { display: none !important; }
.visually-hidden { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
`;

const CHAT = `
:host { display: block; height: var(--tilewright-height, 28rem); min-height: 15rem; }
:host([hidden]) { display: none; }
.chat { position: relative; display: flex; flex-direction: column; height: 100%; overflow: hidden; background: var(--_background); color: var(--_color); border: 1px solid var(--_border); border-radius: var(--_radius); font: 16px/1.5 var(--_font); text-align: start; }
h3, p, ul, ol, figure, blockquote, pre { margin: 0; padding: 0; }
button, textarea { font: inherit; color: inherit; }
button { cursor: pointer; }
:focus { outline: none; }
:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px; border-radius: 6px; }
.icon { width: 20px; height: 20px; fill: none; stroke: currentColor; stroke-width: 1.7; stroke-linecap: round; stroke-linejoin: round; display: block; }
header { display: flex; align-items: center; gap: 8px; min-height: 44px; padding: 2px 4px 2px 16px; border-bottom: 1px solid var(--_border); }
.header-slot { flex: 1; min-width: 0; font-weight: 600; }
.icon-button { display: grid; place-items: center; width: 40px; height: 40px; flex: none; padding: 0; border: 0; border-radius: 8px; background: none; color: var(--_muted); }
.icon-button:hover { background: var(--_sunken); color: var(--_color); }
.messages { flex: 1; min-height: 0; overflow-y: auto; overscroll-behavior: contain; padding: 14px 16px; display: flex; flex-direction: column; gap: 14px; }
.messages:focus-visible { outline-offset: -3px; }
.empty { margin: auto; text-align: center; color: var(--_muted); text-wrap: balance; }
.message { max-width: 100%; overflow-wrap: anywhere; }
.message.user { align-self: flex-end; max-width: 85%; padding: 8px 14px; border-radius: var(--_radius) var(--_radius) 3px var(--_radius); background: var(--_own); white-space: pre-wrap; }
.note { color: var(--_muted); font-size: 14px; }
.waiting { color: var(--_muted); animation: breathe 1.4s infinite; }
@keyframes breathe { 50% { opacity: 0.45; } }
.error { border: 1px solid var(--_error); border-radius: var(--_radius); padding: 10px 14px; display: grid; gap: 4px; justify-items: start; }
.error strong { color: var(--_error); }
.plain { min-height: 34px; padding: 3px 12px; border: 1px solid var(--_border); border-radius: 8px; background: none; }
.plain:hover { background: var(--_sunken); }
.load { padding: 8px 16px 0; font-size: 14px; color: var(--_muted); font-variant-numeric: tabular-nums; }
.load-line { display: flex; align-items: center; justify-content: space-between; gap: 8px; }
progress { display: block; width: 100%; height: 6px; margin-top: 5px; border: 0; border-radius: 3px; background: var(--_sunken); accent-color: var(--_accent); appearance: none; overflow: hidden; }
progress::-webkit-progress-bar { background: var(--_sunken); }
progress::-webkit-progress-value { background: var(--_accent); transition: width 0.2s linear; }
progress::-moz-progress-bar { background: var(--_accent); }
progress:indeterminate { background: linear-gradient(90deg, var(--_sunken), var(--_accent), var(--_sunken)) 0 / 200% 100%; animation: pass 1.6s infinite linear; }
progress:indeterminate::-webkit-progress-bar { background: none; }
progress:indeterminate::-moz-progress-bar { background: none; }
@keyframes pass { from { background-position: 100% 0; } to { background-position: -100% 0; } }
form { display: flex; align-items: flex-end; gap: 6px; margin: 10px; padding: 4px 4px 4px 14px; background: var(--_surface); border: 1px solid color-mix(in srgb, var(--_muted) 70%, var(--_border)); border-radius: var(--_radius); }
form:focus-within { border-color: var(--_accent); box-shadow: 0 0 0 1px var(--_accent); }
textarea { flex: 1; min-width: 0; max-height: 9em; field-sizing: content; padding: 8px 0; border: 0; background: none; resize: none; line-height: 24px; }
textarea:focus-visible { outline: none; }
textarea::placeholder { color: var(--_muted); opacity: 1; }
.send { display: grid; place-items: center; width: 40px; height: 40px; flex: none; border: 0; border-radius: max(4px, calc(var(--_radius) - 5px)); background: var(--_accent); color: var(--_on-accent); }
.send:disabled { background: var(--_sunken); color: var(--_muted); cursor: default; }
.send.stop { background: var(--_error); }
.send.stop .icon { fill: currentColor; }
.markdown > * + * { margin-top: 0.7em; }
.markdown :is(h3, h4, h5, h6) { font: 600 1.1em/1.3 var(--_font); margin-top: 1em; }
.markdown > :first-child { margin-top: 0; }
.markdown :is(ul, ol) { padding-inline-start: 1.5em; }
.markdown li.task { list-style: none; }
.markdown blockquote { border-inline-start: 3px solid var(--_border); padding-inline-start: 12px; color: var(--_muted); }
.markdown a { color: var(--_accent); }
.markdown hr { border: 0; border-top: 1px solid var(--_border); }
.markdown :not(pre) > code { font: 0.88em var(--_mono); background: var(--_sunken); border-radius: 4px; padding: 0.12em 0.35em; }
.code { border: 1px solid var(--_border); border-radius: 8px; background: var(--_surface); overflow: hidden; }
.code figcaption { display: flex; align-items: center; justify-content: space-between; padding: 0 4px 0 12px; min-height: 34px; font: 12.5px var(--_mono); color: var(--_muted); background: var(--_sunken); }
.code-copy { display: inline-flex; align-items: center; gap: 6px; border: 0; background: none; min-height: 30px; padding: 0 8px; font: 13px var(--_font); color: var(--_muted); }
.code-copy .icon { width: 15px; height: 15px; }
.code pre { padding: 10px 12px; overflow-x: auto; overflow-wrap: normal; font: 13.5px/1.5 var(--_mono); tab-size: 4; }
.table-scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 15px; overflow-wrap: normal; }
:is(th, td) { padding: 5px 12px; border: 1px solid var(--_border); text-align: start; vertical-align: top; }
.align-right { text-align: right; }
.align-center { text-align: center; }
details { font-size: 14.5px; color: var(--_muted); margin-bottom: 8px; }
summary { cursor: pointer; width: fit-content; }
`;

const COMPLETE = `
:host { display: block; position: relative; }
:host([hidden]) { display: none; }
.mirror { position: absolute; overflow: hidden; pointer-events: none; border-style: solid; border-color: transparent; background: none; color: transparent; white-space: pre-wrap; overflow-wrap: break-word; z-index: 1; }
.ghost { color: var(--tilewright-ghost, var(--_muted)); opacity: 0.85; }
`;

function sheet(text: string): CSSStyleSheet {
  const made = new CSSStyleSheet();
  made.replaceSync(text);
  return made;
}

let shared: CSSStyleSheet | undefined;
const kept = new Map<string, CSSStyleSheet>();

/** Give a shadow root the looks of one of the elements. */
export function dress(root: ShadowRoot, name: "chat" | "complete"): void {
  shared ??= sheet(SHARED);
  let own = kept.get(name);
  if (!own) kept.set(name, (own = sheet(name === "chat" ? CHAT : COMPLETE)));
  root.adoptedStyleSheets = [shared, own];
}
