"""safetensors folders, made from the reference models, describe the same models as the GGUF."""

from __future__ import annotations

import json
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reference import golden_models
from tests.reference.interpreter import Interpreter, read_tensors, tensor_names
from tests.reference.safetensors_writer import huggingface_files, safetensors_bytes
from tests.reference.to_huggingface import PERMUTED, publish, read_array, unpermute

from tilewright.errors import FormatError, SourceError, UnsupportedModelError
from tilewright.formats.derived import PiecesSource, TransposedSource
from tilewright.formats.hf_config import translate_config
from tilewright.formats.hf_families import FAMILIES, read_family
from tilewright.formats.hf_names import translate_name
from tilewright.formats.open import open_model
from tilewright.formats.source import MemorySource
from tilewright.models import build_graph, known_architectures

MODELS = [
    *("llama.F16", "llama-tied.F16", "llama.F32", "qwen2.F16", "qwen3.F16", "gemma3.F16"),
    *("granite.F16", "phi3.F16", "phi3-longrope.F16", "qwen3moe.F16", "bert.F16"),
]
NAMES = json.loads((Path(__file__).parents[2] / "golden" / "hf_names.json").read_text())["cases"]
NOT_IN_CONFIG = {"phi3.rope.scaling.attn_factor", "granite.rope.scaling.finetuned"}


@pytest.mark.parametrize("kind", NAMES)
def test_names_are_those_of_llama_cpp(kind: str) -> None:
    for name, expected in NAMES[kind].items():
        place = translate_name(FAMILIES[kind].names, name)
        assert place is not None, name
        assert place.name == expected
    assert translate_name(FAMILIES[kind].names, "model.layers.0.unheard_of.weight") is None


def test_every_architecture_has_a_family() -> None:
    reached = {family.architecture for family in FAMILIES.values()}
    assert reached == set(known_architectures()) - {"nomic-bert-moe"}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("name", MODELS)
async def test_same_model_either_way(name: str, shards: int, oracle: Path, tmp_path: Path) -> None:
    original = await open_model(oracle / "models_and_logits" / "models" / f"{name}.gguf")
    await publish(original, tmp_path, shards=shards)
    file = await open_model(tmp_path)
    prefix = original.architecture
    for key, value in original.metadata.items():
        if key.startswith(f"{prefix}.") and key not in NOT_IN_CONFIG:
            # a GGUF may leave out or repeat what follows from other keys
            assert file.metadata.get(key, value) == pytest.approx(value), key
    assert set(file.tensors) == set(original.tensors)
    permuted = prefix in PERMUTED
    assert file.metadata.get("tilewright.rope.neox", False) == permuted
    for info in original.items():
        assert file.tensor(info.name).shape == info.shape
        expected = await read_array(original, info.name)
        if permuted and ".attn_q." in info.name:
            expected = unpermute(expected, original.integer(f"{prefix}.attention.head_count"))
        if permuted and ".attn_k." in info.name:
            expected = unpermute(expected, original.integer(f"{prefix}.attention.head_count_kv"))
        values = await read_array(file, info.name)
        if file.metadata.get("tilewright.norm.add_one") and "norm" in info.name:
            values = values + np.float32(1)
        assert np.allclose(values, expected, rtol=0, atol=1e-6), info.name
    graphs = []
    for model in (original, file):
        constants = {
            key: (await read_array(model, key)).tolist()
            for key in model.tensors
            if key.startswith("rope_factors")
        }
        graphs.append(build_graph(model, context_length=64, constants=constants))
    assert [type(op) for op in graphs[0].ops] == [type(op) for op in graphs[1].ops]
    original.close()
    file.close()


NOT_EXPRESSIBLE = {
    "granite-nope": "no rotation at all",
    "llama-llama3": "factors that llama3's formula does not give",
    "llama-yarn": "a magnitude that YaRN's formula does not give",
    "phi3-partial": "a magnitude that longrope's formula does not give",
    "mistral": "one fused weight; transformers has three",
    "nomic-bert-moe": "experts that GGUF stores transposed",
}


