"""Makes tiny random models of every architecture, with unusual settings, and llama.cpp's answers.

``python tests/reference/make_models.py`` (in an environment with llama-cpp-python and numpy,
repository root and py_core on the path) writes ``tests/golden/models/NAME.gguf`` (F16 matrices) and
``NAME.npz``, whose ``llama_cpp_*`` arrays are llama.cpp's and whose others are the interpreter's in
float64. The weights are drawn in half precision and llama.cpp gets them as F32, so that it does not
round activations: flash attention off, F32 KV cache, one thread, all tokens in one batch.
The settings are such that ignoring one changes the logits by far more than the tolerance.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.reference.gguf_writer import Tensor, write_gguf
from tests.reference.interpreter import (
    Interpreter,
    read_tensors,
    tensor_names,
)

from tilewright.formats.gguf import read_gguf
from tilewright.formats.quant import BY_NAME
from tilewright.formats.source import MemorySource
from tilewright.models import build_graph, read_constants

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "models"

VOCABULARY, TOKENS, CONTEXT = 64, 40, 128
Shapes = Iterator[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Spec:
    """One model: its architecture, its metadata beside the usual, and which tensors it has."""

    architecture: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    layers: int = 2
    width: int = 32
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 8
    feed_forward: int = 48
    experts: int = 0
    attention: str = "split"
    """``split`` (q, k, v), ``fused`` (qkv)."""
    biases: str = ""
    """Parts with biases: any of ``attn_q``, ``attn_output``, ``ffn``, ``norm``, ``output``."""
    feed: str = "gated"
    """``gated``, ``merged`` (gate and up in one), ``plain``."""
    norms: str = "attn_norm ffn_norm"
    qk_norm: str = ""
    """``head`` (one weight per head element), ``heads`` (one per head), ``row`` (whole row)."""
    shared: int = 0
    """Width of the shared expert."""
    shared_gate: bool = False
    tied: bool = False
    positions: bool = False
    token_types: bool = False
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    moe_every: int = 0


def _gemma(**keys: Any) -> dict[str, Any]:
    return {"attention.key_length": 16, "attention.value_length": 16, **keys}


_POST = "attn_norm post_attention_norm ffn_norm post_ffw_norm"
_ENCODER: dict[str, Any] = {
    "layers": 2,
    "kv_heads": 4,
    "norms": "attn_output_norm layer_output_norm",
    "token_types": True,
}
_EXPERTS = {"expert_count": 4, "expert_used_count": 2}
_LLAMA3 = (1.0, 1.7, 3.2, 8.0)
_SCALES = {
    "logit_scale": 3.0,
    "residual_scale": 0.4,
    "embedding_scale": 6.0,
    "attention.scale": 0.2,
}
_YARN = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 24,
}
_WINDOW = {"attention.sliding_window": 12}

MODELS: dict[str, Spec] = {
    "llama-llama3": Spec("llama", constants={"rope_freqs.weight": _LLAMA3}, tied=True),
    "llama-linear": Spec("llama", {"rope.scaling.factor": 3.0, "rope.freq_base": 500.0}),
    "llama-yarn": Spec("llama", {**_YARN, "rope.scaling.attn_factor": 1.2}),
    "llama-biases": Spec(
        "llama", biases="attn_q attn_output ffn", heads=8, kv_heads=1, head_size=4
    ),
    "llama-moe": Spec("llama", _EXPERTS, experts=4),
    "mistral": Spec("llama", _WINDOW, attention="fused"),
    "qwen2": Spec("qwen2", biases="attn_q output"),
    "qwen3": Spec("qwen3", _gemma(**{"rope.freq_base": 1e6}), head_size=16, qk_norm="head"),
    "gemma2": Spec(
        "gemma2",
        _gemma(**_WINDOW, attn_logit_softcapping=3.0, final_logit_softcapping=4.0),
        head_size=16,
        norms=_POST,
        tied=True,
    ),
    "gemma3-linear": Spec(
        "gemma3",
        _gemma(
            **_WINDOW,
            **{
                "attention.sliding_window_pattern": 2,
                "rope.freq_base": 1e5,
                "rope.freq_base_swa": 300.0,
                "rope.scaling.factor": 8.0,
            },
        ),
        head_size=16,
        norms=_POST,
        qk_norm="head",
    ),
    "phi3-partial": Spec(
        "phi3",
        {
            "rope.dimension_count": 4,
            "rope.scaling.attn_factor": 1.19,
            "rope.scaling.original_context_length": 100,
        },
        attention="fused",
        feed="merged",
        constants={
            "rope_factors_long.weight": (1.5, 9.0),
            "rope_factors_short.weight": (1.1, 2.5),
        },
    ),
    "granite-nope": Spec("granite", {**_SCALES, "rope.scaling.finetuned": False}, tied=True),
    "granitemoe": Spec(
        "granitemoe",
        {**_SCALES, **_EXPERTS, "expert_shared_feed_forward_length": 24},
        experts=4,
        shared=24,
        tied=True,
    ),
    "smollm3": Spec("smollm3", layers=4, tied=True),
    "olmo2": Spec(
        "olmo2",
        {**_WINDOW, **_YARN},
        layers=4,
        kv_heads=2,
        norms="post_attention_norm post_ffw_norm",
        qk_norm="row",
    ),
    "olmoe": Spec("olmoe", _EXPERTS, kv_heads=4, experts=4, qk_norm="row"),
    "starcoder2": Spec(
        "starcoder2",
        {"rope.freq_base": 700.0},
        biases="attn_q attn_output ffn norm",
        feed="plain",
        tied=True,
    ),
    "gpt2": Spec(
        "gpt2",
        kv_heads=4,
        attention="fused",
        biases="attn_q attn_output ffn norm",
        feed="plain",
        positions=True,
    ),
    "stablelm": Spec("stablelm", {"rope.dimension_count": 4}, biases="attn_q norm"),
    "stablelm-parallel": Spec(
        "stablelm",
        {"rope.dimension_count": 2},
        biases="norm",
        norms="attn_norm",
        qk_norm="heads",
    ),
    "qwen2moe": Spec(
        "qwen2moe",
        {
            **_EXPERTS,
            "expert_feed_forward_length": 24,
            "expert_shared_feed_forward_length": 40,
        },
        biases="attn_q",
        feed_forward=24,
        experts=4,
        shared=40,
        shared_gate=True,
    ),
    "qwen3moe": Spec(
        "qwen3moe",
        {**_gemma(), "expert_count": 5, "expert_used_count": 3, "expert_feed_forward_length": 24},
        head_size=16,
        feed_forward=24,
        experts=5,
        qk_norm="head",
    ),
    "bert-cls": Spec(
        "bert",
        {"pooling_type": 2},
        **_ENCODER,
        biases="attn_q attn_output ffn norm",
        feed="plain",
        positions=True,
    ),
    "nomic-bert": Spec("nomic-bert", {"pooling_type": 1}, **_ENCODER, attention="fused"),
    "nomic-bert-moe": Spec(
        "nomic-bert-moe",
        {"pooling_type": 1, "moe_every_n_layers": 2, **_EXPERTS},
        **_ENCODER,
        attention="fused",
        biases="attn_q attn_output ffn norm",
        feed="plain",
        experts=4,
        moe_every=2,
    ),
}


def is_encoder(spec: Spec) -> bool:
    """Whether the model gives embeddings instead of logits."""
    return "pooling_type" in spec.keys


def metadata(spec: Spec) -> dict[str, Any]:
    """Return the GGUF metadata."""
    keys: dict[str, Any] = {
        "context_length": CONTEXT,
        "block_count": spec.layers,
        "embedding_length": spec.width,
        "feed_forward_length": spec.feed_forward,
        "attention.head_count": spec.heads,
        "attention.head_count_kv": spec.kv_heads,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "vocab_size": VOCABULARY,
        **spec.keys,
    }
    if is_encoder(spec):
        keys["attention.causal"] = False
    found = {f"{spec.architecture}.{key}": value for key, value in keys.items()}
    found |= {"general.architecture": spec.architecture, "tokenizer.ggml.model": "no_vocab"}
    return found | {"tokenizer.ggml.token_type_count": 2}


def shapes(spec: Spec) -> Shapes:
    """Yield the tensors' names and row-major shapes."""
    width = spec.width
    yield "token_embd.weight", (VOCABULARY, width)
    if spec.positions:
        yield "position_embd.weight", (CONTEXT, width)
    if spec.token_types:
        yield "token_types.weight", (2, width)
        yield from _pair("token_embd_norm", (width,), bias=True)
    else:
        yield from _pair("output_norm", (width,), bias="norm" in spec.biases.split())
    if not spec.tied and not is_encoder(spec):
        yield from _pair("output", (VOCABULARY, width), bias="output" in spec.biases.split())
    for name, values in spec.constants.items():
        yield name, (len(values),)
    for layer in range(spec.layers):
        for name, shape in _layer(spec, layer):
            yield f"blk.{layer}.{name}", shape


