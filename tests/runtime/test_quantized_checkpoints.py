"""Quantised checkpoints: their numbers, what becomes of them, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor

from orcinus import LLM, SamplingParams
from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError, ModelError
from orcinus.plan import Plan, make_plan
from orcinus.runtime.attention import ATTENTION
from orcinus.runtime.checkpoint import load_model
from orcinus.runtime.grouped_weights import GroupedWeight
from orcinus.runtime.int8_weights import FULL, Int8Weight, largest_int8
from orcinus.runtime.models import Decoder
from orcinus.runtime.parallel.mesh import WHOLE, Mesh, MeshPlace
from orcinus.runtime.quant_methods.unpack import unpack
from tests import quantized_checkpoints as writers
from tests.checkpoints import BASE, random_model, save
from tests.product import part
from tests.quantized_checkpoints import Written, edit_settings, write

Made = Callable[[str], tuple[Any, Path]]
GREEDY = SamplingParams(max_tokens=8, temperature=0)
PROMPTS = [[1, 2, 3], [7] * 20, [5]]
INT8 = pytest.mark.skipif(largest_int8() != FULL, reason="this torch or processor has no exact products of 8-bit integers")
FLOATS: Mapping[str, Written] = {  # that are dequantised
    "fp8-blocks": writers.fp8(32),
    "gptq-act-order": writers.gptq(4, 16, act_order=True, symmetric=False),
    "awq": writers.awq(16),
    "compressed-4-bits": writers.compressed(4, group=16, symmetric=False),
    "compressed-3-bits": writers.compressed(3, symmetric=False),
    "compressed-8-bits-in-groups": writers.compressed(8, group=16, symmetric=False, packed=False),
    "compressed-fp8": writers.compressed_fp8(),
    "gptq-8-bits": writers.gptq(8, 16),
    "gptq-v2-3-bits": writers.gptq(3, 16, symmetric=False, version="gptq_v2"),
    "fp8-tensor": writers.fp8(None),
}
INTEGERS: Mapping[str, Written] = {  # that stay integers
    "w8a8": writers.compressed(8, packed=False),
    "w8a16": writers.compressed(8),
    "bitsandbytes": writers.bitsandbytes(),
}


GROUPS: Mapping[str, Written] = {  # that stay integers, if groups are multiples of 32
    "w4a16": writers.compressed(4, group=32, symmetric=False),
    "gptq": writers.gptq(4, 64),
    "awq": writers.awq(32),
    "w4a16-channels": writers.compressed(4),
    "w3a16": writers.compressed(3, group=32),
    "w8a16-groups": writers.compressed(8, group=32, packed=False),
    "gptq-8-bits": writers.gptq(8, 32, symmetric=False, version="gptq_v2"),
}
WIDE = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose sizes are multiples of 64."""
    return save(random_model(hf.LlamaConfig(**BASE | WIDE)), tmp_path_factory.mktemp("wide") / "model")


def planned(folder: Path, **options: Any) -> Plan:
    return make_plan(
        EngineConfig(model=folder, **{"dtype": "float32", "max_model_len": 48, "attention": "reference"} | options)
    )


def loaded(folder: Path, place: MeshPlace = WHOLE, **options: Any) -> Decoder:
    plan = planned(folder, **options)
    attend = ATTENTION["reference"]()
    return load_model(plan.model.checkpoint, plan.device, attend, quantization=plan.resolved.quantization, place=place)


def matrices(model: Decoder) -> dict[str, Tensor]:
    """What each layer multiplies by, by products with the rows of an identity matrix, which lose nothing in 8 bits."""
    return {name: linear.weight.multiply(torch.eye(linear.weight.shape[1]), None) for name, linear in model.linears().items()}


@pytest.mark.parametrize("count", [32, 45])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_words_hold_numbers_bit_after_bit(bits: int, count: int) -> None:
    numbers = torch.randint(2**bits, (3, count), generator=torch.Generator().manual_seed(bits))
    assert unpack(writers.pack(numbers, bits), bits)[:, :count].equal(numbers.to(torch.uint8))


@pytest.mark.parametrize("kind", part(*list(FLOATS)[:4], full=list(FLOATS)[4:]))
def test_dequantised_matrices_are_what_they_stand_for(checkpoint: Made, tmp_path: Path, kind: str) -> None:
    quantised, rounded = write(checkpoint("llama2")[1], tmp_path, FLOATS[kind])
    expected = matrices(loaded(rounded))
    for layer, found in matrices(loaded(quantised)).items():
        torch.testing.assert_close(found, expected[layer])


