"""``ChatWidget``: ``<tilewright-chat>`` in a notebook, through anywidget (``tilewright[widget]``).

The model runs in the reader's browser, not in the kernel; what is kept in step is the conversation.
Works where anywidget does: Jupyter, JupyterLab, VS Code, Colab, marimo. Natively only.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import anywidget
import traitlets

from .hosting import HostedSite, find_runtime

_ESM = """
const ATTRIBUTES = {
  model: "model", system: "system", heading: "heading", placeholder: "placeholder",
  backend: "backend", temperature: "temperature", seed: "seed", max_tokens: "max-tokens",
};
// A widget may be shown twice; requests from Python are for one of the views.
const leaders = new WeakMap();

async function render({ model, el }) {
  await import(`${model.get("runtime").replace(/\\/$/, "")}/elements.js`);
  const chat = document.createElement("tilewright-chat");
  const follow = (trait) => {
    const value = model.get(trait);
    if (value === null || value === "") chat.removeAttribute(ATTRIBUTES[trait]);
    else chat.setAttribute(ATTRIBUTES[trait], value);
  };
  const same = () => JSON.stringify(model.get("messages")) === JSON.stringify(chat.messages);
  const taken = () => { if (!same()) chat.messages = model.get("messages"); };
  const told = (error) => {
    model.set({ state: chat.state, error: error ?? "" });
    model.save_changes();
  };
  const asked = ({ type, text }) => {
    if (leaders.get(model) !== chat) return;
    if (type === "send") chat.send(text).catch(() => undefined);
    else if (type === "stop") chat.stop();
    else if (type === "clear") chat.clear();
  };
  chat.addEventListener("tilewright-message", () => {
    model.set("messages", chat.messages);
    told();
  });
  chat.addEventListener("tilewright-ready", () => told());
  chat.addEventListener("tilewright-error", ({ detail }) => told(detail.message));
  for (const trait of Object.keys(ATTRIBUTES)) {
    follow(trait);
    model.on(`change:${trait}`, () => follow(trait));
  }
  model.on("change:messages", taken);
  model.on("msg:custom", asked);
  taken();
  if (!leaders.has(model)) leaders.set(model, chat);
  el.append(chat);
  return () => {
    model.off("change:messages", taken);
    model.off("msg:custom", asked);
    if (leaders.get(model) === chat) leaders.delete(model);
    chat.remove();
  };
}

export default { render };
"""


@functools.cache
def _local_runtime() -> HostedSite:
    return HostedSite(runtime=find_runtime())


def runtime_address() -> str:
    """Return where notebooks get the engine: ``TILEWRIGHT_RUNTIME_URL``, or a port of this machine.

    Raises SourceError where neither is there.
    """
    return os.environ.get("TILEWRIGHT_RUNTIME_URL") or _local_runtime().runtime_url


class ChatWidget(anywidget.AnyWidget):
    """A chat whose model runs in the reader's browser.

    ``messages`` is the conversation, in both directions: it grows as the reader writes, and setting
    it shows another one. ``observe`` tells of changes, as of any widget's. The engine comes from
    ``runtime``: an address of the runtime folder that the reader's browser can reach, by default a
    port of the kernel's machine.
    """

    _esm = _ESM

    model = traitlets.Unicode("", help="address or hf:org/repo/file; empty: the bundled one").tag(
        sync=True
    )
    messages = traitlets.List(traitlets.Dict(), help="role and content of each message").tag(
        sync=True
    )
    system = traitlets.Unicode("", help="instructions before the conversation").tag(sync=True)
    heading = traitlets.Unicode("", help="shown above the conversation").tag(sync=True)
    placeholder = traitlets.Unicode("", help="shown in the empty field").tag(sync=True)
    backend = traitlets.Enum(["", "webgpu", "wasm"], default_value="").tag(sync=True)
    temperature = traitlets.Float(None, allow_none=True).tag(sync=True)
    seed = traitlets.Int(None, allow_none=True).tag(sync=True)
    max_tokens = traitlets.Int(None, allow_none=True, help="longest answer").tag(sync=True)
    runtime = traitlets.Unicode(help="address of the runtime folder").tag(sync=True)
    state = traitlets.Unicode("idle", help="idle, ready, answering or failed").tag(sync=True)
    error = traitlets.Unicode("", help="sentence of the last failure").tag(sync=True)

    @traitlets.default("runtime")
    def _default_runtime(self) -> str:
        return runtime_address()

    @traitlets.validate("messages")
    def _valid_messages(self, proposal: Any) -> list[dict[str, str]]:
        for message in proposal["value"]:
            if message.get("role") not in ("user", "assistant") or not isinstance(
                message.get("content"), str
            ):
                raise traitlets.TraitError(
                    "A message has a role (user or assistant) and a content; instructions are the "
                    f"trait `system`. Got {message!r}."
                )
        found: list[dict[str, str]] = proposal["value"]
        return found

    def send(self, content: Any, buffers: Any = None) -> None:
        """Send a text as the reader would; the answer appears in ``messages``.

        What is not a text goes to the view as it is, which is what widgets mean by ``send``.
        """
        if isinstance(content, str):
            content = {"type": "send", "text": content}
        super().send(content, buffers)

    def stop(self) -> None:
        """End the running answer."""
        self.send({"type": "stop"})

    def clear(self) -> None:
        """Forget the conversation."""
        self.messages = []