def _layer(spec: Spec, layer: int) -> Shapes:
    width, biases = spec.width, spec.biases.split()
    q, kv = spec.heads * spec.head_size, spec.kv_heads * spec.head_size
    for name in spec.norms.split():
        yield from _pair(name, (width,), bias="norm" in biases or is_encoder(spec))
    if spec.attention == "fused":
        yield from _pair("attn_qkv", (q + 2 * kv, width), bias="attn_q" in biases)
    else:
        for name, rows in (("attn_q", q), ("attn_k", kv), ("attn_v", kv)):
            yield from _pair(name, (rows, width), bias="attn_q" in biases)
    yield from _pair("attn_output", (width, q), bias="attn_output" in biases)
    for name, heads in (("attn_q_norm", spec.heads), ("attn_k_norm", spec.kv_heads)):
        size = spec.head_size
        by_kind = {"head": (size,), "heads": (heads, size), "row": (heads * size,)}
        if spec.qk_norm:
            yield f"{name}.weight", by_kind[spec.qk_norm]
    if spec.experts and (not spec.moe_every or layer % spec.moe_every == 1):
        yield from _experts(spec)
        return
    inner = spec.feed_forward
    rows = 2 * inner if spec.feed == "merged" else inner
    if spec.feed == "gated":
        yield from _pair("ffn_gate", (inner, width), bias="ffn" in biases)
    yield from _pair("ffn_up", (rows, width), bias="ffn" in biases)
    yield from _pair("ffn_down", (width, inner), bias="ffn" in biases)


