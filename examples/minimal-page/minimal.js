// Load a model, ask, stream. `?model=URL` (or hf:org/repo/file.gguf) chooses another model.
import { Tilewright } from "../../tilewright.js";

const [form, question, answer] = ["form", "question", "answer"].map((id) => document.getElementById(id));
const chosen = new URLSearchParams(location.search).get("model") ?? "../../models/tilewright-tiny.gguf";
const loading = Tilewright.load(chosen);
loading.then(() => (answer.textContent = "Ready."), (error) => (answer.textContent = error.message));

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const engine = await loading;
  const messages = [{ role: "user", content: question.value }];
  answer.textContent = "";
  const options = { stream: true, max_tokens: 200, temperature: 0.7, seed: 1 };
  for await (const chunk of engine.chat.completions.create({ messages, ...options })) {
    answer.append(chunk.choices[0]?.delta.content ?? "");
  }
});
