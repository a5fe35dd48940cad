// The official client of npm, unchanged: its requests are answered by the engine in this page.
// `./openai.js` is the package as one ES module, made when the site is built (see README.md).
import OpenAI from "./openai.js";
import { Tilewright } from "../../tilewright.js";

const [form, question, go, answer] = ["form", "question", "go", "answer"].map((id) => document.getElementById(id));

form.addEventListener("submit", (event) => event.preventDefault());
try {
  const engine = await Tilewright.load("../../models/tilewright-tiny.gguf");
  const client = new OpenAI({
    fetch: engine.fetch,
    apiKey: "none is needed",
    dangerouslyAllowBrowser: true, // it warns of keys in pages, and there is no key
  });
  form.addEventListener("submit", async () => {
    answer.textContent = "";
    try {
      const stream = await client.chat.completions.create({
        model: engine.info.name,
        messages: [{ role: "user", content: question.value }],
        max_tokens: 120,
        temperature: 0.7,
        seed: 1,
        stream: true,
      });
      for await (const chunk of stream) answer.append(chunk.choices[0]?.delta.content ?? "");
    } catch (error) {
      answer.textContent = error.message;
    }
  });
  go.disabled = false;
  answer.textContent = "Ready.";
} catch (error) {
  answer.textContent = error.message;
}