def _experts(spec: Spec) -> Shapes:
    width, inner = spec.width, spec.feed_forward
    yield "ffn_gate_inp.weight", (spec.experts, width)
    if spec.feed == "gated":
        yield "ffn_gate_exps.weight", (spec.experts, inner, width)
    yield "ffn_up_exps.weight", (spec.experts, inner, width)
    yield "ffn_down_exps.weight", (spec.experts, width, inner)
    if spec.shared:
        yield "ffn_gate_shexp.weight", (spec.shared, width)
        yield "ffn_up_shexp.weight", (spec.shared, width)
        yield "ffn_down_shexp.weight", (width, spec.shared)
    if spec.shared_gate:
        yield "ffn_gate_inp_shexp.weight", (width,)


def _pair(name: str, shape: tuple[int, ...], *, bias: bool) -> Shapes:
    yield f"{name}.weight", shape
    if bias:
        yield f"{name}.bias", shape[:1]


def draw(spec: Spec, seed: int) -> dict[str, NDArray[np.float16]]:
    """Draw the weights, in half precision."""
    random, found = np.random.default_rng(seed), {}
    for name, shape in shapes(spec):
        values = random.normal(size=shape)
        if name in spec.constants:
            values = np.asarray(spec.constants[name])
        elif name.endswith(".bias"):
            values *= 0.3
        elif "norm" in name:
            values = 1.0 + 0.3 * values
        else:
            values *= 1.6 / np.sqrt(shape[-1])
        found[name] = values.astype(np.float16)
    return found


