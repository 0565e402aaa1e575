"""Matrices of GGUF files that stay integers: the numbers of ggml, in the decoder's order, whole and over ranks."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from orcinus import LLM, SamplingParams
from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.gguf_file import TYPES
from orcinus.plan import make_plan
from orcinus.runtime.attention import ATTENTION
from orcinus.runtime.checkpoint import load_model, open_checkpoint, with_quantized
from orcinus.runtime.device import Device
from orcinus.runtime.gguf_levels import KEPT_TYPES, ROUNDED, rounded_to_8_bits
from orcinus.runtime.grouped_weights import GroupedWeight
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart
from orcinus.runtime.models import Decoder, Linear
from orcinus.runtime.parallel.mesh import WHOLE, Mesh, MeshPlace
from orcinus.runtime.stored_gguf import GgufFormat, JoinedWeight
from orcinus.runtime.weight_files import read_headers
from tests.checkpoints import save
from tests.gguf_files import write_gguf
from tests.runtime.grouped import matrix_of

CPU = Device(torch.device("cpu"), torch.float32, "a test")
PROMPT = [[5, 9, 2, 40, 7, 61, 33, 8]]
SCORED = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1)


def blocks(kind: str, rows: int, columns: int) -> Any:
    """Random blocks `[rows, bytes]` whose scales are small halves."""
    type_ = KEPT_TYPES[kind]
    made = np.random.default_rng(0).integers(0, 256, (rows, columns // type_.numbers, type_.bytes), dtype=np.uint8)
    for start in {
        "Q4_1": (0, 2),
        "Q5_1": (0, 2),
        "Q4_K": (0, 2),
        "Q5_K": (0, 2),
        "Q6_K": (208,),
        "Q2_K": (80, 82),
        "Q3_K": (108,),
    }.get(kind, (0,)):
        made[:, :, start : start + 2] = np.frombuffer(np.float16(0.0123).tobytes(), np.uint8)
    return made.reshape(rows, -1)


def numbers_of(stored: Any, kind: str) -> torch.Tensor:
    return torch.from_numpy(gguf.dequantize(stored, gguf.GGMLQuantizationType[kind]))


@pytest.mark.parametrize("kind", [*KEPT_TYPES])
def test_levels_stand_for_ggmls_numbers(kind: str) -> None:
    type_, stored = KEPT_TYPES[kind], blocks(kind, 6, 512)
    assert (type_.numbers, type_.bytes) == next(each[1:] for each in TYPES.values() if each.name == kind)
    levels, scales, offsets = type_.levels(torch.from_numpy(stored))
    weight = GroupedWeight.from_levels(levels, scales, offsets, Split.columns(6), group=32, bits=type_.grid.bits)
    assert weight.grid == type_.grid
    found, expected = matrix_of(weight), numbers_of(stored, kind)
    most = {"Q4_K": 4e-4, "Q5_K": 4e-4, "IQ4_XS": 4e-4, **dict.fromkeys(ROUNDED, 5e-3)}.get(
        kind, 0.0
    )  # scales in float16; 8 bits for groups of 32
    assert (found - expected).abs().max() <= most * expected.abs().max()


@pytest.mark.parametrize(("kind", "most"), [("Q4_K", 8e-4), ("Q5_K", 8e-4), ("Q6_K", 5e-3)])
def test_blocks_of_llama_cpps_own_quantiser(kind: str, most: float) -> None:
    """Two rows of normal numbers, quantised and dequantised by its C code, whose scales are not made up."""
    with np.load(Path(__file__).parents[1] / "golden" / "ggml_k_types.npz") as golden:
        stored, expected = golden[kind], torch.from_numpy(golden[f"{kind}_numbers"])
    assert torch.equal(numbers_of(stored, kind), expected), "the library's Python gives the same bits"
    levels, scales, offsets = KEPT_TYPES[kind].levels(torch.from_numpy(stored))
    weight = GroupedWeight.from_levels(levels, scales, offsets, Split.columns(2), group=32, bits=KEPT_TYPES[kind].grid.bits)
    difference = (matrix_of(weight) - expected).abs()
    assert 0 < difference.max() <= most * expected.abs().max()


def test_numbers_of_q8_0_are_rounded_to_themselves() -> None:
    stored = gguf.quantize(np.random.default_rng(0).normal(size=(4, 96)).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    again, kept = rounded_to_8_bits(numbers_of(stored, "Q8_0")), KEPT_TYPES["Q8_0"].levels(torch.from_numpy(stored))
    assert torch.equal(again[0], kept[0])
    assert torch.equal(again[1], kept[1])


@pytest.mark.full
def test_parts_of_several_types_lie_side_by_side() -> None:
    parts = {"Q4_0": 32, "Q8_0": 16, "Q5_0": 16}  # the last two are on one grid
    split = Split(SplitKind.COLUMN, tuple(SplitPart(size, size) for size in parts.values()))
    empty = GgufFormat(tuple(parts)).make((64, 256), split, torch.float32, torch.device("cpu"))
    expected = []
    for number, (kind, size) in enumerate(parts.items()):
        stored = blocks(kind, size, 256)
        empty.part("weight", number).copy_(torch.from_numpy(stored))
        expected.append(numbers_of(stored, kind))
    weight = empty.process_after_loading()
    assert isinstance(weight, JoinedWeight)
    assert [each.shape[0] for each in weight.weights] == [32, 32]
    assert weight.num_bytes == empty.num_bytes
    assert torch.equal(torch.cat([matrix_of(each) for each in weight.weights]), torch.cat(expected))
    x, bias = torch.randn(3, 256), torch.randn(64)
    torch.testing.assert_close(weight.multiply(x, bias), x @ torch.cat(expected).t() + bias, rtol=0.02, atol=0.5)


@pytest.mark.parametrize("kind", [*KEPT_TYPES])
def test_rows_of_a_packed_weight_are_its_matrix(kind: str) -> None:
    type_ = KEPT_TYPES[kind]
    levels, scales, offsets = type_.levels(torch.from_numpy(blocks(kind, 40, 512)))
    weight = GroupedWeight.from_levels(levels, scales, offsets, Split.columns(40), group=32, bits=type_.grid.bits)
    ids = torch.tensor([0, 39, 17, 17, 15, 16])
    assert torch.equal(weight.rows(ids), matrix_of(weight)[ids])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, whose queries and keys lie in another order and whose head is its embedding, in Q8_0."""
    return written(tmp_path_factory.mktemp("kept"), tied=True, inner=96)