@pytest.mark.parametrize("name", sorted(set(golden_models.NAMES) - set(NOT_EXPRESSIBLE)))
async def test_every_architecture_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    with closing(await open_model(golden_models.FOLDER / f"{name}.gguf")) as original:
        await publish(original, tmp_path)
    with closing(await open_model(tmp_path)) as file:
        graph = build_graph(file, context_length=golden_models.CONTEXT)
        tensors = await read_tensors(file, tensor_names(graph))
    expected = golden_models.expected(name)
    result = Interpreter(graph, tensors).run(expected["ids"].tolist())
    compared = 0
    for key, values in (("logits", result.logits), ("tokens", result.hidden)):
        if key in expected:
            assert values is not None
            assert np.abs(values - expected[key]).max() < 1e-5
            compared += 1
    assert compared


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def changed(**settings: Any) -> dict[str, bytes]:
    files = huggingface_files()
    config = {**json.loads(files["config.json"]), **settings}
    return {**files, "config.json": json.dumps(config).encode()}


@pytest.mark.parametrize("entry", ["", "model.safetensors", "config.json"])
async def test_folder_file_or_config_opens(entry: str, tmp_path: Path) -> None:
    files = changed(_name_or_path="someone/Tiny-Llama")
    file = await open_model(write(tmp_path, files) / entry)
    assert file.architecture == "llama"
    assert file.metadata["general.name"] == "Tiny-Llama"
    assert file.metadata["tilewright.tokenizer_json"]["model"]["type"] == "BPE"
    assert file.metadata["tilewright.tokenizer_config"]["bos_token"] == "<26>"
    assert file.metadata["tokenizer.chat_template"] == "{{ messages[0].content }}"
    assert file.metadata["tokenizer.ggml.bos_token_id"] == 1
    assert file.metadata["tokenizer.ggml.eos_token_id"] == 2
    assert file.metadata["tilewright.eos_token_ids"] == [2, 3]
    file.close()


async def test_llama3_factors(tmp_path: Path) -> None:
    file = await open_model(write(tmp_path, huggingface_files()))
    factors = file.metadata["tilewright.rope.factors"]
    # head size 8, base 500000: wavelengths 6.3, 167, 4443, 118142; kept below 32 / 4
    assert factors == [1.0, 8.0, 8.0, 8.0]
    graph = build_graph(file, context_length=64)
    assert graph.ops
    file.close()


def test_rope_settings_in_the_spelling_of_transformers_5() -> None:
    config = {
        **{"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 6},
        **{"intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 1},
        **{"head_dim": 16, "vocab_size": 32, "query_pre_attn_scalar": 16, "sliding_window": 8},
        "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 123.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 45.0},
        },
    }
    family, settings = read_family(config, "config.json")
    metadata = translate_config(family, settings)
    assert metadata["gemma3.rope.freq_base"] == 123.0
    assert metadata["gemma3.rope.freq_base_swa"] == 45.0
    assert metadata["gemma3.rope.scaling.type"] == "linear"
    assert metadata["gemma3.rope.scaling.factor"] == 8.0
    assert metadata["gemma3.attention.sliding_window"] == 8
    assert metadata["gemma3.attention.sliding_window_pattern"] == [True] * 5 + [False]
    assert metadata["tilewright.norm.add_one"] is True


async def test_chat_template_file_and_named_templates(tmp_path: Path) -> None:
    files = huggingface_files()
    named = [{"name": "default", "template": "A"}, {"name": "tool_use", "template": "B"}]
    files["tokenizer_config.json"] = json.dumps({"chat_template": named}).encode()
    file = await open_model(write(tmp_path, files))
    assert file.metadata["tokenizer.chat_template"] == "A"
    assert file.metadata["tokenizer.chat_template.tool_use"] == "B"
    file.close()
    (tmp_path / "chat_template.jinja").write_text("from the file")
    file = await open_model(tmp_path)
    assert file.metadata["tokenizer.chat_template"] == "from the file"
    file.close()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model_type": "mamba"}, "'mamba' are not supported; known are bert"),
        ({"quantization_config": {"quant_method": "fp8"}}, "'fp8', None bits"),
        ({"hidden_act": "relu"}, "activation 'relu'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope scaling 'dynamic'"),
        ({"model_type": "smollm3", "no_rope_layers": [0, 0]}, "no_rope_layers"),
        ({"model_type": "qwen2_moe", "norm_topk_prob": True}, "norm_topk_prob"),
    ],
)
async def test_settings_that_gguf_cannot_express(
    settings: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        await open_model(write(tmp_path, changed(**settings)))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hidden_size": None}, "'hidden_size'"),
        ({"num_hidden_layers": -1}, "'num_hidden_layers'"),
        ({"vocab_size": "many"}, "'vocab_size'"),
        ({"rms_norm_eps": "1e-5"}, "'rms_norm_eps'"),
        ({"rope_theta": float("nan")}, "finite"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'factor'"),
    ],
)
async def test_damaged_settings(settings: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=reason):
        await open_model(write(tmp_path, changed(**settings)))