def tensors(weights: Mapping[str, NDArray[np.float16]], matrices: str) -> dict[str, Tensor]:
    """Return the tensors to write; vectors, routers and learned positions stay F32."""
    found: dict[str, Tensor] = {}
    for name, values in weights.items():
        plain = values.ndim == 1 or "norm" in name or "gate_inp" in name or "position" in name
        quant = BY_NAME["F32" if plain or "types" in name else matrices]
        data = values.astype(np.float32 if quant.name == "F32" else np.float16)
        found[name] = (data, values.shape, quant)
    return found


def llama_cpp_answer(path: Path, ids: list[int], spec: Spec) -> dict[str, NDArray[np.float32]]:
    """Run llama.cpp: ``logits`` f32[T, V], or ``tokens`` f32[T, D] and ``pooled`` f32[D]."""
    import llama_cpp as llama  # type: ignore[import-not-found]

    model_parameters = llama.llama_model_default_params()
    model_parameters.use_extra_bufts = False
    model = llama.llama_model_load_from_file(str(path).encode(), model_parameters)
    if not model:
        raise RuntimeError(f"llama.cpp does not load {path.name}")

    def outputs(pooling: int) -> NDArray[np.float32]:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = CONTEXT
        parameters.n_threads = parameters.n_threads_batch = 1
        parameters.flash_attn_type = parameters.type_k = parameters.type_v = 0
        parameters.embeddings, parameters.pooling_type = is_encoder(spec), pooling
        context = llama.llama_init_from_model(model, parameters)
        batch = llama.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for index, token in enumerate(ids):
            batch.token[index], batch.pos[index] = token, index
            batch.n_seq_id[index], batch.seq_id[index][0], batch.logits[index] = 1, 0, True
        run = llama.llama_encode if is_encoder(spec) else llama.llama_decode
        if run(context, batch):
            raise RuntimeError(f"llama.cpp cannot run {path.name}")
        rows, width = (1 if pooling > 0 else len(ids)), spec.width
        if not is_encoder(spec):
            found, width = llama.llama_get_logits(context), VOCABULARY
        elif pooling > 0:
            found = llama.llama_get_embeddings_seq(context, 0)
        else:
            found = llama.llama_get_embeddings(context)
        result = np.ctypeslib.as_array(found, (rows * width,)).reshape(rows, width).copy()
        llama.llama_batch_free(batch)
        llama.llama_free(context)
        return result

    if is_encoder(spec):
        return {"tokens": outputs(0), "pooled": outputs(spec.keys["pooling_type"])[0]}
    return {"logits": outputs(0)}


async def exact_answer(path: Path, ids: list[int]) -> dict[str, NDArray[np.float32]]:
    """Run the interpreter in float64; the names are those of ``llama_cpp_answer``."""
    model_file = await read_gguf(MemorySource(path.read_bytes(), path.name))
    constants = await read_constants(model_file)
    graph = build_graph(model_file, context_length=CONTEXT, constants=constants)
    interpreter = Interpreter(graph, await read_tensors(model_file, tensor_names(graph)))
    result = interpreter.run(ids)
    if result.logits is not None:
        return {"logits": result.logits.astype(np.float32)}
    assert result.hidden is not None
    assert result.pooled is not None
    return {
        "tokens": result.hidden.astype(np.float32),
        "pooled": result.pooled[0].astype(np.float32),
    }


def main() -> None:
    """Write all models and answers, and a table of the differences."""
    for seed, (name, spec) in enumerate(MODELS.items(), start=100):
        ids = np.random.default_rng(seed).integers(0, VOCABULARY, TOKENS).tolist()
        weights = draw(spec, seed)
        path = GOLDEN / f"{name}.gguf"
        write_gguf(path, metadata(spec), tensors(weights, "F16"))
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / path.name
            write_gguf(plain, metadata(spec), tensors(weights, "F32"))
            theirs = llama_cpp_answer(plain, ids, spec)
        exact = asyncio.run(exact_answer(path, ids))
        arrays = exact | {f"llama_cpp_{key}": value for key, value in theirs.items()}
        np.savez_compressed(path.with_suffix(".npz"), ids=np.asarray(ids), **arrays)
        for key, value in exact.items():
            difference = np.abs(value - theirs[key])
            print(f"{name} {key} max {difference.max():.1e} mean {difference.mean():.1e}")


if __name__ == "__main__":
    main()
