// Extract fields from a sentence: the schema is the contract, the page relies on it.
import { Tilewright } from "../../tilewright.js";

const SCHEMA = {
  type: "object",
  properties: {
    task: { type: "string", minLength: 1, maxLength: 60 },
    minutes: { type: "integer", minimum: 0, maximum: 600 },
    priority: { enum: ["low", "medium", "high"] },
  },
  required: ["task", "minutes", "priority"],
  additionalProperties: false,
};
const $ = (id) => document.getElementById(id);

function show(found) {
  const cell = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const rows = Object.entries(found).map(([name, value]) => {
    const row = document.createElement("tr");
    row.append(cell("th", name), cell("td", String(value)));
    return row;
  });
  $("found").tBodies[0].replaceChildren(...rows);
  $("found").hidden = false;
}

async function extract(engine) {
  $("go").disabled = true;
  $("said").textContent = "Reading …";
  try {
    const answer = await engine.chat.completions.create({
      messages: [{ role: "user", content: $("text").value }],
      response_format: { type: "json_schema", json_schema: { name: "reminder", schema: SCHEMA, strict: true } },
      temperature: 0,
      max_tokens: 120,
    });
    const { message, finish_reason } = answer.choices[0];
    if (finish_reason !== "stop") throw new Error("The answer was cut: allow more tokens.");
    show(JSON.parse(message.content));
    $("said").textContent = "Done.";
  } catch (error) {
    $("said").textContent = error.message;
  } finally {
    $("go").disabled = false;
  }
}

try {
  const engine = await Tilewright.load(new URLSearchParams(location.search).get("model") ?? "../../models/tilewright-tiny.gguf");
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    extract(engine);
  });
  $("go").disabled = false;
  $("said").textContent = "Ready.";
} catch (error) {
  $("said").textContent = error.message;
}
