"""What happens before the memory snapshot of the page's Python is made, and after it is read.

A snapshot is the memory of a Python that has imported the engine. Whatever a first answer makes
once and no visitor changes (wrapper classes, shader texts, the template compiler) is made before,
so that it is there at a start. It may hold no JavaScript object. ``build/runtime_folder.py`` makes
it, ``web/src/runtime.ts`` reads it.
"""

from __future__ import annotations

import importlib
import json
import os
import random

from .. import settings
from ..text.chat_template import ChatTemplate
from ..webgpu import link
from ..webgpu.bridge import backend


def rehearse() -> None:
    """Make what a first answer makes anyway; called once, before the snapshot is taken."""
    backend.make_registry()
    link.read_all()
    template = ChatTemplate("{% for message in messages %}{{ message.content }}{% endfor %}")
    template.render_prompt([{"role": "user", "content": "Hello"}])


def restored(environment: str) -> None:
    """Make up for what a memory snapshot keeps from the day it was made; called once after it.

    The random state (which would repeat on each visit), and the switches read at import.
    """
    os.environ.update(json.loads(environment))
    importlib.reload(settings)
    random.seed()
