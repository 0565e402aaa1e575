"""Formats of linear weights, and how ranks may share them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from orcinus import SamplingParams
from orcinus.errors import ConfigError
from orcinus.runtime.checkpoint import open_checkpoint, outline
from orcinus.runtime.linear_weight import LayerFormats, LinearWeight, Split, SplitKind, SplitPart
from orcinus.runtime.models import Decoder, Factory, Linear, PlainWeight
from orcinus.runtime.onednn_weights import OneDNNWeight, can_prepack
from orcinus.runtime.panel_weights import PanelWeight, can_use_panels
from orcinus.runtime.stored_int8 import Int8Format
from tests.checkpoints import CONFIGS

Made = Callable[[str], tuple[Any, Path]]
GREEDY = SamplingParams(max_tokens=8, temperature=0)
PROMPTS = [[1, 2, 3], [7] * 20, [5]]
QKV = Split(SplitKind.COLUMN, (SplitPart(24, 6, groups=2), SplitPart(8, 2, shared=True), SplitPart(8, 2, shared=True)))


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


def test_a_factory_makes_linears_in_the_checkpoints_formats() -> None:
    formats = LayerFormats((("layers.0.attention.qkv", Int8Format()),))
    make = Factory(torch.device("meta"), torch.bfloat16, formats=formats)
    linear: Linear = make.within("layers.0").within("attention").linear("qkv", 16, 40, QKV, bias=True)
    assert {name: tensor.dtype for name, tensor in linear.tensors().items()} == {
        "weight": torch.int8,
        "scale": torch.float32,
        "bias": torch.bfloat16,
    }
    assert linear.part("scale", 1).shape == (8,)
    assert linear.part("bias", 2).shape == (8,)
    assert isinstance(make.within("layers.1").linear("qkv", 16, 40, QKV, bias=True).weight, PlainWeight)