def written(folder: Path, *, tied: bool, inner: int = 128) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=inner, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tied,
    )  # fmt: skip
    folder = save(LlamaForCausalLM(config), folder / "llama")
    return write_gguf(folder, folder / "model.gguf", "Q8_0")


def loaded(file: Path, *, keeps: bool, place: MeshPlace = WHOLE) -> Decoder:
    checkpoint = with_quantized(open_checkpoint(file), read_headers(file), "cpu", keeps=keeps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orcinus.runtime.models.linear.packed_format", lambda device, dtype: None)
        return load_model(checkpoint, CPU, ATTENTION["reference"](), place=place)


def matrices(file: Path, *, keeps: bool, place: MeshPlace = WHOLE) -> dict[str, torch.Tensor]:
    """The matrices of a model's layers, as they are served."""
    model = loaded(file, keeps=keeps, place=place)
    found = {name: linear.weight for name, linear in model.linears().items()}
    assert all(isinstance(weight, GroupedWeight) is keeps for weight in found.values())
    return {
        name: matrix_of(weight) if isinstance(weight, GroupedWeight) else weight.tensors()["weight"]
        for name, weight in found.items()
    }


@pytest.mark.parametrize("place", [WHOLE, MeshPlace(Mesh(2, 1), 0, 1), MeshPlace(Mesh(1, 2), 1, 0)], ids=["whole", "tp", "pp"])
def test_a_model_keeps_the_numbers_that_it_would_dequantise(file: Path, place: MeshPlace) -> None:
    if place.mesh.tp == 2:  # 96 columns are not two times whole blocks
        with pytest.raises(ConfigError, match="keeps blocks of 32 inputs, and a rank's part would begin at input 48, inside"):
            make_plan(EngineConfig(model=file, tp=2))
        make_plan(EngineConfig(model=file, tp=2, quantization="none"))
        return
    kept, plain = (matrices(file, keeps=keeps, place=place) for keeps in (True, False))
    assert kept.keys() == plain.keys()
    for name, matrix in kept.items():
        assert torch.equal(matrix, plain[name]), name


def test_kept_integers_are_the_default(file: Path) -> None:
    scores = []
    for quantization in (None, "none"):
        with LLM(file, dtype="float32", attention="reference", max_model_len=32, quantization=quantization) as llm:
            output = llm.generate(PROMPT, SCORED)[0]
            scores.append([row.logprob for row in output.prompt_logprobs or () if row is not None])
    assert scores[0] != scores[1], "activations are rounded to 8 bits"
    assert scores[0] == pytest.approx(scores[1], abs=0.02)


@pytest.mark.parametrize("tied", [True, False])
def test_a_plan_counts_what_is_served(tmp_path: Path, tied: bool) -> None:
    file = written(tmp_path, tied=tied)
    built = build(EngineConfig(model=file, dtype="float32", attention="reference", max_model_len=32))
    model = built.engine.executor.model  # type: ignore[attr-defined]
    weights = [module.weight for module in model.modules() if isinstance(module, Linear)]
    assert all(isinstance(weight, GroupedWeight) for weight in weights), "the head, too"
    rest = sum(each.nbytes for each in model.parameters())
    assert built.plan.memory.weights == rest + sum(weight.packed.nbytes for weight in weights)
    assert built.plan.resolved.num_parameters == sum(prod(each.shape) for each in read_headers(file).values())
    assert model.embed.weight.nbytes == (0 if tied else 96 * 64 // 32 * 34), "one copy, or the file's blocks"


@pytest.mark.parametrize("place", [WHOLE, MeshPlace(Mesh(2, 1), 0, 1), MeshPlace(Mesh(1, 2), 0, 0)], ids=["whole", "tp", "pp"])
@pytest.mark.parametrize("tied", [True, False])
def test_looked_up_rows_are_ggmls(tmp_path: Path, place: MeshPlace, tied: bool) -> None:
    """Of another rank's tokens they are zeros."""
    file = written(tmp_path, tied=tied)
    model = loaded(file, keeps=True, place=place)
    expected, ids = loaded(file, keeps=False).embed, torch.arange(96)
    assert expected is not None
    assert model.embed is not None
    mine = (ids >= model.embed.rows.start) & (ids < model.embed.rows.stop)
    assert torch.equal(model.embed(ids), expected(ids) * mine[:, None])


def test_the_last_stage_has_a_copy_of_a_tied_head(file: Path) -> None:
    head = loaded(file, keeps=True, place=MeshPlace(Mesh(1, 2), 1, 0)).head
    whole = loaded(file, keeps=True).head
    assert head is not None
    assert whole is not None
    assert torch.equal(matrix_of(head.weight), matrix_of(whole.weight))  # type: ignore[arg-type]


def test_other_formats_round_the_numbers_again(file: Path) -> None:
    plan = make_plan(EngineConfig(model=file, quantization="int4"))
    assert plan.model.checkpoint.quantized is None
    assert plan.resolved.quantization == "int4"
