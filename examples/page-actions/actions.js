// The page: asks the model for a call, checks it, and moves the controls as a hand would.
import { Tilewright } from "../../tilewright.js";
import { readAnswer, ROOMS, THEMES, TOOLS } from "./tools.js";

const MODEL = "../../models/tilewright-tiny.gguf";
const EXAMPLES = ["turn on the light in the kitchen", "set a timer for 7 minutes for the tea", "add water the plants to my tasks with high priority", "use the forest theme", "book a flight to Rome"];
const $ = (id) => document.getElementById(id);
const page = document.documentElement;
let engine;

function say(text, kind = "plain") {
  $("said").textContent = text;
  $("said").dataset.kind = kind;
}

/** Show which control moved. */
function moved(element) {
  element.classList.remove("done");
  void element.offsetWidth; // restarts the animation
  element.classList.add("done");
}

/** Put values into a form's fields and press its button. */
function submit(form, values) {
  for (const field of form.elements) if (field.name) field.value = values[field.name] ?? "";
  form.requestSubmit();
}

/** A value among those that the page has, whatever its case; or an error that says which there are. */
function choose(what, value, choices) {
  const found = choices.find((choice) => choice === value.trim().toLowerCase());
  if (!found) throw new Error(`There is no ${what} “${value}”, only ${choices.join(", ")}.`);
  return found;
}

/** What each function does: it returns the sentence that says so. */
const ACTIONS = {
  switch_light({ room, state }) {
    const lamp = $("rooms").querySelector(`[data-room="${choose("room", room, ROOMS)}"]`);
    if (lamp.getAttribute("aria-pressed") !== String(state === "on")) lamp.click();
    moved(lamp);
    return `The ${lamp.dataset.room} light is ${state}.`;
  },
  timer({ minutes, label }) {
    submit($("timer"), { minutes, label });
    return `A timer of ${minutes} ${minutes === 1 ? "minute" : "minutes"}${label ? ` for ${label}` : ""} runs.`;
  },
  add_todo({ task, priority }) {
    submit($("new-task"), { task, priority });
    return `“${task}” is on the list${priority ? `, priority ${priority}` : ""}.`;
  },
  change_theme({ theme }) {
    const button = $("themes").querySelector(`[data-name="${choose("theme", theme, THEMES)}"]`);
    button.click();
    moved(button);
    return `The theme is ${button.dataset.name}.`;
  },
};

/** Ask the model, check its call, perform it. */
async function perform(sentence) {
  say("Thinking …");
  $("go").disabled = true;
  delete page.dataset.outcome;
  let outcome = "error";
  try {
    let written = "";
    const sampling = { temperature: 0, seed: 1, max_tokens: 96 };
    const messages = [{ role: "user", content: sentence }];
    // Below the OpenAI API, which would read the calls itself: here the raw text is shown, too.
    for await (const part of engine.complete({ messages, tools: TOOLS, sampling })) written += part.text;
    $("raw").textContent = written;
    const { call, none, wrong } = readAnswer(written);
    if (call) {
      say(ACTIONS[call.name](call.arguments), "done");
      outcome = "done";
    } else if (wrong) {
      say(`Nothing was done: ${wrong}.`, "error");
    } else {
      say(none || "The model said nothing.", "none");
      outcome = "none";
    }
  } catch (error) {
    say(error.message, "error");
  } finally {
    $("go").disabled = false;
    page.dataset.outcome = outcome;
  }
}

function addRow(list, text, tag) {
  const row = Object.assign(document.createElement("li"), { textContent: `${text} ` });
  if (tag) row.append(Object.assign(document.createElement("span"), { className: "tag", textContent: tag }));
  list.append(row);
  moved(row);
  return row;
}

function startTimer(event) {
  event.preventDefault();
  const { minutes, label } = Object.fromEntries(new FormData($("timer")));
  const row = addRow($("timers"), label || "Timer", "");
  const clock = Object.assign(document.createElement("span"), { className: "tag" });
  row.append(clock);
  const ends = Date.now() + minutes * 60_000;
  const tick = () => {
    const left = Math.max(0, Math.round((ends - Date.now()) / 1000));
    clock.textContent = left ? `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : "time is up";
    if (left) setTimeout(tick, 1000);
  };
  tick();
  $("timer").reset();
}

function addTask(event) {
  event.preventDefault();
  const { task, priority } = Object.fromEntries(new FormData($("new-task")));
  addRow($("tasks"), task, priority);
  $("new-task").reset();
}

function furnish() {
  for (const room of ROOMS) {
    const lamp = Object.assign(document.createElement("button"), { type: "button", className: "lamp", textContent: room });
    lamp.dataset.room = room;
    lamp.setAttribute("aria-pressed", "false");
    lamp.append(document.createElement("i"));
    lamp.addEventListener("click", () => lamp.setAttribute("aria-pressed", String(lamp.getAttribute("aria-pressed") !== "true")));
    $("rooms").append(lamp);
  }
  for (const theme of THEMES) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: theme });
    button.dataset.name = theme;
    button.addEventListener("click", () => {
      page.dataset.theme = theme;
      for (const other of $("themes").children) other.setAttribute("aria-pressed", String(other === button));
    });
    $("themes").append(button);
  }
  for (const sentence of EXAMPLES) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: sentence });
    button.addEventListener("click", () => {
      $("sentence").value = sentence;
      if (!$("go").disabled) $("ask").requestSubmit();
    });
    $("examples").append(button);
  }
}

async function load() {
  if (!navigator.gpu) return say("This browser has no WebGPU, which the model needs.", "error");
  page.dataset.model = "loading";
  try {
    engine = await Tilewright.load(new URLSearchParams(location.search).get("model") ?? MODEL, {
      onProgress: ({ done, total }) => {
        $("bar").hidden = false;
        $("bar").value = total ? done / total : 0;
        say(total ? `Loading the model: ${Math.round((100 * done) / total)}%` : "Starting Python …");
      },
    });
    $("go").disabled = false;
    $("sentence").focus();
    page.dataset.model = "ready";
    say("Ready.");
  } catch (error) {
    page.dataset.model = "missing";
    say(`${error.message} Give another model with ?model=ADDRESS.`, "error");
  } finally {
    $("bar").hidden = true;
  }
}

$("timer").addEventListener("submit", startTimer);
$("new-task").addEventListener("submit", addTask);
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const sentence = $("sentence").value.trim();
  if (sentence && engine && !$("go").disabled) perform(sentence);
});
furnish();
load();
