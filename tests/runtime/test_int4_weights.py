"""`quantization="int4"`: exact sums of groups, rows that depend on nothing but themselves, and how far a model moves."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orcinus import LLM, SamplingParams
from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.plan import make_plan
from orcinus.runtime import rounded_weights
from orcinus.runtime.batch_invariant import InvariantRows, invariant_rows
from orcinus.runtime.cpu_kernels.dot_products import PORTABLE, instructions
from orcinus.runtime.cpu_kernels.int4_levels import GROUP, quantize_int4
from orcinus.runtime.linear_weight import Split
from orcinus.runtime.models import Linear, PlainWeight
from orcinus.runtime.rounded_weights import Int4Weight, Rounded8
from tests.product import part
from tests.runtime.grouped import matrix_of, rounded_rows
from tools.tiny.corpus.chat import draw

Made = Callable[[str], tuple[Any, Path]]
DTYPES = [torch.float32, torch.bfloat16]
SCORED = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1)
SHAPES = [(16, 32), (1, 1), (7, 13), (130, 65), (512, 96)]


# Weights


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights_are_close_in_groups_of_32_inputs(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(-12, 12, shape[0])[:, None]
    weight = Int4Weight.quantize(matrix, Split.columns(shape[0]))
    for first in range(0, shape[1], GROUP):
        given, found = matrix[:, first : first + GROUP], matrix_of(weight)[:, first : first + GROUP]
        largest = given.abs().amax(dim=1, keepdim=True)
        assert ((given - found).abs() <= largest * 1.01 / 7).all(), "at most a level, of eight"
    assert weight.num_bytes == weight.packed.nbytes == Int4Weight.bytes_of(shape)


def test_the_scale_has_a_smaller_error_than_that_of_q4_0() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(64, 512)
    found = matrix_of(Int4Weight.quantize(matrix, Split.columns(64)))
    groups = matrix.view(64, -1, GROUP)
    usual = groups.gather(2, groups.abs().argmax(dim=2, keepdim=True)) / -8
    q4_0 = ((groups / usual).round().clamp(-8, 7) * usual).view(64, 512)
    assert (found - matrix).square().sum() < 0.93 * (q4_0 - matrix).square().sum()


def test_zeros_stay_zeros_and_what_is_not_finite_stays_so() -> None:
    matrix = torch.ones(16, 64)
    matrix[0], matrix[1, 3], matrix[2, 40], matrix[3] = 0, math.nan, math.inf, 1e-42
    weight = Int4Weight.quantize(matrix, Split.columns(16))
    found = weight.multiply(torch.ones(1, 64), None)[0]
    assert found[0] == found[3] == 0
    assert found[1:3].isnan().all()
    torch.testing.assert_close(found[4:], torch.full((12,), 64.0), rtol=4e-3, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_either_format_gives_the_same_integers(dtype: torch.dtype) -> None:
    matrix = torch.randn(33, 100).bfloat16()
    one, other = quantize_int4(matrix.to(dtype)), quantize_int4(matrix.float())
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# Products


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_products_are_those_of_the_rounded_numbers(dtype: torch.dtype, shape: tuple[int, int], biased: bool) -> None:
    torch.manual_seed(0)
    weight = Int4Weight.quantize(torch.randn(shape), Split.columns(shape[0]))
    bias = torch.randn(shape[0]).to(dtype) if biased else None
    for rows in (0, 1, 2, 8, 15, 200):
        x = torch.randn(rows, 2 * shape[1]).to(dtype)[:, ::2]
        found = weight.multiply(x, bias)
        expected = rounded_rows(x).double() @ matrix_of(weight).double().t()
        expected = expected if bias is None else expected + bias.double()
        assert (found.dtype, found.shape) == (dtype, (rows, shape[0]))
        torch.testing.assert_close(found.double(), expected, rtol=1e-5 if dtype is torch.float32 else 4e-3, atol=3e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_has_the_same_bits_whatever_is_multiplied_beside_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, x = Int4Weight.quantize(torch.randn(96, 200), Split.columns(96)), torch.randn(40, 200).to(dtype)
    x[3:] *= 1000
    together = weight.multiply(x, None)
    for rows in (1, 2, 3, 7, 8, 39):
        assert torch.equal(weight.multiply(x[:rows], None), together[:rows])
    assert invariant_rows(weight, dtype) == InvariantRows(1, 512), "deterministic has nothing to pad"


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_numbers_do_not_saturate(sign: int) -> None:
    matrix = torch.full((16, 96), -0.5)
    matrix[:, ::GROUP] = 7 / 8 / 2  # level 7 for one input of a group, -8 for the others, or the other way round
    weight = Int4Weight.quantize(-matrix * sign, Split.columns(16))
    for x in (torch.full((3, 96), 3.0), torch.full((3, 96), -3.0)):
        torch.testing.assert_close(weight.multiply(x, None), x @ matrix_of(weight).t(), rtol=1e-5, atol=1e-4)


def test_rows_of_what_is_not_finite_spoil_nothing_else() -> None:
    weight, x = Int4Weight.quantize(torch.randn(20, 70), Split.columns(20)), torch.randn(4, 70)
    expected = weight.multiply(x, None)
    x[1, 69], x[2, 0] = math.nan, math.inf
    found = weight.multiply(x, None)
    assert torch.equal(found[::3], expected[::3])
    assert not found[1:3].isfinite().any()


# What a machine can do

PRODUCT = """
import torch
from orcinus.runtime.cpu_kernels.dot_products import instructions
from orcinus.runtime.grouped_weights import GroupedWeight
from orcinus.runtime.rounded_weights import Int4Weight
torch.manual_seed(0)
weight = Int4Weight.quantize(torch.randn(50, 100), None)
found = weight.multiply(torch.randn(13, 100), None)
levels, scales = torch.randint(256, (50, 100), dtype=torch.uint8), torch.rand(50, 4).half()
bytes_ = GroupedWeight.from_levels(levels, scales, scales * 2, None, group=32, bits=8)
found += bytes_.multiply(torch.randn(13, 100), None)
print(instructions().name, found.view(torch.int32).sum().item(), sep=": ")
"""


@pytest.mark.full
@pytest.mark.skipif(instructions().name != "AVX-512 VNNI", reason="this processor has not all of these instructions")
def test_all_instructions_give_the_same_bits() -> None:
    avx2 = "+avx,+avx2,+fma"
    features = {
        "portable": "",
        "AVX2": avx2,
        "AVX VNNI": f"{avx2},+avxvnni",
        "AVX-512 VNNI, 256 bits": f"{avx2},+avx512f,+avx512vl,+avx512vnni",
        "AVX-512 VNNI": f"{avx2},+avx512f,+avx512vl,+avx512bw,+avx512vnni",
    }
    found = {}
    for given in features.values():
        environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": given}
        run = subprocess.run([sys.executable, "-c", PRODUCT], env=environment, capture_output=True, text=True, check=True)
        name, _, bits = run.stdout.partition(": ")
        found[name] = bits
    assert list(found) == list(features)
    assert len(set(found.values())) == 1


def test_slow_products_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounded_weights, "instructions", lambda: PORTABLE)
    assert any("without AVX2" in note for note in make_plan(EngineConfig(quantization="int4")).resolved.notes)
    monkeypatch.setattr(rounded_weights, "instructions", lambda: replace(PORTABLE, name="AVX2"))
    assert not any("int4" in note for note in make_plan(EngineConfig(quantization="int4")).resolved.notes)


def test_ranks_hold_what_one_device_does() -> None:
    torch.manual_seed(0)
    matrix, x = torch.randn(40, 96), torch.randn(3, 96)
    whole = Int4Weight.quantize(matrix, Split.columns(40)).multiply(x, None)
    outputs = Int4Weight.quantize(matrix[:25], Split.columns(25)), Int4Weight.quantize(matrix[25:], Split.columns(15))
    assert torch.equal(torch.cat([each.multiply(x, None) for each in outputs], dim=1), whole)
    inputs = [
        Int4Weight.quantize(matrix[:, part], Split.columns(40)).multiply(x[:, part], None)
        for part in (slice(64), slice(64, 96))
    ]
    torch.testing.assert_close(sum(inputs), whole, rtol=1e-5, atol=1e-5)


def test_ranks_may_not_cut_a_group(checkpoint: Made) -> None:
    Int4Weight.check_shards([slice(0, 33), slice(64, 70)])
    with pytest.raises(
        ConfigError, match=r"^quantization int4 rounds groups of 32 inputs, .* inside one: choose another tp, or int8$"
    ):
        make_plan(EngineConfig(model=checkpoint("qwen3")[1], quantization="int4", tp=2))


# Models


@pytest.fixture(scope="module")
def scored() -> dict[str, Any]:
    """The bundled model's scores of two conversations that it was not trained on, in float32 and in integers."""
    rng = random.Random(5)
    chats = [draw(rng, held_out=True) for _ in range(2)]
    found = {}
    for name, quantization in (("float32", None), ("int4", "int4")):
        with LLM(dtype="float32", attention="reference", quantization=quantization) as llm:
            outputs = llm.chat(chats, SCORED)
            found[name] = [row for output in outputs for row in output.prompt_logprobs or () if row is not None]
    return found


