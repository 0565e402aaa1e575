"""A decoder's layers in one call: the same bits as operator by operator."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from torch import Tensor

from orcinus.runtime.attention import CpuAttention, ReferenceAttention
from orcinus.runtime.checkpoint import load_model, open_checkpoint
from orcinus.runtime.cpu_kernels.elements import MANY
from orcinus.runtime.cpu_kernels.operators import CpuOperators
from orcinus.runtime.device import Device
from orcinus.runtime.grouped_weights import GroupedWeight
from orcinus.runtime.kv_cache import LayerKV, allocate
from orcinus.runtime.models import Decoder
from orcinus.runtime.models.layer import Layer
from orcinus.runtime.models.mlp import MLP
from orcinus.runtime.operators import PLAIN
from orcinus.runtime.pack import PackedBatch, pack
from orcinus.runtime.panel_weights import can_use_panels
from tests.product import part
from tests.seam import Part, batch_of

Made = Callable[[str], tuple[Any, Path]]
Request = int | tuple[int, int]
CPU, BLOCK = torch.device("cpu"), 8
pytestmark = pytest.mark.skipif(not can_use_panels("cpu", torch.float32), reason="this processor has no vectors for panels")


def loaded(
    folder: Path, dtype: torch.dtype, attention: Any = CpuAttention, operators: Any = CpuOperators, **options: Any
) -> Decoder:
    return load_model(open_checkpoint(folder), Device(CPU, dtype, "asked for"), attention(), operators(), **options)


def packed(requests: list[Request]) -> tuple[tuple[PackedBatch, ...], int]:
    """A decode at the end of a sequence of so many tokens, or a chunk of so many after so many; and the number of blocks."""
    firsts, parts = 0, []
    for number, request in enumerate(requests):
        start, count = (request - 1, 1) if isinstance(request, int) else request
        blocks, tokens = -(-(start + count) // BLOCK), tuple((number + at) % 97 for at in range(count))
        parts.append(Part(f"r{number}", tokens, start, tuple(range(firsts, firsts + blocks))))
        firsts += blocks
    return pack(*batch_of(parts), BLOCK), firsts


def memory(model: Decoder, blocks: int, dtype: torch.dtype, kind: str) -> tuple[LayerKV, ...]:
    """Random keys and values, the same for every call."""
    torch.manual_seed(0)
    layer = model.heads
    kv = allocate(model.spec.num_layers, blocks, layer.num_kv_heads, BLOCK, layer.head_dim, dtype, CPU, kind)
    for each in kv:
        for tensor in (each.keys, each.values):
            tensor.random_(100, 156) if tensor.dtype is torch.uint8 else tensor.normal_()
        if each.scales is not None:
            each.scales.keys.uniform_(0.01, 0.02)
            each.scales.values.uniform_(0.01, 0.02)
    return kv


def hidden(
    model: Decoder, requests: list[Request], dtype: torch.dtype, kind: str, rows: Tensor | None = None
) -> tuple[Tensor, tuple[LayerKV, ...]]:
    batches, blocks = packed(requests)
    kv = memory(model, blocks, dtype, kind)
    with torch.inference_mode():
        return model(batches, kv, rows=rows), kv


@pytest.mark.parametrize(
    ("name", "dtype", "kind", "requests"),
    part(
        ("qwen3", torch.float32, "auto", [1, 17, 30, 8]),
        ("qwen3", torch.float32, "auto", [17, (0, 30), (5, 2)]),
        ("gemma3", torch.bfloat16, "auto", [40, 3, 12]),
        ("gpt2", torch.bfloat16, "auto", [40, 3, 12]),
        ("cohere2", torch.float32, "auto", [33, 2]),
        full=[
            ("qwen3", torch.float32, "auto", [1 + at % 9 for at in range(MANY // 48 + 1)]),  # work for all threads
            ("gemma2", torch.bfloat16, "auto", [5] * (MANY // 48 + 1)),
            ("gemma2", torch.bfloat16, "auto", [5, (0, MANY // 48), (20, 40)]),
            ("granite", torch.float32, "auto", [(3, 70)]),
            ("cohere2", torch.bfloat16, "int8", [33, (0, 100), (7, MANY // 48)]),
            ("phi2", torch.float32, "auto", [33, (0, 100), (7, MANY // 48)]),
            ("mistral-sliding-window", torch.bfloat16, "auto", [(0, 200), 9, (64, 60)]),
            ("qwen3", torch.bfloat16, "int8", [40, 3, 12]),
            ("llama-biases-yarn", torch.float32, "auto", [1, 9]),
            ("mistral-sliding-window", torch.float32, "int8", [40, 3, 12]),
            ("smollm3-some-layers-without-rope", torch.bfloat16, "auto", [33, 2]),
            ("phi3-longrope-partial", torch.bfloat16, "auto", [33, 2]),
            ("granite", torch.bfloat16, "auto", [33, 2]),
            ("glm4", torch.float32, "auto", [33, 2]),
            ("ministral", torch.float32, "auto", [33]),
            ("gpt2", torch.float32, "int8", [1 + at % 9 for at in range(MANY // 48 + 1)]),
            ("phi2", torch.bfloat16, "auto", [33, 2] * (MANY // 96 + 1)),
            ("stablelm", torch.float32, "auto", [33, 2]),
            ("stablelm-parallel", torch.bfloat16, "auto", [33, 2]),
            ("gpt-neox", torch.float32, "auto", [33, 2]),
            ("gpt-neox-one-after-the-other", torch.bfloat16, "auto", [33, 2]),
            ("starcoder2", torch.bfloat16, "auto", [33, 2]),
            ("nemotron", torch.bfloat16, "auto", [33, 2]),
            ("arcee", torch.float32, "auto", [33, 2]),
            ("opt", torch.bfloat16, "auto", [33, 2]),
            ("falcon-7b", torch.bfloat16, "auto", [33, 2]),
            ("falcon-11b", torch.float32, "auto", [33, 2]),
            ("falcon-one-after-the-other", torch.float32, "auto", [33, 2]),
        ],
    ),
)
def test_the_bits_are_those_of_the_operators(
    checkpoint: Made, name: str, dtype: torch.dtype, kind: str, requests: list[Request]
) -> None:
    _check_bits(loaded(checkpoint(name)[1], dtype), requests, dtype, kind)


@pytest.mark.parametrize(
    ("name", "dtype", "requests"),
    part(
        ("qwen3", torch.float32, [1, 17, 30]),
        full=[
            ("llama-biases-yarn", torch.bfloat16, [9]),
            ("llama-biases-yarn", torch.bfloat16, [9, (0, 100)]),
            ("qwen3", torch.float32, [1 + at % 9 for at in range(MANY // 48 + 1)]),
        ],
    ),
)
def test_the_bits_of_4_bit_weights(checkpoint: Made, name: str, dtype: torch.dtype, requests: list[Request]) -> None:
    _check_bits(loaded(checkpoint(name)[1], dtype, quantization="int4"), requests, dtype, "auto")


@pytest.mark.full
def test_the_bits_of_weights_on_several_grids(checkpoint: Made) -> None:
    """As in a file whose matrices have different formats: one layer has 8 bits, groups of two blocks, offsets."""
    model = loaded(checkpoint("qwen3")[1], torch.float32)
    random, layer = torch.Generator().manual_seed(0), next(iter(model.layers.values()))
    assert isinstance(layer, Layer)
    assert isinstance(layer.mlp, MLP)
    for linear, bits, group, scales in (
        (layer.attention.qkv, 8, 32, torch.float16),
        (layer.attention.out, 4, 64, torch.float32),
        (layer.mlp.down, 8, 32, torch.bfloat16),
    ):
        outputs, inputs = linear.weight.shape
        levels = torch.randint(0, 1 << bits, (outputs, inputs), dtype=torch.uint8, generator=random)
        numbers = torch.rand(2, outputs, -(-inputs // group), generator=random).to(scales) / 1000
        offsets = None if bits == 8 else -numbers[1] * 8
        split = linear.weight.split
        linear.weight = GroupedWeight.from_levels(levels, numbers[0], offsets, split, group=group, bits=bits)
    model.process_after_loading()
    _check_bits(model, [1, 17, 30], torch.float32, "auto")


def _check_bits(model: Decoder, requests: list[Request], dtype: torch.dtype, kind: str) -> None:
    assert model.fused_layers is not None
    fused, fused_kv = hidden(model, requests, dtype, kind)
    assert model.fused_layers.ticks.all(), "it ran, and every stage took time"
    model.fused_layers = None
    expected, kv = hidden(model, requests, dtype, kind)
    assert torch.equal(fused, expected)
    for ours, theirs in zip(fused_kv, kv, strict=True):
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)


@pytest.mark.parametrize("name", part("olmo2", full=["olmo", "mixtral"]))
def test_other_layers_run_operator_by_operator(checkpoint: Made, name: str) -> None:
    assert loaded(checkpoint(name)[1], torch.float32).fused_layers is None


def test_other_operators_and_attention_are_not_replaced(checkpoint: Made) -> None:
    folder = checkpoint("qwen3")[1]
    assert loaded(folder, torch.float32, ReferenceAttention).fused_layers is None
    assert loaded(folder, torch.float32, operators=lambda: PLAIN).fused_layers is None


def test_batches_of_all_sizes_take_turns(checkpoint: Made) -> None:
    """What an earlier one left behind in the workspace does not matter."""
    folder = checkpoint("qwen3")[1]
    model, operators = loaded(folder, torch.float32), loaded(folder, torch.float32)
    operators.fused_layers = None
    turns: list[list[Request]] = [[3], [(0, 300), 5], [4, 9], [(0, 900)], [(2, 7)]]
    for requests in turns:
        found, kv = hidden(model, requests, torch.float32, "auto")
        expected, same = hidden(operators, requests, torch.float32, "auto")
        assert torch.equal(found, expected)
        assert all(torch.equal(ours.keys, theirs.keys) for ours, theirs in zip(kv, same, strict=True))


@pytest.mark.parametrize("requests", [[9, (0, 20)], [5, 6, 7]])
def test_rows_that_are_asked_for_are_those_of_all(checkpoint: Made, requests: list[Request]) -> None:
    model = loaded(checkpoint("qwen3")[1], torch.float32)
    everything, kv = hidden(model, requests, torch.float32, "auto")
    some, same = hidden(model, requests, torch.float32, "auto", torch.tensor([2, 0]))
    assert torch.equal(some, everything[[2, 0]])
    assert all(torch.equal(ours.keys, theirs.keys) for ours, theirs in zip(kv, same, strict=True))


def test_other_threads_run_while_layers_compute(checkpoint: Made) -> None:
    model, done, seen = loaded(checkpoint("qwen3")[1], torch.float32), Event(), list[float]()

    def look() -> None:
        while not done.wait(0.001):
            seen.append(time.perf_counter())

    batches, blocks = packed([(0, 3000)])
    kv = memory(model, blocks, torch.float32, "auto")
    assert model.fused_layers is not None
    with torch.inference_mode():
        assert model.embed is not None
        x = model.embed(batches[0].tokens)
        model.fused_layers.run(batches, kv, x, len(model.stage))  # it is compiled
        thread = Thread(target=look)
        thread.start()
        began = time.perf_counter()
        model.fused_layers.run(batches, kv, x, len(model.stage))
        ended = time.perf_counter()
    done.set()
    thread.join()
    assert any(began < at < ended for at in seen)