def test_a_dequantised_model_answers_as_what_it_stands_for(checkpoint: Made, tmp_path: Path) -> None:
    answers = []
    for folder in write(checkpoint("llama2")[1], tmp_path, FLOATS["gptq-act-order"]):
        with LLM(folder, dtype="float32", max_model_len=48, attention="reference") as llm:
            answers.append([output.token_ids for output in llm.generate(PROMPTS, GREEDY)])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", part("llama-biases-yarn", full=["glm", "phi3", "gpt-neox", "gpt2", "qwen2", "qwen3-moe"]))
def test_families_store_fused_reordered_and_transposed_matrices(checkpoint: Made, tmp_path: Path, name: str) -> None:
    quantised, rounded = write(checkpoint(name)[1], tmp_path, writers.gptq(4, 8))
    expected = matrices(loaded(rounded))
    for layer, found in matrices(loaded(quantised)).items():
        torch.testing.assert_close(found, expected[layer])


@INT8
@pytest.mark.parametrize("kind", part("w8a8", full=["w8a16", "bitsandbytes"]))
@pytest.mark.parametrize("name", part("llama-biases-yarn", full=["glm", "phi3"]))
def test_integers_are_multiplied_as_they_are_stored(checkpoint: Made, tmp_path: Path, name: str, kind: str) -> None:
    quantised, rounded = write(checkpoint(name)[1], tmp_path, INTEGERS[kind])
    model, expected = loaded(quantised), matrices(loaded(rounded))
    layers = {layer: linear.weight for layer, linear in model.linears().items() if layer != "head"}
    assert all(isinstance(weight, Int8Weight) for weight in layers.values())
    for layer, found in matrices(model).items():
        torch.testing.assert_close(found, expected[layer], rtol=1e-5, atol=1e-6)


def test_settings_have_an_older_name(wide: Path, tmp_path: Path) -> None:
    folder, _ = write(wide, tmp_path, GROUPS["w4a16"])
    config = json.loads((folder / "config.json").read_text())
    config["compression_config"] = config.pop("quantization_config")
    (folder / "config.json").write_text(json.dumps(config))
    assert planned(folder).model.checkpoint.quantized is not None


@pytest.mark.parametrize("kind", part("w4a16", "gptq", "awq", full=list(GROUPS)[3:]))
def test_groups_are_multiplied_as_they_are_stored(wide: Path, tmp_path: Path, kind: str) -> None:
    quantised, rounded = write(wide, tmp_path, GROUPS[kind])
    places = (WHOLE, Mesh(2, 1).at(1)) if kind != "gptq" else (WHOLE,)  # half of 192 inputs are three groups of 32
    for place in places:
        model, expected = loaded(quantised, place), matrices(loaded(rounded, place))
        assert all(isinstance(linear.weight, GroupedWeight) for name, linear in model.linears().items() if name != "head")
        for layer, found in matrices(model).items():
            torch.testing.assert_close(found, expected[layer], rtol=1e-5, atol=1e-6)
    plan, model = planned(quantised), loaded(quantised)
    own = sum(linear.num_bytes for linear in model.linears().values()) + sum(each.nbytes for each in model.parameters())
    assert plan.memory.weights == own
    assert plan.resolved.notes == ()


def test_ranks_that_would_cut_a_group_are_refused(wide: Path, tmp_path: Path) -> None:
    quantised, _ = write(wide, tmp_path, GROUPS["gptq"])
    with pytest.raises(ConfigError, match="groups of 64 inputs, and a rank's part would be inputs 0 to 96, which cuts one"):
        planned(quantised, tp=2)


def test_rounded_activations_move_scores_little(wide: Path, tmp_path: Path) -> None:
    scores = []
    for folder in write(wide, tmp_path, GROUPS["w4a16"]):
        with LLM(folder, dtype="float32", max_model_len=48, attention="reference") as llm:
            output = llm.generate([[5, 9, 2, 40, 7, 61, 33, 8]], SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1))
            scores.append([row.logprob for row in output[0].prompt_logprobs or () if row is not None])
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], abs=0.15)


