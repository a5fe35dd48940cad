"""From a model file to its graph: the table of architectures.

Adding an architecture is a file beside this one with a function ``build_x(model) -> Graph``, and a
row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import FormatError, InvalidRequestError, UnsupportedModelError
from ..formats.floats import read_floats
from ..formats.model_file import ModelFile
from ..graph.ops import Graph
from .bert import build_bert, build_nomic_bert, build_nomic_bert_moe
from .config import Metadata
from .decoder import Decoder
from .gemma import build_gemma2, build_gemma3
from .gpt2 import build_gpt2
from .granite import build_granite, build_granite_moe
from .llama import build_llama
from .olmo import build_olmo2, build_olmoe
from .phi3 import build_phi3
from .qwen import build_qwen, build_qwen2moe
from .rope import LLAMA3_FACTORS, LONG_FACTORS, SHORT_FACTORS
from .smollm3 import build_smollm3
from .stablelm import build_stablelm
from .starcoder2 import build_starcoder2

_MOST_FACTORS = 65536


@dataclass(frozen=True)
class _Architecture:
    build: Callable[[Decoder], Graph]
    layer_norm: bool = False
    encoder: bool = False


_ARCHITECTURES = {
    "bert": _Architecture(build_bert, layer_norm=True, encoder=True),
    "gemma2": _Architecture(build_gemma2),
    "gemma3": _Architecture(build_gemma3),
    "gpt2": _Architecture(build_gpt2, layer_norm=True),
    "granite": _Architecture(build_granite),
    "granitemoe": _Architecture(build_granite_moe),
    "llama": _Architecture(build_llama),
    "nomic-bert": _Architecture(build_nomic_bert, layer_norm=True, encoder=True),
    "nomic-bert-moe": _Architecture(build_nomic_bert_moe, layer_norm=True, encoder=True),
    "olmo2": _Architecture(build_olmo2),
    "olmoe": _Architecture(build_olmoe),
    "phi3": _Architecture(build_phi3),
    "qwen2": _Architecture(build_qwen),
    "qwen2moe": _Architecture(build_qwen2moe),
    "qwen3": _Architecture(build_qwen),
    "qwen3moe": _Architecture(build_qwen),
    "smollm3": _Architecture(build_smollm3),
    "stablelm": _Architecture(build_stablelm, layer_norm=True),
    "starcoder2": _Architecture(build_starcoder2, layer_norm=True),
}


def known_architectures() -> tuple[str, ...]:
    """Names (GGUF's ``general.architecture``) that ``build_graph`` takes, sorted."""
    return tuple(sorted(_ARCHITECTURES))


def trained_context(model_file: ModelFile) -> int:
    """Return the longest sequence that the model was trained for.

    With learned positions no graph can be built for a longer one.
    """
    trained = Metadata(model_file).count("context_length")
    table = model_file.tensors.get("position_embd.weight")
    return trained if table is None else min(trained, table.rows)


def original_context(model_file: ModelFile) -> int:
    """Return the longest context that is served without the long rope factors.

    A sensible default for the context length: models with longrope compute something else for
    every token once a longer context is asked for. Other models: ``trained_context``.
    """
    trained = trained_context(model_file)
    if LONG_FACTORS not in model_file.tensors:
        return trained
    original = Metadata(model_file).count("rope.scaling.original_context_length", 0, low=0)
    return min(trained, original or trained)


def required_constants(model_file: ModelFile) -> list[str]:
    """Names of the small float tensors whose values ``build_graph`` needs, if the file has any.

    FormatError where one is too large to be what its name says: it is not to be read then.
    """
    names = [
        name for name in (LLAMA3_FACTORS, LONG_FACTORS, SHORT_FACTORS) if name in model_file.tensors
    ]
    for name in names:
        found = model_file.tensors[name]
        if found.rows * found.columns > _MOST_FACTORS:
            raise FormatError(f"The tensor {name!r} is too large for rope factors.", tensor=name)
    return names


async def read_constants(model_file: ModelFile) -> dict[str, Sequence[float]]:
    """Read the values that ``build_graph`` needs."""
    return {name: await read_floats(model_file, name) for name in required_constants(model_file)}


def build_graph(
    model_file: ModelFile,
    *,
    context_length: int,
    constants: Mapping[str, Sequence[float]] | None = None,
) -> Graph:
    """Return the plain (unfused) graph of the model.

    ``context_length``: tokens that a sequence may reach; it chooses between rope factors.
    ``constants``: the values of ``required_constants(model_file)``, each ``f32[n]``.
    Raises UnsupportedModelError for an unknown architecture, FormatError for absurd metadata and
    for tensors that are missing or of a wrong shape, ContextLengthError where learned positions
    end before ``context_length``.
    """
    name = model_file.architecture
    if name not in _ARCHITECTURES:
        raise UnsupportedModelError(
            f"The architecture {name[:64]!r} is not supported; known are "
            f"{', '.join(known_architectures())}.",
            architecture=name[:64],
            known=list(known_architectures()),
        )
    if context_length < 1:
        raise InvalidRequestError("The context length must be at least 1.")
    values = constants or {}
    for tensor in required_constants(model_file):
        if tensor not in values:
            raise InvalidRequestError(f"The values of the tensor {tensor!r} must be given.")
    architecture = _ARCHITECTURES[name]
    model = Decoder(
        model_file,
        context_length,
        values,
        layer_norm=architecture.layer_norm,
        encoder=architecture.encoder,
    )
    return architecture.build(model)
