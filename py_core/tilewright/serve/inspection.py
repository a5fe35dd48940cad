"""What a model is and whether it fits a device, from its header: no weight is read.

The worker answers ``inspect`` with it, and ``tilewright inspect`` prints it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

from ..engine.fit import Choice, Fit, plan_load
from ..engine.wasm_program import plan_fit
from ..errors import InvalidRequestError, OutOfMemoryError
from ..formats.model_file import ModelFile
from ..models.registry import trained_context
from ..webgpu.kernels.kernel import Capabilities
from . import protocol
from .chat import LoadOptions, as_asked, name_of


async def inspect(
    file: ModelFile,
    capabilities: Capabilities | None,
    *,
    options: LoadOptions,
    choices: Sequence[Choice] = (),
) -> protocol.Inspection:
    """Describe a model and how it would be loaded with ``options``.

    ``capabilities``: of the GPU; None: the processor computes, in a memory of at most 4 GiB.
    A model that does not fit is an answer, not an error. Raises FormatError and
    UnsupportedModelError where it cannot be run at all.
    """
    file = as_asked(file, options)
    formats: Counter[str] = Counter()
    for tensor in file.items():
        formats[tensor.quant.name] += tensor.nbytes
    try:
        if capabilities is None:
            needed, layers = await plan_fit(
                file,
                context_length=options.context_length,
                max_sequences=options.max_sequences,
                budget=options.memory_budget,
                choices=choices,
                kv=options.kv or "f32",
            )
        else:
            needed, layers = await _on_gpu(file, capabilities, options, choices)
    except OutOfMemoryError as error:
        fit = _impossible(options, sum(formats.values()), error)
        layers = 0
    else:
        fit = cast(protocol.FitReport, needed.to_dict())
    return {
        "name": name_of(file),
        "architecture": file.architecture,
        "layers": layers,
        "vocabulary": _vocabulary(file),
        "parameters": sum(tensor.rows * tensor.columns for tensor in file.items()),
        "bytes": sum(formats.values()),
        "formats": [name for name, _ in formats.most_common()],
        "trained_context": trained_context(file),
        "has_chat_template": bool(file.metadata.get("tokenizer.chat_template")),
        "fit": fit,
    }


async def _on_gpu(
    file: ModelFile, capabilities: Capabilities, options: LoadOptions, choices: Sequence[Choice]
) -> tuple[Fit, int]:
    plan = await plan_load(
        file,
        capabilities,
        context_length=options.context_length,
        kv=options.kv,
        max_sequences=options.max_sequences,
        budget=options.memory_budget,
        choices=choices,
        complete=True,
    )
    return plan.fit, next(iter(plan.graphs.values())).layers


def choices_of(given: Any) -> list[Choice]:
    """Return the choices of a request; InvalidRequestError where they are none."""
    if not isinstance(given, list):
        raise InvalidRequestError("choices must be a list.", field="choices")
    found = []
    for entry in given:
        name = entry.get("name") if isinstance(entry, dict) else None
        nbytes = entry.get("bytes") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(nbytes, int) or nbytes < 0:
            raise InvalidRequestError("A choice needs a name and its bytes.", field="choices")
        found.append(Choice(name, nbytes))
    return found


def _vocabulary(file: ModelFile) -> int:
    table = file.tensors.get("token_embd.weight")
    return 0 if table is None else table.rows


def _impossible(options: LoadOptions, nbytes: int, error: OutOfMemoryError) -> protocol.FitReport:
    """Report a model of which not even one row fits a buffer."""
    return {
        "context_length": options.context_length or 0,
        "kv": options.kv or "f16",
        "cache_tokens": 0,
        "weights": nbytes,
        "cache": 0,
        "activations": 0,
        "staging": 0,
        "total": nbytes,
        "budget": options.memory_budget,
        "fits": False,
        "largest_context": 0,
        "largest_weights": 0,
        "largest_choice": None,
        "message": error.message,
        "streamed_layers": 0,
        "streamed_bytes": 0,
        "expert_rooms": 0,
    }
