/**
 * Markdown of a model as DOM nodes. No HTML string is ever made or parsed.
 *
 * `marked` splits the text into tokens; this module turns the tokens it knows into elements and
 * everything else, raw HTML included, into text. Links keep only addresses of harmless schemes;
 * images become links, because showing one would tell another host what is being read.
 */

import type { Lexer, MarkedToken, Token, Tokens } from "marked";
import { append, copyText, h, icon } from "./dom.ts";
import { turn } from "./turn.ts";

/** Deeper nesting than this is shown as text: model output is untrusted and recursion is finite. */
const MAX_DEPTH = 16;
const SAFE_SCHEMES = new Set(["http:", "https:", "mailto:"]);

let lexer: typeof Lexer | undefined;
let lexing: Promise<void> | undefined;

/** Make the lexer ready, in tasks of its own: to evaluate it takes some 15 ms. */
function ready(): Promise<void> {
  lexing ??= turn()
    .then(() => import("marked"))
    .then((marked) => void (lexer = marked.Lexer));
  return lexing;
}

/** Split Markdown into its top blocks, space between them included. Falls back to plain text. */
export function blocks(text: string): Token[] {
  try {
    if (lexer) return new lexer({ gfm: true, breaks: true }).lex(text);
  } catch {
    // Shown as it is.
  }
  return [{ type: "paragraph", raw: lexer ? text : "", text, tokens: [{ type: "text", raw: text, text }] }];
}

/**
 * Let the browser compile the lexer's expressions, one per task: the first answer would wait for all
 * of them, 20 ms, at once.
 */
export async function warmUp(): Promise<void> {
  await ready();
  const { block, inline } = lexer!.rules;
  for (const rule of [...Object.values(block.gfm), ...Object.values(inline.breaks)]) {
    if (!(rule instanceof RegExp)) continue;
    await turn();
    rule.test("a **b** `c`\n");
    rule.lastIndex = 0;
  }
}