def test_zero_points_that_nothing_announced_end_the_load(wide: Path, tmp_path: Path) -> None:
    folder, _ = write(wide, tmp_path, writers.gptq(4, 32, symmetric=False))
    edit_settings(folder, sym=True)
    with pytest.raises(ModelError, match="cannot be read: it has zero points, but the settings say that its numbers are symm"):
        loaded(folder)


@INT8
def test_quantised_routers_are_dequantised(checkpoint: Made, tmp_path: Path) -> None:
    quantised, rounded = write(checkpoint("qwen2-moe")[1], tmp_path, INTEGERS["w8a8"])
    model, expected = loaded(quantised), matrices(loaded(rounded))
    plain = [name for name, linear in model.linears().items() if not isinstance(linear.weight, Int8Weight)]
    assert {name.rpartition(".")[2] for name in plain} == {"head", "router", "shared_gate"}
    for layer, found in matrices(model).items():
        torch.testing.assert_close(found, expected[layer], rtol=1e-5, atol=1e-6)


@INT8
def test_a_layer_with_a_plain_part_is_plain(checkpoint: Made, tmp_path: Path) -> None:
    quantised, rounded = write(checkpoint("llama2")[1], tmp_path, INTEGERS["w8a8"], plain="1.self_attn.k_proj")
    model, expected = loaded(quantised), matrices(loaded(rounded))
    kept = [name for name, linear in model.linears().items() if isinstance(linear.weight, Int8Weight)]
    assert len(kept) == 11
    assert "layers.1.attention.qkv" not in kept
    for layer, found in matrices(model).items():
        torch.testing.assert_close(found, expected[layer], rtol=1e-5, atol=1e-6)
    (note,) = planned(quantised).resolved.notes
    assert "2 matrices (8 bits) are dequantized as they are loaded" in note


@INT8
@pytest.mark.parametrize(("kind", "tp"), [("w8a8", 2), ("awq", 3)])
def test_ranks_hold_their_parts(checkpoint: Made, tmp_path: Path, kind: str, tp: int) -> None:
    quantised, rounded = write(checkpoint("llama2")[1], tmp_path, {**INTEGERS, **FLOATS}[kind])
    for rank in range(tp):
        mine = Mesh(tp, 1).at(rank)
        expected = matrices(loaded(rounded, mine))
        for layer, found in matrices(loaded(quantised, mine)).items():
            torch.testing.assert_close(found, expected[layer], rtol=1e-5, atol=1e-6)


@INT8
@pytest.mark.parametrize("quantization", [None, "int8", "none"])
@pytest.mark.parametrize("kind", ["w8a8", "fp8-blocks"])
def test_a_plan_counts_the_bytes_of_what_is_loaded(
    checkpoint: Made, tmp_path: Path, kind: str, quantization: str | None
) -> None:
    quantised, rounded = write(checkpoint("llama2")[1], tmp_path, {**INTEGERS, **FLOATS}[kind])
    plan = planned(quantised, quantization=quantization)
    model = loaded(quantised, quantization=quantization)
    linears = [*model.linears().values()]
    own = sum(linear.num_bytes for linear in linears) + sum(parameter.nbytes for parameter in model.parameters())
    assert plan.memory.weights == own
    assert plan.resolved.num_parameters == planned(rounded).resolved.num_parameters
    assert plan.model.saved_bytes == sum(tensor.nbytes for name, tensor in load_file(quantised / "model.safetensors").items())
    if quantization == "none":
        assert not any(isinstance(linear.weight, Int8Weight | GroupedWeight) for linear in linears)
    built = build(plan.config)
    assert built.resolved.notes == plan.resolved.notes
    assert len(built.resolved.notes) == (kind == "fp8-blocks" and quantization is None)


def test_settings_without_effect_are_named(checkpoint: Made, tmp_path: Path) -> None:
    quantised, _ = write(checkpoint("llama2")[1], tmp_path, writers.compressed_fp8())
    edit_settings(quantised, kv_cache_scheme={"num_bits": 8, "type": "float"})
    edit_weights(quantised, {"model.layers.0.self_attn.k_scale": torch.ones(1), f"{LAYER}.input_scale": torch.ones(1)})
    notes = planned(quantised).resolved.notes
    assert [note.partition(": ")[2].split(" is ")[0].split(" are ")[0] for note in notes] == [
        "its fixed scales of activations",
        "its kv_cache_scheme",
        "21 matrices (8-bit floats)",
    ]


