"""Writes a decoder with random weights as transformers.js reads it (q4, with ``config.json``).

The graph is the one that exporters make for GPUs: MatMulNBits (4 bits, blocks of 32) for every
matrix, GroupQueryAttention with its rotary embedding, SkipSimplifiedLayerNormalization, an f32
embedding, logits of the wanted positions only. Runs in a scratch environment that has ``onnx`` and
``numpy``, so it imports nothing of this project. Run: ``python onnx_models.py FOLDER SHAPE_JSON``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

BLOCK = 32
EPSILON = 1e-5
CONTEXT = 2048
MICROSOFT = "com.microsoft"


class Decoder:
    """Collects nodes and initializers."""

    def __init__(self, shape: dict[str, Any]) -> None:
        self.shape = shape
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(1)

    def add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        """Add a node; return its first output."""
        made = helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes)
        self.nodes.append(made)
        return outputs[0]

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add an initializer."""
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def matrix(self, x: str, name: str, rows: int, columns: int, bias: bool = False) -> str:
        """Multiply by a random weight of four bits."""
        blocks = columns // BLOCK
        codes = self._random.integers(0, 256, (rows, blocks, BLOCK // 2), dtype=np.uint8)
        scales = np.full(rows * blocks, 3e-3, np.float32)
        inputs = [x, self.constant(f"{name}.q", codes), self.constant(f"{name}.s", scales)]
        sizes = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK}
        found = self.add("MatMulNBits", inputs, [f"{name}.y"], domain=MICROSOFT, **sizes)
        if bias:
            offsets = self.constant(f"{name}.b", np.full(rows, 0.01, np.float32))
            found = self.add("Add", [found, offsets], [f"{name}.z"])
        return found

    def norm(self, x: str, skip: str | None, name: str) -> tuple[str, str]:
        """Normalise x, or the sum of x and ``skip``; return it and the sum."""
        ones = self.constant(f"{name}.w", np.ones(self.shape["width"], np.float32))
        if skip is None:
            options = {"axis": -1, "epsilon": EPSILON}
            made = self.add("SimplifiedLayerNormalization", [x, ones], [f"{name}.y"], **options)
            return made, x
        outputs = [f"{name}.y", "", "", f"{name}.sum"]
        kind = "SkipSimplifiedLayerNormalization"
        self.add(kind, [x, skip, ones], outputs, domain=MICROSOFT, epsilon=EPSILON)
        return outputs[0], outputs[3]


def build(shape: dict[str, Any]) -> Any:
    """Return the ONNX model."""
    made = Decoder(shape)
    width, heads, kv = shape["width"], shape["heads"], shape["kv_heads"]
    head, vocabulary, layers = width // heads, shape["vocabulary"], shape["layers"]
    table = made._random.normal(0, 0.02, (vocabulary, width)).astype(np.float32)
    made.constant("embedding", table)
    angles = np.outer(np.arange(CONTEXT), shape["rope_base"] ** -(np.arange(0, head, 2) / head))
    made.constant("cos", np.cos(angles).astype(np.float32))
    made.constant("sin", np.sin(angles).astype(np.float32))
    made.constant("one", np.array(1, np.int64))
    made.constant("axis", np.array([1], np.int64))
    total = made.add("ReduceSum", ["attention_mask", "axis"], ["mask_sum"], keepdims=0)
    seen = made.add("Sub", [total, "one"], ["mask_last"])
    made.add("Cast", [seen], ["seqlens_k"], to=TensorProto.INT32)
    size = made.add("Shape", ["attention_mask"], ["mask_shape"])
    length = made.add("Gather", [size, "one"], ["mask_length"], axis=0)
    made.add("Cast", [length], ["total_length"], to=TensorProto.INT32)
    x, skip = made.add("Gather", ["embedding", "input_ids"], ["embedded"]), None
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", size_name])
        for name, size_name in (("input_ids", "sequence"), ("attention_mask", "total"))
    ]
    inputs.append(helper.make_tensor_value_info("num_logits_to_keep", TensorProto.INT64, []))
    outputs = [
        helper.make_tensor_value_info(
            "logits", TensorProto.FLOAT, ["batch_size", "kept", vocabulary]
        )
    ]
    for layer in range(layers):
        past, present = [], []
        for part in ("key", "value"):
            past.append(f"past_key_values.{layer}.{part}")
            present.append(f"present.{layer}.{part}")
            for names, ports, label in ((past, inputs, "past"), (present, outputs, "total")):
                sizes = ["batch_size", kv, label, head]
                info = helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, sizes)
                ports.append(info)
        normed, x = made.norm(x, skip, f"l{layer}.norm")
        rows = (heads + 2 * kv) * head
        qkv = made.matrix(normed, f"l{layer}.qkv", rows, width, shape["bias"])
        attended = made.add(
            "GroupQueryAttention",
            [qkv, "", "", *past, "seqlens_k", "total_length", "cos", "sin"],
            [f"l{layer}.attended", *present],
            domain=MICROSOFT,
            num_heads=heads,
            kv_num_heads=kv,
            do_rotary=1,
            scale=head**-0.5,
        )
        out = made.matrix(attended, f"l{layer}.out", width, width)
        normed, x = made.norm(x, out, f"l{layer}.ffn_norm")
        gate = made.matrix(normed, f"l{layer}.gate", shape["feed_forward"], width)
        up = made.matrix(normed, f"l{layer}.up", shape["feed_forward"], width)
        sigmoid = made.add("Sigmoid", [gate], [f"l{layer}.sigmoid"])
        act = made.add("Mul", [gate, sigmoid], [f"l{layer}.silu"])
        product = made.add("Mul", [act, up], [f"l{layer}.product"])
        skip = made.matrix(product, f"l{layer}.down", width, shape["feed_forward"])
    normed, _ = made.norm(x, skip, "norm")
    kept = made.add("Neg", ["num_logits_to_keep"], ["kept_from"])
    start = made.add("Unsqueeze", [kept, made.constant("zero", np.array([0], np.int64))], ["start"])
    end = made.constant("end", np.array([np.iinfo(np.int64).max], np.int64))
    wanted = made.add("Slice", [normed, start, end, "axis"], ["wanted"])
    logits = made.matrix(wanted, "head", vocabulary, width)
    made.add("Identity", [logits], ["logits"])
    graph = helper.make_graph(made.nodes, "decoder", inputs, outputs, made.weights)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9)


def main(folder: Path, shape: dict[str, Any]) -> None:
    """Write the folder of one model."""
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    save(build(shape), str(folder / "onnx" / "model_q4.onnx"))
    config = {
        "model_type": shape["architecture"],
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape["width"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv_heads"],
        "head_dim": shape["width"] // shape["heads"],
        "intermediate_size": shape["feed_forward"],
        "vocab_size": shape["vocabulary"],
        "max_position_embeddings": CONTEXT,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text("{}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