/** Return an address if it is absolute and of a harmless scheme. */
export function safeHref(href: string): string | null {
  try {
    const url = new URL(href);
    return SAFE_SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** Blocks at the end that further text may still change; those before them are settled. */
const UNSETTLED = 2;

/**
 * Shows Markdown that grows. Settled blocks are neither read nor built again, so a long answer costs
 * no more per frame than its last blocks.
 */
export class MarkdownView {
  readonly element = h("div", { class: "markdown" });
  /** The text of the settled blocks, and how many elements they have. */
  #settled = "";
  #elements = 0;
  /** The source of the elements after the settled ones, and the last of them as a token. */
  #shown: string[] = [];
  #last: Token | undefined;
  #text = "";

  update(text: string): void {
    this.#text = text;
    if (!lexer) void ready().then(() => this.update(this.#text));
    const clean = text.replaceAll("\r\n", "\n");
    if (!clean.startsWith(this.#settled)) {
      this.#settled = "";
      this.#elements = 0;
      this.#shown = [];
    }
    const tokens = blocks(clean.slice(this.#settled.length));
    const wanted = tokens.filter(({ type }) => type !== "space");
    let same = 0;
    while (same < wanted.length && this.#shown[same] === wanted[same]!.raw) same++;
    const growing = this.element.childNodes[this.#elements + same];
    if (same === this.#shown.length - 1 && growing && grow(growing, this.#last, wanted[same])) same++;
    while (this.element.childNodes.length > this.#elements + same) this.element.lastChild!.remove();
    for (const token of wanted.slice(same)) {
      const node = block(token as MarkedToken, 0);
      // One element per block, so that they can be counted.
      this.element.append(node instanceof Element ? node : h("p", {}, node));
    }
    this.#shown = wanted.map(({ raw }) => raw);
    this.#last = wanted.at(-1);
    this.#settle(clean, tokens, wanted.length - UNSETTLED);
  }

  #settle(text: string, tokens: Token[], count: number): void {
    if (count <= 0) return;
    let left = count;
    let settled = this.#settled;
    for (const { type, raw } of tokens) {
      if (type !== "space" && left-- === 0) break;
      settled += raw;
    }
    if (!text.startsWith(settled)) return; // the lexer has changed the text: read it again next time
    this.#settled = settled;
    this.#elements += count;
    this.#shown.splice(0, count);
  }
}

/**
 * Let the element of a block that grew show its new token, building only what was added: the text of
 * code, the items of a list, the rows of a table. Returns false where the whole must be built again.
 */
export function grow(node: Node, before: Token | undefined, now: Token | undefined): boolean {
  if (!before || !now || before.type !== now.type || !(node instanceof Element)) return false;
  if (now.type === "code") {
    const [old, fresh] = [before as Tokens.Code, now as Tokens.Code];
    const code = node.querySelector("pre code")?.firstChild;
    if (old.lang !== fresh.lang || !(code instanceof Text) || !fresh.text.startsWith(old.text)) return false;
    code.appendData(fresh.text.slice(old.text.length));
    return true;
  }
  if (now.type === "list") {
    const [old, fresh] = [before as Tokens.List, now as Tokens.List];
    if (old.ordered !== fresh.ordered || old.start !== fresh.start || old.loose !== fresh.loose) return false;
    const same = old.items.findIndex(({ raw }, index) => raw !== fresh.items[index]?.raw);
    const kept = same < 0 ? old.items.length : same;
    while (node.children.length > kept) node.lastElementChild!.remove();
    node.append(...fresh.items.slice(kept).map((item) => listItem(item, 0)));
    return true;
  }
  if (now.type === "table") {
    const [old, fresh] = [before as Tokens.Table, now as Tokens.Table];
    const body = node.querySelector("tbody");
    const head = (table: Tokens.Table) => JSON.stringify([table.align, table.header.map(({ text }) => text)]);
    if (!body || head(old) !== head(fresh)) return false;
    const text = (row: Tokens.TableCell[] | undefined) => row?.map((cell) => cell.text).join("\0");
    const same = old.rows.findIndex((row, index) => text(row) !== text(fresh.rows[index]));
    const kept = same < 0 ? old.rows.length : same;
    while (body.children.length > kept) body.lastElementChild!.remove();
    body.append(...fresh.rows.slice(kept).map((row) => tableRow(row, "td", 0)));
    return true;
  }
  return false;
}

function many(tokens: Token[] | undefined, depth: number): Node[] {
  return (tokens ?? []).map((token) => block(token as MarkedToken, depth + 1));
}

/** Turn one token, of a block or within a line, into a node. */
function block(token: MarkedToken, depth: number): Node {
  if (depth > MAX_DEPTH) return text(token.raw);
  switch (token.type) {
    case "paragraph":
      return h("p", {}, ...many(token.tokens, depth));
    case "heading":
      // The page has h1 and h2 of its own: an answer's headings come below them.
      return h(`h${Math.min(token.depth + 2, 6)}` as "h3", {}, ...many(token.tokens, depth));
    case "code":
      return codeBlock(token);
    case "blockquote":
      return h("blockquote", {}, ...many(token.tokens, depth));
    case "list":
      return list(token, depth);
    case "table":
      return table(token, depth);
    case "hr":
      return h("hr");
    case "space":
    case "def":
      return text("");
    case "text":
      return "tokens" in token && token.tokens
        ? fragment(many(token.tokens, depth))
        : text(decoded(token.text));
    case "escape":
      return text(decoded(token.text));
    case "strong":
      return h("strong", {}, ...many(token.tokens, depth));
    case "em":
      return h("em", {}, ...many(token.tokens, depth));
    case "del":
      return h("del", {}, ...many(token.tokens, depth));
    case "codespan":
      return h("code", {}, token.text);
    case "br":
      return h("br");
    case "link":
      return link(token.href, token.title, many(token.tokens, depth));
    case "image":
      return link(token.href, token.title, [text(`Image: ${token.text || token.href}`)]);
    default:
      return text(token.raw);
  }
}

function text(value: string): Text {
  return document.createTextNode(value);
}

function fragment(nodes: Node[]): DocumentFragment {
  const whole = document.createDocumentFragment();
  append(whole, ...nodes);
  return whole;
}

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: "\u00a0" };

/** Decode the few character references that models write in plain text. */
function decoded(value: string): string {
  return value.replace(/&(?:#(\d{1,7})|(amp|lt|gt|quot|nbsp));/g, (whole, code, name) => {
    if (name) return ENTITIES[name as string]!;
    const point = Number(code);
    return point > 0 && point <= 0x10ffff ? String.fromCodePoint(point) : (whole as string);
  });
}

function link(href: string, title: string | null | undefined, children: Node[]): Node {
  const address = safeHref(href);
  if (address === null) return fragment(children);
  return h(
    "a",
    { href: address, title: title ?? address, target: "_blank", rel: "noopener noreferrer nofollow" },
    ...children,
  );
}

function list(token: Tokens.List, depth: number): Node {
  const items = token.items.map((item) => listItem(item, depth));
  if (!token.ordered) return h("ul", {}, ...items);
  return h("ol", { start: typeof token.start === "number" ? token.start : null }, ...items);
}

function listItem(item: Tokens.ListItem, depth: number): Element {
  const box = item.task
    ? h("input", { type: "checkbox", disabled: true, checked: item.checked ?? false, "aria-label": "Task" })
    : null;
  const inner = item.tokens.filter((part) => (part.type as string) !== "checkbox");
  return h("li", { class: item.task ? "task" : null }, box, ...many(inner, depth));
}

function table(token: Tokens.Table, depth: number): Node {
  return h(
    "div",
    { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Table" },
    h(
      "table",
      {},
      h("thead", {}, tableRow(token.header, "th", depth)),
      h("tbody", {}, ...token.rows.map((row) => tableRow(row, "td", depth))),
    ),
  );
}

function tableRow(cells: Tokens.TableCell[], tag: "th" | "td", depth: number): Element {
  const made = cells.map((cell) =>
    h(tag, { class: cell.align ? `align-${cell.align}` : null }, ...many(cell.tokens, depth)),
  );
  return h("tr", {}, ...made);
}

function codeBlock(token: Tokens.Code): Node {
  const language = (token.lang ?? "").trim().split(/\s+/)[0] ?? "";
  const code = h("code", {}, token.text);
  const copy = h("button", { type: "button", class: "code-copy" }, icon("copy"), "Copy");
  copy.addEventListener("click", () => void copyText(code.textContent ?? "", copy));
  return h(
    "figure",
    { class: "code" },
    h("figcaption", {}, h("span", {}, language || "text"), copy),
    h("pre", { tabindex: 0, role: "region", "aria-label": `Code, ${language || "plain text"}` }, code),
  );
}
