"""The pieces that decoder architectures are made of: projections, attention, feed-forward, head.

An architecture file calls these in the order of its paper. Each method names the tensors of GGUF
files (``blk.3.attn_q.weight``), uses optional biases where the file has them, and appends to the
graph. Nothing here decides what an architecture does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ..errors import ContextLengthError, FormatError, UnsupportedModelError
from ..formats.model_file import ModelFile
from ..graph.builder import GraphBuilder
from ..graph.ops import Graph, NormSpec, RopeTable, Value
from .config import Config, read_config
from .rope import RopeSettings, choose_factors, read_rope, with_factors

POOLING = {0: None, 1: "mean", 2: "cls", 3: "last"}
"""GGUF's ``pooling_type`` (``enum llama_pooling_type``)."""


class Decoder:
    """A graph in the making: the file's numbers, and methods that append layers' parts.

    Widths in the docstrings: D model width, H query heads, K key/value heads, E head size,
    F feed-forward width, V vocabulary.
    """

    def __init__(
        self,
        model_file: ModelFile,
        context_length: int,
        constants: Mapping[str, Sequence[float]],
        *,
        layer_norm: bool = False,
        encoder: bool = False,
    ) -> None:
        self.config: Config = read_config(model_file, layer_norm=layer_norm, encoder=encoder)
        self.metadata = self.config.metadata
        self.layers = range(self.config.layers)
        self.graph = GraphBuilder(model_file.tensors)
        self.vocabulary = self.graph.tensor("token_embd.weight").rows
        self._file = model_file
        self._context_length = context_length
        self._constants = constants

    # -- constants -------------------------------------------------------------------------------

    def rope_settings(
        self,
        *,
        interleaved: bool = False,
        base_local: float = 10000.0,
        llama3_factors: bool = False,
        longrope_factors: bool = False,
    ) -> RopeSettings:
        """Read the rotation; the last two say which factor tensors the architecture reads."""
        if self._file.flag("tilewright.rope.neox", False):
            interleaved = False
        settings = read_rope(self.config, interleaved=interleaved, base_local=base_local)
        factors = self._file.metadata.get("tilewright.rope.factors")
        if factors is not None:
            return with_factors(settings, factors, "tilewright.rope.factors")
        return choose_factors(
            settings,
            self._constants,
            self._context_length,
            llama3=llama3_factors,
            longrope=longrope_factors,
        )

    def norm_spec(self, name: str, width: int, *, group: int = 0) -> NormSpec:
        """Norm with the weights ``name``; layer norms take a bias where the file has one.

        ``group`` columns share a mean (0: all of them); the weight may be shorter than ``width``
        by whole groups and is then repeated.
        """
        group = group or width
        shared = self.graph.tensor(f"{name}.weight")
        length = group if shared.rows * shared.columns == group else width
        bias = None
        if self.config.layer_norm:
            bias = self.graph.optional_vector(f"{name}.bias", length)
        return NormSpec(
            self.graph.vector(f"{name}.weight", length),
            bias,
            self.config.epsilon,
            group,
            center=self.config.layer_norm,
            weight_offset=1.0 if self._file.flag("tilewright.norm.add_one", False) else 0.0,
        )

    def attention_scale(self) -> float:
        """One over the square root of the head size, or what ``attention.scale`` says."""
        given = self.metadata.number("attention.scale", 0.0)
        return given or self.config.head_size**-0.5

    def windows(self, pattern: int, window: int) -> tuple[int, ...]:
        """Sliding window of each layer, 0 for layers that see everything.

        The file may give a flag per layer or a period (default ``pattern``): the last layer of
        each period sees everything (llama.cpp: ``load_swa_pattern``).
        """
        given = self.metadata.flags_or_count("attention.sliding_window_pattern", pattern)
        if isinstance(given, tuple):
            if len(given) < self.config.layers:
                raise FormatError("The sliding window pattern is shorter than the model.")
            return tuple(window if given[layer] else 0 for layer in self.layers)
        return tuple(
            window if given == 0 or layer % given < given - 1 else 0 for layer in self.layers
        )

    # -- parts of a layer ------------------------------------------------------------------------

    def embed(self, *, scale: float = 1.0) -> Value:
        """f32[T, D]: token embeddings."""
        return self.graph.embed(
            "token_embd.weight", self.vocabulary, self.config.width, scale=scale
        )

    def embed_positions(self, x: Value) -> Value:
        """f32[T, D]: x + learned position embeddings."""
        rows = self.graph.tensor("position_embd.weight").rows
        if self._context_length > rows:
            raise ContextLengthError(
                f"The model has embeddings for {rows} positions, but a context of "
                f"{self._context_length} tokens was asked for: ask for at most {rows}.",
                limit=rows,
            )
        positions = self.graph.embed(
            "position_embd.weight", rows, self.config.width, index="positions"
        )
        return self.graph.add(x, positions, "embedded")

    def norm(self, x: Value, name: str, *, group: int = 0) -> Value:
        """Return the norm of x, in groups of ``group`` columns (0: the whole row)."""
        return self.graph.norm(x, self.norm_spec(name, x.width, group=group), name)

    def qkv(self, x: Value, layer: int) -> tuple[Value, Value, Value]:
        """(f32[T, H*E], f32[T, K*E], f32[T, K*E']): one fused tensor or three."""
        config, prefix = self.config, f"blk.{layer}.attn_"
        q_width = config.heads[layer] * config.head_size
        k_width = config.kv_heads[layer] * config.head_size
        v_width = config.kv_heads[layer] * config.value_size
        if self.graph.has(f"{prefix}qkv.weight"):
            if self.graph.has(f"{prefix}q.bias") and not self.graph.has(f"{prefix}qkv.bias"):
                raise UnsupportedModelError(
                    "A fused attention weight with three biases is not supported."
                )
            qkv = self.graph.linear(x, f"{prefix}qkv", q_width + k_width + v_width)
            return (
                qkv.view(0, q_width),
                qkv.view(q_width, k_width),
                qkv.view(q_width + k_width, v_width),
            )
        return (
            self.graph.linear(x, f"{prefix}q", q_width),
            self.graph.linear(x, f"{prefix}k", k_width),
            self.graph.linear(x, f"{prefix}v", v_width),
        )

    def rotate(
        self, q: Value, k: Value, layer: int, table: RopeTable | None
    ) -> tuple[Value, Value]:
        """Rotate queries and keys (not at all where ``table`` is None)."""
        if table is None:
            return q, k
        config, prefix = self.config, f"blk.{layer}.rope_"
        return (
            self.graph.rope(q, table, config.heads[layer], config.head_size, f"{prefix}q"),
            self.graph.rope(k, table, config.kv_heads[layer], config.head_size, f"{prefix}k"),
        )

    def attend(
        self,
        q: Value,
        k: Value,
        v: Value,
        layer: int,
        *,
        scale: float | None = None,
        window: int = 0,
        softcap: float = 0.0,
    ) -> Value:
        """f32[T, D]: attention and its output projection."""
        attended = self.graph.attention(
            q,
            k,
            v,
            layer=layer,
            heads=self.config.heads[layer],
            kv_heads=self.config.kv_heads[layer],
            scale=self.config.head_size**-0.5 if scale is None else scale,
            name=f"blk.{layer}.attention",
            causal=self.config.causal,
            window=window,
            softcap=softcap,
        )
        return self.graph.linear(attended, f"blk.{layer}.attn_output", self.config.width)

    def feed_forward(
        self, x: Value, layer: int, activation: str, suffix: str = "", *, biased: bool = True
    ) -> Value:
        """f32[T, D]: down(activation(gate(x)) * up(x)), or down(activation(up(x))).

        Which of the two (and whether gate and up are one tensor) is read off the file.
        """
        name = f"blk.{layer}.ffn_"
        graph, linear = self.graph, partial(self.graph.linear, biased=biased)
        up_rows = graph.tensor(f"{name}up{suffix}.weight").rows
        label = f"{name}act{suffix}"
        if graph.has(f"{name}gate{suffix}.weight"):
            gate = linear(x, f"{name}gate{suffix}", up_rows)
            up = linear(x, f"{name}up{suffix}", up_rows)
            hidden = graph.activate(gate, activation, label, up)
        elif not suffix and up_rows == 2 * self.config.feed_forward[layer]:
            both = linear(x, f"{name}up", up_rows)
            half = up_rows // 2
            hidden = graph.activate(both.view(0, half), activation, label, both.view(half, half))
        else:
            up = linear(x, f"{name}up{suffix}", up_rows)
            hidden = graph.activate(up, activation, label)
        return linear(hidden, f"{name}down{suffix}", self.config.width)

    def experts(self, x: Value, layer: int, activation: str, *, normalise: bool) -> Value:
        """f32[T, D]: the chosen experts' outputs, weighted by their softmax scores."""
        graph, name, config = self.graph, f"blk.{layer}.ffn_", self.config
        count = config.experts
        width = graph.tensor(f"{name}up_exps.weight").rows // count
        logits = graph.linear(x, f"{name}gate_inp", count)
        chosen, weights = graph.route(
            logits, config.experts_used[layer], name=f"{name}route", normalise=normalise
        )
        up = graph.expert_linear(x, f"{name}up_exps", chosen, count, width)
        if graph.has(f"{name}gate_exps.weight"):
            gate = graph.expert_linear(x, f"{name}gate_exps", chosen, count, width)
            hidden = graph.activate(gate, activation, f"{name}act_exps", up)
        else:
            hidden = graph.activate(up, activation, f"{name}act_exps")
        down = graph.expert_linear(
            hidden, f"{name}down_exps", chosen, count, config.width, each=True
        )
        return graph.combine(down, weights, f"{name}moe")

    def head(
        self,
        x: Value,
        *,
        scale: float = 1.0,
        softcap: float = 0.0,
    ) -> Graph:
        """Finish a decoder: output norm and logits; the token table where there is no output.

        A file with a ``pooling_type`` is an embedding model: its normed hidden states and their
        pooling are outputs too.
        """
        hidden = pooled = None
        kind = self.pooling()
        if kind is not None:
            hidden = self.norm(x, "output_norm")
            pooled = self.graph.pool(hidden, kind)
            normed = self.graph.take_outputs(hidden)
        else:
            normed = self.norm(self.graph.take_outputs(x), "output_norm")
        name = "output" if self.graph.has("output.weight") else "token_embd"
        logits = self.graph.linear(normed, name, self.vocabulary, scale=scale, softcap=softcap)
        return self.graph.finish(
            vocabulary=self.vocabulary,
            logits=logits,
            hidden=hidden,
            pooled=pooled,
            causal=self.config.causal,
        )

    def pooling(self) -> str | None:
        """Return the kind of pooling that the file asks for, None where it asks for none."""
        kind = self.metadata.count("pooling_type", 0, low=-1)
        if kind not in POOLING and kind != -1:
            raise UnsupportedModelError(
                f"Pooling type {kind} (a reranker's head) is not supported: use an embedding "
                "model with mean, cls or last-token pooling."
            )
        return POOLING.get(kind)
