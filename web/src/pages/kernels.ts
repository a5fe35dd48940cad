/** The kernel page: runs the recorded cases on the visitor's device and says which pass. */

import { Connection } from "../connection.ts";
import { announce } from "../ui/announce.ts";
import { adviceFor, codeOf, isStop } from "../ui/advice.ts";
import { byId, copyText, h, icon } from "../ui/dom.ts";
import { row, startPage } from "../ui/page_frame.ts";

interface Case {
  name: string;
  group: string;
}
interface Result extends Case {
  status: "pass" | "fail" | "error";
  difference: number;
  share: number;
  tunings: number;
  ms: number;
  note: string;
}

const run = byId("run", HTMLButtonElement);
const state = byId("state", HTMLElement);
const groups = byId("groups", HTMLElement);
let cases: Case[] = [];
let results: Result[] = [];
let stop: AbortController | undefined;

const tiles = new Map<string, HTMLElement>();

/** Lay one grey tile per case; results colour them. */
function layOut(): void {
  tiles.clear();
  const names = [...new Set(cases.map(({ group }) => group))];
  groups.replaceChildren(
    ...names.map((group) => {
      const members = cases.filter((entry) => entry.group === group);
      const row = members.map(({ name }) => {
        const tile = h("i", { class: "case-tile", title: name });
        tiles.set(name, tile);
        return tile;
      });
      return h("li", {}, h("span", { class: "case-group" }, group), h("span", { class: "case-tiles", "aria-hidden": "true" }, ...row));
    }),
  );
}

function show(result: Result): void {
  results.push(result);
  tiles.get(result.name)?.classList.add(result.status);
  const passed = results.filter(({ status }) => status === "pass").length;
  const failed = results.length - passed;
  state.textContent = `${results.length} of ${cases.length} run, ${passed} pass${failed > 0 ? `, ${failed} fail` : ""}`;
  const mark = h("span", { class: `mark ${result.status}` }, icon(result.status === "pass" ? "check" : "warning"), result.status);
  const share = result.share > 999 ? "> 999" : result.share.toFixed(2);
  const difference = result.difference < 0 ? "not a number" : result.difference.toExponential(1);
  const line = row(result.name, mark, difference, share, String(result.tunings), `${result.ms.toFixed(1)} ms`);
  const body = byId("rows", HTMLElement);
  if (result.status === "pass") body.append(line);
  else {
    // Failures come first: they are what one looks for.
    const note = h("tr", { class: "note-row" }, h("td", { colspan: 6 }, result.note));
    body.prepend(line, note);
  }
}

async function test(): Promise<void> {
  const error = byId("error", HTMLElement);
  error.hidden = true;
  results = [];
  byId("rows", HTMLElement).replaceChildren();
  byId("results", HTMLElement).hidden = false;
  layOut();
  stop = new AbortController();
  run.textContent = "Stop";
  state.textContent = "Starting the engine";
  const connection = new Connection();
  try {
    const everything = byId("everything", HTMLInputElement).checked;
    const answer = await connection.request(
      { type: "selftest", cases: cases as unknown as Record<string, unknown>[], everything },
      { signal: stop.signal, onProgress: ({ result }) => result && show(result as unknown as Result) },
    );
    const facts = answer.type === "result" ? answer.value : {};
    const failed = results.filter(({ status }) => status !== "pass");
    const verdict = failed.length === 0 ? `All ${results.length} kernels pass on this device.` : `${failed.length} of ${results.length} kernels do not pass on this device.`;
    state.textContent = verdict;
    announce(verdict);
    byId("device", HTMLElement).textContent = String(facts["device"] ?? "");
    const report = { kernels: "selftest", device: facts["device"], capabilities: facts["capabilities"], browser: navigator.userAgent, passed: results.length - failed.length, failed: failed.map(({ name, difference, note }) => ({ name, difference, note })) };
    byId("json", HTMLElement).textContent = JSON.stringify(report);
    byId("report", HTMLElement).hidden = false;
  } catch (reason) {
    if (isStop(reason) || stop.signal.aborted) state.textContent = "Stopped";
    else {
      const { title, message, advice, code } = adviceFor(codeOf(reason));
      error.replaceChildren(h("strong", {}, title), h("p", {}, message), h("p", {}, advice), h("p", { class: "error-foot" }, h("code", {}, code)));
      error.hidden = false;
      state.textContent = "";
    }
  } finally {
    connection.terminate();
    stop = undefined;
    run.textContent = "Run again";
  }
}

if (await startPage(true)) {
  const answer = await fetch("kernel_cases.json");
  cases = ((await answer.json()) as { cases: Case[] }).cases;
  layOut();
  run.disabled = false;
  byId("kernels-form", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    if (stop) stop.abort();
    else void test();
  });
  const copy = byId("copy", HTMLButtonElement);
  copy.addEventListener("click", () => void copyText(byId("json", HTMLElement).textContent ?? "", copy));
}