async def test_missing_files_are_named(tmp_path: Path) -> None:
    files = huggingface_files()
    weights = files.pop("model.safetensors")
    with pytest.raises(FormatError, match="holds no model"):
        await open_model(write(tmp_path, files))
    files["model.safetensors.index.json"] = json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    ).encode()
    with pytest.raises(SourceError, match=r"00001-of-00002\.safetensors is missing"):
        await open_model(write(tmp_path, files))
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "model.safetensors").write_bytes(weights)
    with pytest.raises(SourceError, match=r"no config\.json"):
        await open_model(alone)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b.safetensors", ".."])
async def test_an_index_cannot_point_elsewhere(name: str, tmp_path: Path) -> None:
    files = huggingface_files()
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": name}}).encode()
    with pytest.raises(FormatError, match="index names files"):
        await open_model(write(tmp_path, files))


def raw(header: object, data: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def entry(dtype: str, shape: object, places: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": places}


DAMAGED = {
    "empty": (b"", "only 0 bytes"),
    "absurd header": (struct.pack("<Q", 2**62) + bytes(64), "claims a header"),
    "no JSON": (raw(b"{nonsense"), "not valid JSON"),
    "nested": (raw(b"[" * 100_000), "not valid JSON"),
    "a list": (raw([]), "not a JSON object"),
    "no description": (raw({"w": 3}), "does not describe"),
    "unknown type": (raw({"w": entry("F7", [1], [0, 4])}, bytes(4)), "unknown type 'F7'"),
    "negative size": (raw({"w": entry("F32", [-1], [0, 4])}, bytes(4)), "the shape"),
    "huge shape": (raw({"w": entry("F32", [2**40] * 8, [0, 4])}, bytes(4)), "does not fit"),
    "places swapped": (raw({"w": entry("F32", [1], [4, 0])}, bytes(4)), "does not fit"),
    "three places": (raw({"w": entry("F32", [1], [0, 4, 8])}, bytes(8)), "the place"),
    "beyond the end": (raw({"w": entry("F32", [9], [0, 36])}, bytes(4)), "ends at byte"),
    "overlap": (
        raw({"v": entry("F32", [2], [0, 8]), "w": entry("F32", [2], [4, 12])}, bytes(12)),
        "overlapping",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
async def test_damaged_safetensors_header(case: str, tmp_path: Path) -> None:
    data, reason = DAMAGED[case]
    with pytest.raises(FormatError, match=reason):
        await open_model(write(tmp_path, {**huggingface_files(), "model.safetensors": data}))


async def test_unknown_tensors_and_types_are_named(tmp_path: Path) -> None:
    for name, dtype, reason in (
        ("model.layers.0.mlp.extra.weight", "F32", "mlp.extra.weight"),
        ("model.norm.weight", "I64", "type I64"),
    ):
        data = safetensors_bytes({name: (dtype, (2,), bytes(8 if dtype == "F32" else 16))})
        with pytest.raises(UnsupportedModelError, match=reason):
            await open_model(write(tmp_path, {**huggingface_files(), "model.safetensors": data}))


async def test_incomplete_stack_of_experts(tmp_path: Path) -> None:
    weights = ("F32", (2, 2), bytes(16))
    for names, reason in (
        (("0", "2"), "lacks parts"),
        (("1",), "lacks parts"),
    ):
        data = safetensors_bytes(
            {f"model.layers.0.mlp.experts.{n}.up_proj.weight": weights for n in names}
        )
        with pytest.raises(FormatError, match=reason):
            await open_model(write(tmp_path, {**huggingface_files(), "model.safetensors": data}))


async def test_fused_experts_are_split(tmp_path: Path) -> None:
    both = np.arange(3 * 4 * 2, dtype=np.float32).reshape(3, 4, 2)
    down = np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2)
    data = safetensors_bytes(
        {
            "model.layers.0.mlp.experts.gate_up_proj": ("F32", both.shape, both.tobytes()),
            "model.layers.0.mlp.experts.down_proj": ("F32", down.shape, down.tobytes()),
        }
    )
    files = {**changed(model_type="qwen3_moe"), "model.safetensors": data}
    file = await open_model(write(tmp_path, files))
    assert np.array_equal(await read_array(file, "blk.0.ffn_gate_exps.weight"), both[:, :2])
    assert np.array_equal(await read_array(file, "blk.0.ffn_up_exps.weight"), both[:, 2:])
    assert np.array_equal(await read_array(file, "blk.0.ffn_down_exps.weight"), down)
    file.close()


async def test_gpt2_matrices_are_shown_transposed(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    attention = generator.standard_normal((4, 12)).astype(np.float16)
    up = generator.standard_normal((4, 16)).astype(np.float32)
    data = safetensors_bytes(
        {
            "transformer.h.0.attn.c_attn.weight": ("F16", (4, 12), attention.tobytes()),
            "transformer.h.0.attn.bias": ("BOOL", (1, 1, 2, 2), bytes(4)),
            "h.0.mlp.c_fc.weight": ("F32", (4, 16), up.tobytes()),
            "transformer.wte.weight": ("F32", (2, 4), bytes(32)),
        }
    )
    config = {"model_type": "gpt2", "n_embd": 4, "n_layer": 1, "n_head": 1, "n_ctx": 8}
    config_bytes = json.dumps({**config, "vocab_size": 2}).encode()
    files = {"config.json": config_bytes, "model.safetensors": data}
    file = await open_model(write(tmp_path, files))
    assert file.integer("gpt2.feed_forward_length") == 16
    assert np.array_equal(await read_array(file, "blk.0.attn_qkv.weight"), attention.T)
    assert np.array_equal(await read_array(file, "blk.0.ffn_up.weight"), up.T)
    info = file.tensor("blk.0.ffn_up.weight")
    source = file.sources[info.source]
    whole = await source.read(info.offset, info.nbytes)
    for start, length in ((0, 5), (3, 17), (16, 16), (40, info.nbytes - 40)):
        assert await source.read(info.offset + start, length) == whole[start : start + length]
    file.close()


async def test_pieces_and_transposed_sources_refuse_reads_beyond_the_end() -> None:
    pieces, transposed = PiecesSource("pieces"), TransposedSource("transposed")
    transposed.append(MemorySource(bytes(8)), 0, 2, 2, 2)
    for source in (pieces, transposed):
        assert await source.read(0, 0) == b""
        with pytest.raises(SourceError):
            await source.read(source.size, 1)