LAYER = "model.layers.1.self_attn.q_proj"


def edit_weights(folder: Path, changes: Mapping[str, Tensor | None]) -> None:
    """Replace tensors; None removes one."""
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 16, "strategy": "group"}}


@pytest.mark.parametrize(
    ("kind", "settings", "weights", "message"),
    [
        ("gptq", {"quant_method": "quip"}, {}, "quant_method 'quip' are not supported: known are compressed-tensors, gptq"),
        ("gptq", {"bits": 5}, {}, "bits 5 is not supported: known are 2, 3, 4, 8"),
        ("gptq", {"bits": True}, {}, "bits True is not supported"),
        ("gptq", {"group_size": 0}, {}, "group_size 0 is not supported"),
        ("gptq", {"group_size": 32}, {}, "groups of 32 do not divide 80 inputs"),
        ("gptq", {"checkpoint_format": "marlin"}, {}, "checkpoint_format 'marlin' is not supported"),
        ("gptq", {"dynamic": {"+:(": {"bits": 8}}}, {}, "is not a regular expression"),
        ("gptq", {}, {f"{LAYER}.scales": None}, f"{LAYER}.scales is missing"),
        ("gptq", {}, {f"{LAYER}.scales": torch.ones(2, 3)}, r"has shape \[2, 3\], and must have \[3, 48\]"),
        ("gptq", {}, {f"{LAYER}.qweight": torch.ones(6, 48)}, "qweight is F32, and must be I32"),
        ("gptq", {}, {f"{LAYER}.extra": torch.ones(1)}, f"does not have: {LAYER}.extra"),
        ("compressed", {"format": "nvfp4-pack-quantized"}, {}, "format 'nvfp4-pack-quantized' is not supported"),
        ("compressed", {"config_groups": {}}, {}, "config_groups is empty"),
        ("compressed", {"config_groups": {"a": GROUP | {"targets": ["re:.*mlp.*"]}}}, {}, "no target in config_groups"),
        ("compressed", {"transform_config": {"a": 1}}, {}, "transform_config is not supported"),
        ("awq", {"version": "gemv"}, {}, "version 'gemv' is not supported: known are gemm"),
        ("fp8", {"weight_block_size": [128]}, {}, "weight_block_size must be two sizes"),
        ("fp8", {"weight_block_size": [16, 16]}, {}, r"must have \[3, 5\] for a matrix \[48, 80\]"),
        ("fp8", {}, {f"{LAYER}.weight_scale_inv": None}, "weight_scale_inv is missing"),
        ("bitsandbytes", {"load_in_8bit": False, "load_in_4bit": True}, {}, "4-bit weights of bitsandbytes"),
    ],
)
def test_what_cannot_be_read_is_refused_by_the_plan(
    checkpoint: Made, tmp_path: Path, kind: str, settings: Any, weights: Any, message: str
) -> None:
    rows = {"gptq": writers.gptq(4, 16), "compressed": writers.compressed(4, group=16), "awq": writers.awq(16)}
    rows |= {"fp8": writers.fp8(32), "bitsandbytes": writers.bitsandbytes()}
    folder, _ = write(checkpoint("llama2")[1], tmp_path, rows[kind])
    edit_settings(folder, **settings)
    edit_weights(folder, weights)
    with pytest.raises(ModelError, match=message) as caught:
        planned(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({f"{LAYER}.g_idx": torch.full((48,), 3, dtype=torch.int32)}, "g_idx names groups from 3 to 3, and there are 3"),
        ({f"{LAYER}.g_idx": torch.arange(48, dtype=torch.int32) % 3}, "config.json says desc_act false"),
        ({f"{LAYER}.bias": torch.ones(48)}, f"holds {LAYER}.bias, which the model does not have"),
    ],
)
def test_wrong_numbers_end_the_load(checkpoint: Made, tmp_path: Path, weights: Any, message: str) -> None:
    folder, _ = write(checkpoint("llama2")[1], tmp_path, writers.gptq(4, 16))
    edit_weights(folder, weights)
    with pytest.raises(ModelError, match=message):
        loaded(folder)


def test_made_up_weights_are_plain(checkpoint: Made, tmp_path: Path) -> None:
    folder, _ = write(checkpoint("llama2")[1], tmp_path, writers.fp8(32))
    with pytest.raises(ModelError, match="load_format dummy makes up plain weights only"):
        planned(folder, load_format="dummy")
