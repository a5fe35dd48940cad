// The page's functions as JSON schemas, and what the model's answer means. No DOM here.

const tool = (name, description, properties, required) => ({
  type: "function",
  function: { name, description, parameters: { type: "object", properties, required, additionalProperties: false } },
});

export const ROOMS = ["kitchen", "bedroom", "living room", "office"];
export const THEMES = ["light", "dark", "forest", "sunset"];

export const TOOLS = [
  tool(
    "switch_light",
    "Control the light in a room.",
    { room: { type: "string" }, state: { type: "string", enum: ["on", "off"] } },
    ["room", "state"],
  ),
  tool(
    "timer",
    "Start a timer.",
    { minutes: { type: "integer", minimum: 1, maximum: 600 }, label: { type: "string" } },
    ["minutes"],
  ),
  tool(
    "add_todo",
    "Create a task.",
    { task: { type: "string", minLength: 1 }, priority: { type: "string", enum: ["low", "medium", "high"] } },
    ["task"],
  ),
  tool("change_theme", "Change the theme of the page.", { theme: { type: "string" } }, ["theme"]),
];

/**
 * Read an answer: { call: { name, arguments } }, { none: text } where the model called nothing, or
 * { wrong: reason } for a call that does not parse or that no schema allows.
 */
export function readAnswer(text, tools = TOOLS) {
  const [, written] = text.match(/<tool_call>([\s\S]*?)(?:<\/tool_call>|$)/) ?? [];
  if (written === undefined) return { none: text.trim() };
  let call;
  try {
    call = JSON.parse(written);
  } catch {
    return { wrong: "the call is not JSON" };
  }
  const found = tools.find((candidate) => candidate.function.name === call?.name);
  if (!found) return { wrong: `there is no function ${call?.name}` };
  const wrong = violation(call.arguments, found.function.parameters);
  return wrong ? { wrong } : { call: { name: call.name, arguments: call.arguments } };
}

/** What is wrong with arguments, by the part of JSON Schema that TOOLS uses; null if nothing. */
export function violation(given, schema) {
  if (typeof given !== "object" || given === null || Array.isArray(given)) return "the arguments are no object";
  const lacking = schema.required.find((name) => !Object.hasOwn(given, name));
  if (lacking) return `${lacking} is missing`;
  for (const [name, value] of Object.entries(given)) {
    const wanted = Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined;
    if (!wanted) return `there is no parameter ${name}`;
    const right = wanted.type === "integer" ? Number.isSafeInteger(value) : typeof value === wanted.type;
    if (!right) return `${name} must be of type ${wanted.type}`;
    if (wanted.enum && !wanted.enum.includes(value)) return `${name} must be one of ${wanted.enum.join(", ")}`;
    if (value.length < wanted.minLength) return `${name} is empty`;
    if (value < wanted.minimum || value > wanted.maximum) return `${name} is out of range`;
  }
  return null;
}
