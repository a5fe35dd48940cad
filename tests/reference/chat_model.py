"""A tiny model of the reference data with a chat template that has tools, as one GGUF file."""

from __future__ import annotations

from pathlib import Path

from tests.reference.gguf_writer import Tensor, gguf_bytes

from tilewright.formats.open import open_model

TEMPLATE = """{%- if tools %}<|im_start|>system
<tool_call>{{ tools | tojson }}<|im_end|>
{% endif %}{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
{% if enable_thinking %}<think>
{% endif %}{# </think> #}"""


async def with_template(path: Path, template: str = TEMPLATE) -> bytes:
    """Return the GGUF file at ``path`` with another chat template."""
    file = await open_model(str(path))
    try:
        tensors: dict[str, Tensor] = {}
        for tensor in file.tensors.values():
            raw = await file.sources[tensor.source].read(tensor.offset, tensor.nbytes)
            tensors[tensor.name] = (bytes(raw), tensor.shape, tensor.quant)
        return gguf_bytes({**file.metadata, "tokenizer.chat_template": template}, tensors)
    finally:
        file.close()
