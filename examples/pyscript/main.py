"""The page's Python: loads the model into this page and answers in it."""

import pyodide_js
from pyscript import document, when
from pyscript.js_modules import tilewright_page

await tilewright_page.install(pyodide_js)  # noqa: F704  (PyScript awaits at the top)

from tilewright import Engine  # noqa: E402

answer = document.querySelector("#answer")
answer.textContent = "Loading the model …"
engine = await Engine.load("./tilewright/models/tilewright-tiny.gguf")  # noqa: F704
document.querySelector("#ask").disabled = False
answer.textContent = "Ready."


@when("click", "#ask")
async def ask(event):
    """Stream the answer into the page."""
    answer.textContent = ""
    question = document.querySelector("#question").value
    async for chunk in engine.chat(question, max_tokens=40, temperature=0.7, seed=1):
        for choice in chunk.choices:
            answer.append(choice.delta.get("content") or "")
