"""Formats of linear weights: how ranks may share them, and one more format that a checkpoint brings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from orcinus import LLM, SamplingParams
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError, ModelError
from orcinus.plan import make_plan
from orcinus.runtime.checkpoint import open_checkpoint, outline
from orcinus.runtime.linear_weight import LinearWeight, MakeLinearWeight, Split, SplitKind, SplitPart
from orcinus.runtime.models import LINEAR_WEIGHTS, Decoder, Factory, Linear, PlainWeight
from orcinus.runtime.onednn_weights import OneDNNWeight, can_prepack
from orcinus.runtime.panel_weights import PanelWeight, can_use_panels
from tests.checkpoints import CONFIGS

Made = Callable[[str], tuple[Any, Path]]
GREEDY = SamplingParams(max_tokens=8, temperature=0)
PROMPTS = [[1, 2, 3], [7] * 20, [5]]
QKV = Split(SplitKind.COLUMN, (SplitPart(24, 6, groups=2), SplitPart(8, 2, shared=True), SplitPart(8, 2, shared=True)))


@dataclass(frozen=True)
class RowScaled:
    """8-bit integers, and a scale for each output: a format that only this test knows."""

    weight: Tensor
    scale: Tensor
    split: Split

    @classmethod
    def format(cls, settings: Mapping[str, Any]) -> MakeLinearWeight:
        assert settings["bits"] == 8

        def make(shape: tuple[int, int], split: Split, dtype: torch.dtype, device: torch.device) -> RowScaled:
            weight = torch.empty(shape, dtype=torch.int8, device=device)
            return cls(weight, torch.empty(shape[0], dtype=torch.float32, device=device), split)

        return make

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return torch.int8

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes + self.scale.nbytes

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "scale": self.scale}

    def split_dim(self, name: str) -> int | None:
        return None if name == "scale" and self.split.dim else self.split.dim

    def part(self, name: str, part: int | None) -> Tensor:
        tensor = self.tensors()[name]
        return tensor if self.split.dim else tensor[self.split.span(part)]

    def process_after_loading(self) -> LinearWeight:
        return self

    def multiply(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, (self.weight * self.scale[:, None]).to(x.dtype), bias)


@pytest.fixture
def row_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LINEAR_WEIGHTS, "row-scaled", RowScaled.format)


def quantised(folder: Path, to: Path, settings: dict[str, Any]) -> tuple[Path, Path]:
    """Two copies of a checkpoint: with the weights of its layers as integers and scales, and with what those stand for."""
    exact, rounded = (Path(shutil.copytree(folder, to / name)) for name in ("quantised", "rounded"))
    stored, meant = {}, {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "layers." in name and name.endswith("proj.weight"):
            scale = tensor.abs().amax(dim=1) / 127
            stored[name] = (tensor / scale[:, None]).round().to(torch.int8)
            stored[name.removesuffix("weight") + "scale"] = scale
            meant[name] = stored[name] * scale[:, None]
        else:
            stored[name] = meant[name] = tensor
    save_file(stored, exact / "model.safetensors")
    save_file(meant, rounded / "model.safetensors")
    config = json.loads((exact / "config.json").read_text())
    (exact / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    return exact, rounded


SETTINGS = {"quant_method": "row-scaled", "bits": 8}


@pytest.mark.parametrize("name", ["qwen3", "llama-biases-yarn"])
@pytest.mark.usefixtures("row_scaled")
def test_a_checkpoint_may_bring_a_format_of_its_own(checkpoint: Made, tmp_path: Path, name: str) -> None:
    folder, rounded = quantised(checkpoint(name)[1], tmp_path, SETTINGS)
    answers = []
    for each in (folder, rounded):
        with LLM(each, dtype="float32", max_model_len=48, attention="reference") as llm:
            answers.append([output.token_ids for output in llm.generate(PROMPTS, GREEDY)])
    assert answers[0] == answers[1]


@pytest.mark.usefixtures("row_scaled")
def test_a_plan_counts_the_bytes_of_the_format(checkpoint: Made, tmp_path: Path) -> None:
    folder, rounded = quantised(checkpoint("llama2")[1], tmp_path, SETTINGS)
    ours, plain = (make_plan(EngineConfig(model=each, dtype="float32")) for each in (folder, rounded))
    assert ours.resolved.num_parameters == plain.resolved.num_parameters
    linears = outline(plain.model.checkpoint.spec).linears()
    outputs = sum(linear.weight.shape[0] for name, linear in linears.items() if name != "head")
    weights = sum(linear.num_parameters for name, linear in linears.items() if name != "head")
    assert ours.memory.weights == ours.model.saved_bytes == plain.memory.weights - 3 * weights + 4 * outputs


@pytest.mark.usefixtures("row_scaled")
def test_tensors_of_a_format_are_missed_and_misshapen_like_others(checkpoint: Made, tmp_path: Path) -> None:
    folder, _ = quantised(checkpoint("qwen3")[1], tmp_path, SETTINGS)
    file, name = folder / "model.safetensors", "model.layers.1.self_attn.k_proj"
    tensors = load_file(file)
    for damaged, message in (
        ({f"{name}.scale": torch.ones(3)}, f"{name}.scale .* has shape"),
        ({f"{name}.weight": tensors[f"{name}.weight"].float()}, f"{name}.weight .* is F32"),
        ({f"{name}.zero_point": torch.ones(3)}, f"does not have: {name}.zero_point"),
    ):
        save_file(tensors | damaged, file)
        with pytest.raises(ModelError, match=message):
            make_plan(EngineConfig(model=folder))
    save_file({key: tensor for key, tensor in tensors.items() if key != f"{name}.scale"}, file)
    with pytest.raises(ModelError, match=f"missing in .*: {name}.scale"):
        make_plan(EngineConfig(model=folder))


@pytest.mark.usefixtures("row_scaled")
def test_made_up_weights_are_plain(checkpoint: Made, tmp_path: Path) -> None:
    folder, _ = quantised(checkpoint("qwen3")[1], tmp_path, SETTINGS)
    with pytest.raises(ModelError, match="load_format dummy makes up plain weights only"):
        LLM(folder, load_format="dummy")


@pytest.mark.usefixtures("row_scaled")
def test_a_format_of_its_own_is_not_quantised_again(checkpoint: Made, tmp_path: Path) -> None:
    folder, _ = quantised(checkpoint("qwen3")[1], tmp_path, SETTINGS)
    with pytest.raises(ConfigError, match="quantization int8 is for plain weights, and .* is quantized: leave it out"):
        make_plan(EngineConfig(model=folder, quantization="int8"))


@pytest.mark.parametrize("method", ["gptq", None, 5, ["row-scaled"]])
@pytest.mark.usefixtures("row_scaled")
def test_unknown_formats_are_refused(checkpoint: Made, tmp_path: Path, method: Any) -> None:
    folder, _ = quantised(checkpoint("qwen3")[1], tmp_path, {"quant_method": method, "bits": 8})
    with pytest.raises(ModelError, match="quantized checkpoints are not supported"):
        make_plan(EngineConfig(model=folder))


def formats() -> list[Callable[[Tensor, Split], LinearWeight]]:
    """The formats of the product, from a matrix."""
    makers: list[Callable[[Tensor, Split], LinearWeight]] = [PlainWeight]
    if can_prepack("cpu", torch.float32):
        makers.append(lambda matrix, split: OneDNNWeight.pack(PlainWeight(matrix, split)))
    if can_use_panels("cpu", torch.float32):
        makers.append(lambda matrix, split: PanelWeight.pack(PlainWeight(matrix, split)))
    return makers


@pytest.mark.parametrize("make", formats())
def test_a_format_says_what_it_is_and_multiplies(make: Callable[[Tensor, Split], LinearWeight]) -> None:
    torch.manual_seed(0)
    matrix, bias, x = torch.randn(40, 16), torch.randn(40), torch.randn(5, 16)
    weight = make(matrix, QKV)
    assert (weight.shape, weight.dtype, weight.num_bytes, weight.split) == ((40, 16), torch.float32, 40 * 16 * 4, QKV)
    torch.testing.assert_close(weight.multiply(x, bias), F.linear(x, matrix, bias))
    torch.testing.assert_close(weight.process_after_loading().multiply(x, None), F.linear(x, matrix))


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_columns_of_ranks_are_the_whole_product(ranks: int) -> None:
    torch.manual_seed(0)
    matrix, x = torch.randn(24, 16), torch.randn(5, 16)
    split = Split(SplitKind.COLUMN, (SplitPart(24, 6),))
    shards = [matrix[split.shards(rank, ranks)[0]] for rank in range(ranks)]
    assert len({len(shard) for shard in shards}) == 1
    torch.testing.assert_close(torch.cat([F.linear(x, shard) for shard in shards], dim=1), F.linear(x, matrix))


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_rows_of_ranks_add_up_to_the_whole_product(ranks: int) -> None:
    torch.manual_seed(0)
    matrix, x = torch.randn(16, 24), torch.randn(5, 24)
    split = Split(SplitKind.ROW, (SplitPart(24, 6),))
    spans = [split.shards(rank, ranks)[0] for rank in range(ranks)]
    torch.testing.assert_close(sum(F.linear(x[:, span], matrix[:, span]) for span in spans), F.linear(x, matrix))


def test_key_and_value_heads_are_shared_where_they_are_fewer_than_ranks() -> None:
    held = [QKV.shards(rank, 6) for rank in range(6)]
    assert [query for query, _, _ in held] == [slice(4 * rank, 4 * rank + 4) for rank in range(6)]
    assert [key for _, key, _ in held] == [slice(0, 4)] * 3 + [slice(4, 8)] * 3
    held = [QKV.shards(rank, 4) for rank in range(4)]
    assert [query for query, _, _ in held] == [slice(0, 8), slice(8, 12), slice(12, 20), slice(20, 24)]
    assert [key for _, key, _ in held] == [slice(0, 4)] * 2 + [slice(4, 8)] * 2
    with pytest.raises(ConfigError, match="6 units of 4 cannot be divided over 7 ranks: use at most 6"):
        QKV.shards(0, 7)


def test_query_heads_go_with_their_key_and_value_heads() -> None:
    split = Split(SplitKind.COLUMN, (SplitPart(24, 6, groups=3), SplitPart(12, 3, shared=True)))
    assert [split.shards(rank, 2) for rank in range(2)] == [(slice(0, 16), slice(0, 8)), (slice(16, 24), slice(8, 12))]
    assert [part.units for part in split.of_rank(0, 2).parts] == [4, 2]


def test_a_vocabulary_may_be_split_unevenly() -> None:
    split = Split(SplitKind.VOCABULARY, (SplitPart(97, 97),))
    spans = [split.shards(rank, 4)[0] for rank in range(4)]
    assert [row for span in spans for row in range(97)[span]] == list(range(97))
    assert {span.stop - span.start for span in spans} == {24, 25}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_linear_layer_says_how_it_may_be_split(checkpoint: Made, name: str) -> None:
    """The parts cover the divided dimension, and a unit of the attention's weights is a head."""
    spec = open_checkpoint(checkpoint(name)[1]).spec
    model: Decoder = outline(spec)
    linears = model.linears()
    assert set(linears) >= {f"layers.0.{each}" for each in ("attention.qkv", "attention.out", "mlp.up", "mlp.down")}
    assert model.head is not None
    for linear in [*linears.values(), model.head]:
        split = linear.weight.split
        assert sum(part.size for part in split.parts) == linear.weight.shape[split.dim]
    for each in ("layers.0.attention.qkv", "layers.0.attention.out"):
        assert {part.size // part.units for part in linears[each].weight.split.parts} == {spec.head_dim}
    assert model.head.weight.split.kind is SplitKind.VOCABULARY


def test_a_factory_makes_linears_of_one_format_among_parameters_of_another_dtype() -> None:
    make = Factory(torch.device("meta"), torch.bfloat16, linear_weight=RowScaled.format({"bits": 8}))
    linear: Linear = make.linear(16, 40, QKV, bias=True)
    assert {name: tensor.dtype for name, tensor in linear.tensors().items()} == {
        "weight": torch.int8,
        "scale": torch.float32,
        "bias": torch.bfloat16,
    }
    assert linear.part("scale", 1).shape == (8,)
    assert linear.part("bias", 2).shape == (8,)