@pytest.mark.full
def test_the_bundled_model_stays_close(scored: dict[str, Any]) -> None:
    exact, rounded = scored["float32"], scored["int4"]
    differences = [abs(a.logprob - b.logprob) for a, b in zip(exact, rounded, strict=True)]
    assert len(differences) > 100
    assert 0 < sum(differences) / len(differences) < 0.3
    same = sum(a.top[0][0] == b.top[0][0] for a, b in zip(exact, rounded, strict=True))
    assert same / len(exact) > 0.9
    perplexities = [math.exp(-sum(row.logprob for row in rows) / len(rows)) for rows in (exact, rounded)]
    assert perplexities[1] / perplexities[0] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", part("gpt2", full=["qwen3", "llama-biases-yarn"]))
def test_architectures_give_what_their_rounded_matrices_do(
    checkpoint: Made, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    prompt, scores = [[5, 9, 2, 40, 7, 61, 33, 8]], []
    quantize = Int4Weight.quantize

    def plain(weight: Tensor, split: Split) -> PlainWeight:
        return PlainWeight(matrix_of(quantize(weight, split)), split)

    for _ in range(2):
        with LLM(checkpoint(name)[1], dtype="float32", attention="reference", max_model_len=32, quantization="int4") as llm:
            output = llm.generate(prompt, SCORED)[0]
            scores.append([row.logprob for row in output.prompt_logprobs or () if row is not None])
        monkeypatch.setattr(Int4Weight, "quantize", plain)
    assert scores[0] != scores[1], "activations are rounded, too"
    assert scores[0] == pytest.approx(scores[1], abs=0.15)


@pytest.mark.parametrize("name", ["qwen3", "llama-biases-yarn"], ids=["tied", "with biases"])
def test_a_plan_counts_the_integers(checkpoint: Made, name: str) -> None:
    config = EngineConfig(
        model=checkpoint(name)[1], quantization="int4", dtype="bfloat16", attention="reference", max_model_len=32
    )
    built = build(config)
    model = built.engine.executor.model  # type: ignore[attr-defined]
    linears = [module for module in model.modules() if isinstance(module, Linear)]
    *layers, head = [linear.weight for linear in linears]
    assert isinstance(head, Rounded8)
    assert all(isinstance(weight, Int4Weight) for weight in layers)
    matrices = sum(each.packed.nbytes for each in (*layers, head))
    biases = sum(2 * linear.bias.numel() for linear in linears if linear.bias is not None)
    assert built.plan.memory.weights == matrices + biases + sum(2 * each.numel() for each in model.parameters())
    assert built.resolved.quantization == "int4"
