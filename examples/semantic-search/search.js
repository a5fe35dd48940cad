// The search page: loads the embedding model, indexes the text, searches as you type.
import { Tilewright } from "../../tilewright.js";
import { nearest, normalized, toPassages } from "./passages.js";

const MODELS = ["../../models/all-MiniLM-L6-v2-q8_0.gguf", "../../models/all-MiniLM-L6-v2-f32.gguf"];
const BATCH = 4;
const SHOWN = 8;
const $ = (id) => document.getElementById(id);
const page = document.documentElement;

let engine;
let index = { passages: [], vectors: [] };
let indexing = new AbortController();
let searching = new AbortController();

function say(text, part) {
  $("status").textContent = text;
  $("bar").hidden = part === undefined;
  if (part !== undefined) $("bar").value = part;
}

async function load(candidates) {
  page.dataset.model = "loading";
  $("missing").hidden = true;
  let failure;
  for (const model of candidates) {
    try {
      engine = await Tilewright.load(model, { onProgress: showProgress });
      page.dataset.model = "ready";
      say(`${engine.info.name} is ready.`);
      $("index").disabled = false;
      return;
    } catch (error) {
      failure ??= error;
      if (error.code !== "source_unavailable") break;
    }
  }
  page.dataset.model = "missing";
  say("No model.");
  $("reason").textContent = failure.message;
  $("missing").hidden = false;
}

function showProgress({ phase, done, total }) {
  if (total === 0) return say(phase === "runtime" ? "Starting Python …" : "Loading the model …", 0);
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
  say(`Loading the model: ${megabytes(done)} of ${megabytes(total)} MB`, done / total);
}

async function build() {
  indexing.abort();
  indexing = new AbortController();
  const { signal } = indexing;
  const passages = toPassages($("text").value);
  if (passages.length === 0) return say("There is no text yet: paste some, or take the sample.");
  index = { passages, vectors: [] };
  showPassages(passages);
  $("query").disabled = false;
  $("query").focus();
  page.dataset.index = "building";
  const begun = performance.now();
  try {
    for (let at = 0; at < passages.length; at += BATCH) {
      const made = await engine.embed({ texts: passages.slice(at, at + BATCH) }, { signal });
      index.vectors.push(...made.map(normalized));
      say(`Indexed ${index.vectors.length} of ${passages.length} passages`, index.vectors.length / passages.length);
    }
  } catch (error) {
    if (error.code !== "cancelled") say(error.message);
    return;
  }
  const seconds = ((performance.now() - begun) / 1000).toFixed(1);
  say(`${passages.length} passages indexed in ${seconds} s.`);
  page.dataset.index = "ready";
  if ($("query").value.trim()) await search();
}

function showPassages(passages) {
  const paragraphs = passages.map((passage) => Object.assign(document.createElement("p"), { textContent: passage }));
  $("passages").replaceChildren(...paragraphs);
  edit(false);
}

function edit(on) {
  $("text").hidden = $("index").hidden = !on;
  $("passages").hidden = $("edit").hidden = on;
}

/** Embed the newest query; an older one that still runs is stopped. */
async function search() {
  searching.abort();
  searching = new AbortController();
  const query = $("query").value.trim();
  if (!query) return show("", []);
  const begun = performance.now();
  try {
    const [vector] = await engine.embed({ texts: [query.slice(0, 400)] }, { signal: searching.signal });
    const found = nearest(index.vectors, normalized(vector), SHOWN);
    const part = index.vectors.length < index.passages.length ? ` of the ${index.vectors.length} read so far` : "";
    show(`The nearest passages${part}, in ${Math.round(performance.now() - begun)} ms`, found);
    page.dataset.answered = query;
  } catch (error) {
    if (error.code !== "cancelled") say(error.message);
  }
}

function show(caption, found) {
  $("count").textContent = caption;
  const rows = found.map(({ index: at, score }) => {
    const button = document.createElement("button");
    const number = Object.assign(document.createElement("span"), { className: "score", textContent: score.toFixed(3) });
    const text = Object.assign(document.createElement("span"), { textContent: index.passages[at] });
    button.append(number, text);
    button.addEventListener("click", () => reveal(at));
    const row = document.createElement("li");
    row.append(button);
    return row;
  });
  $("results").replaceChildren(...rows);
}

function reveal(at) {
  if ($("passages").hidden) showPassages(index.passages);
  const place = $("passages").children[at];
  $("passages").querySelector(".found")?.classList.remove("found");
  place.classList.add("found");
  place.scrollIntoView({ block: "center" });
}

/** Arrow keys walk from the field through the results; Enter is the button's own. */
function walk(event) {
  const stops = [$("query"), ...$("results").querySelectorAll("button")];
  const at = stops.indexOf(document.activeElement);
  if (at < 0) return;
  stops[Math.min(Math.max(at + (event.key === "ArrowDown" ? 1 : -1), 0), stops.length - 1)].focus();
  event.preventDefault();
}

async function addFiles(files) {
  const model = [...files].find((file) => file.name.endsWith(".gguf"));
  if (model) {
    await engine?.unload();
    return load([model]);
  }
  const texts = await Promise.all([...files].map((file) => file.text()));
  $("text").value = [$("text").value, ...texts].filter(Boolean).join("\n\n");
  edit(true);
  if (engine) await build();
}

$("index").addEventListener("click", build);
$("edit").addEventListener("click", () => (edit(true), $("text").focus()));
$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => addFiles($("files").files));
$("model-file").addEventListener("change", () => addFiles($("model-file").files));
$("sample").addEventListener("click", async () => {
  $("text").value = await (await fetch("./sample.txt")).text();
  edit(true);
  if (engine) await build();
});
let typing;
$("query").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 120);
});
document.addEventListener("keydown", (event) => {
  const writing = event.target.matches("input, textarea");
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (event.target !== $("text")) walk(event);
  } else if (event.key === "/" && !writing && !$("query").disabled) {
    $("query").focus();
    event.preventDefault();
  } else if (event.key === "Escape" && !$("query").disabled) {
    $("query").value = "";
    $("query").focus();
    search();
  }
});
document.addEventListener("dragover", (event) => {
  document.body.classList.add("dropping");
  event.preventDefault();
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  event.preventDefault();
  addFiles(event.dataTransfer.files);
});

const chosen = new URLSearchParams(location.search).get("model");
if (navigator.gpu) {
  load(chosen ? [chosen] : MODELS);
} else {
  say("This browser has no WebGPU, which the model needs.");
}
