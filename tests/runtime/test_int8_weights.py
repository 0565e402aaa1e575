"""`quantization="int8"`: exact products of integers, rows that depend on nothing but themselves, and how far a model moves."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from orcinus import LLM, SamplingParams
from orcinus.build import build
from orcinus.config import QUANTIZATIONS, EngineConfig
from orcinus.errors import ConfigError
from orcinus.plan import make_plan
from orcinus.runtime import int8_weights
from orcinus.runtime.checkpoint import outline
from orcinus.runtime.cpu_kernels.elements import ZERO
from orcinus.runtime.cpu_kernels.quantized_rows import dequantize_rows, quantize_rows
from orcinus.runtime.int8_weights import FULL, REDUCED, Int8Weight, largest_int8, quantize_weight
from orcinus.runtime.linear_weight import Split, SplitKind, SplitPart
from orcinus.runtime.models import Linear
from orcinus.runtime.parallel.rank_sizes import rank_sizes
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS
from orcinus.runtime.rounded_weights import Rounded8
from tests.product import part
from tools.tiny.corpus.chat import draw

Made = Callable[[str], tuple[Any, Path]]
DTYPES = [torch.float32, torch.bfloat16]
AVAILABLE = pytest.mark.skipif(not largest_int8(), reason="this torch or processor has no products of 8-bit integers")
TEXT = "Once upon a time there was a fox who lived by the sea. The cat sat on 6 mats and looked at the moon. " * 2
SCORED = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=1)


def split(outputs: int) -> Split:
    return Split(SplitKind.COLUMN, (SplitPart(outputs, outputs),))


@pytest.fixture
def tried_anew() -> Iterator[None]:
    """What this machine can multiply is found out in the test, and again after it."""
    largest_int8.cache_clear()
    yield
    largest_int8.cache_clear()


# Rows of activations


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 7, 700], ids=["one", "few", "on all threads"])
def test_rows_are_rounded_to_the_nearest_of_255_levels(dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(0)
    x = (torch.randn(rows, 101) * torch.rand(rows, 1) * 50).to(dtype)
    found, scales = quantize_rows(x)
    torch.testing.assert_close(scales, x.float().abs().amax(dim=1) / 127)
    error = dequantize_rows(found, scales, torch.float32) - x.float()
    assert (error.abs() <= 0.5001 * scales[:, None]).all()
    assert found.float().sub(ZERO).abs().amax(dim=1).eq(127).all(), "the largest number takes the last level"


def test_rows_of_zeros_are_zeros_and_what_is_not_finite_stays_so() -> None:
    x = torch.ones(6, 40)
    x[0], x[1, 3], x[2, 39], x[3, 0], x[4] = 0, math.nan, math.inf, -math.inf, 1e-42
    found, scales = quantize_rows(x)
    assert scales[0] == scales[4] == 0
    assert scales[1:4].isnan().all()
    assert (found[:5] == ZERO).all()
    assert scales[5].item() == pytest.approx(1 / 127)


# Products


@AVAILABLE
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(16, 8), (1, 1), (7, 13), (130, 65), (512, 96)], ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_products_are_exact_sums_of_integers(dtype: torch.dtype, shape: tuple[int, int], biased: bool) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    bias = torch.randn(shape[0]).to(dtype) if biased else None
    weight = Int8Weight.quantize(matrix, split(shape[0]))
    integers, scales = quantize_weight(matrix, largest_int8())
    for rows in (0, 1, 2, 8, 33, 200):
        x = torch.randn(rows, 2 * shape[1]).to(dtype)[:, ::2]
        found, (levels, row_scales) = weight.multiply(x, bias), quantize_rows(x)
        expected = (levels.double() - ZERO) @ integers.double().t() * scales.double() * row_scales.double()[:, None]
        expected = expected if bias is None else expected + bias.double()
        assert (found.dtype, found.shape) == (dtype, (rows, shape[0]))
        torch.testing.assert_close(found.double(), expected, rtol=1e-5 if dtype is torch.float32 else 4e-3, atol=1e-5)


@AVAILABLE
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_has_the_same_bits_whatever_is_multiplied_beside_it(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight, x = Int8Weight.quantize(torch.randn(96, 200), split(96)), torch.randn(40, 200).to(dtype)
    x[3:] *= 1000  # one scale for all rows would leave nothing of the first
    together = weight.multiply(x, None)
    for rows in (1, 3, 8, 39):
        assert torch.equal(weight.multiply(x[:rows], None), together[:rows])


@AVAILABLE
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_numbers_do_not_saturate(sign: int) -> None:
    weight = Int8Weight.quantize(torch.full((64, 1000), 0.5), split(64))
    for rows in (1, 8, 64):
        found = weight.multiply(torch.full((rows, 1000), 3.0 * sign), None)
        torch.testing.assert_close(found, torch.full((rows, 64), 1500.0 * sign))


@AVAILABLE
def test_weights_are_quantised_by_output_and_their_source_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(50, 30) * torch.logspace(-3, 3, 50)[:, None]
    matrix[7] = 0
    before = matrix.clone()
    whole = quantize_weight(matrix, FULL)
    assert torch.equal(matrix, before)
    integers, scales = whole
    assert ((integers * scales[:, None] - matrix).abs() <= 0.5001 * scales[:, None]).all()
    monkeypatch.setattr(int8_weights, "AT_ONCE", 90)  # three rows
    assert all(torch.equal(one, other) for one, other in zip(whole, quantize_weight(matrix, FULL), strict=True))
    narrow, _ = quantize_weight(matrix, REDUCED)
    assert int(narrow.abs().max()) == REDUCED


# What a machine can do


@AVAILABLE
@pytest.mark.usefixtures("tried_anew")
def test_where_sums_saturate_weights_keep_seven_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    product = int8_weights._product

    def saturating(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
        return product(x, packed, scales).clamp(max=10_000 * x.shape[1])  # 127 · 127 a number does not fit, 127 · 63 does

    monkeypatch.setattr(int8_weights, "_product", saturating)
    assert largest_int8() == REDUCED
    monkeypatch.setitem(QUANTIZED_WEIGHTS, "int8", Int8Weight)
    assert any("keep 7 bits" in note for note in make_plan(EngineConfig(quantization="int8")).resolved.notes)
    weight = Int8Weight.quantize(torch.eye(20), split(20))
    torch.testing.assert_close(weight.multiply(torch.eye(20), None), torch.eye(20))


@pytest.mark.usefixtures("tried_anew")
@pytest.mark.parametrize("lacking", ["the operators", "the processor"])
def test_a_machine_without_such_products_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    if lacking == "the operators":
        monkeypatch.setattr(int8_weights, "_prepack", lambda weight: (_ for _ in ()).throw(AttributeError("no such operator")))
    else:
        monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setitem(QUANTIZED_WEIGHTS, "int8", Int8Weight)
    with pytest.raises(ConfigError, match=r"quantization int8 needs oneDNN's products .* leave it out, or use int4$"):
        make_plan(EngineConfig(quantization="int8"))
    with pytest.raises(ConfigError, match="leave it out"):
        Int8Weight.check()


@pytest.mark.full
@AVAILABLE
@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE", "AVX512_CORE_VNNI"])
def test_products_are_exact_on_older_processors(isa: str) -> None:
    code = """
import torch
from orcinus.runtime.int8_weights import Int8Weight, largest_int8
for sign in (1, -1):
    weight = Int8Weight.quantize(torch.full((64, 1024), 0.5), None)
    for rows in (1, 8, 64):
        found = weight.multiply(torch.full((rows, 1024), 3.0 * sign), None)
        torch.testing.assert_close(found, torch.full((rows, 64), 1536.0 * sign))
print(largest_int8())
"""
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"ONEDNN_MAX_CPU_ISA": isa}, capture_output=True, text=True, check=True
    )
    assert int(found.stdout) in (FULL, REDUCED)


# Models


@pytest.fixture(scope="module")
def scored() -> dict[str, Any]:
    """The bundled model's scores of two conversations that it was not trained on, in float32 and in integers."""
    rng = random.Random(5)
    chats = [draw(rng, held_out=True) for _ in range(2)]
    found = {}
    for name, quantization in (("float32", None), ("int8", "int8")):
        with LLM(dtype="float32", attention="reference", quantization=quantization) as llm:
            outputs = llm.chat(chats, SCORED)
            found[name] = [row for output in outputs for row in output.prompt_logprobs or () if row is not None]
    return found


@AVAILABLE
def test_the_bundled_model_stays_close(scored: dict[str, Any]) -> None:
    exact, rounded = scored["float32"], scored["int8"]
    differences = [abs(a.logprob - b.logprob) for a, b in zip(exact, rounded, strict=True)]
    assert len(differences) > 100
    assert 0 < sum(differences) / len(differences) < 0.05
    assert max(differences) < 0.5
    same = sum(a.top[0][0] == b.top[0][0] for a, b in zip(exact, rounded, strict=True))
    assert same / len(exact) > 0.95
    perplexities = [math.exp(-sum(row.logprob for row in rows) / len(rows)) for rows in (exact, rounded)]
    assert perplexities[1] / perplexities[0] == pytest.approx(1, abs=0.02)


@AVAILABLE
@pytest.mark.parametrize("name", part("gpt2", full=["qwen3", "llama-biases-yarn"]))
def test_architectures_in_integers(checkpoint: Made, name: str) -> None:
    prompt, scores = [[5, 9, 2, 40, 7, 61, 33, 8]], []
    for quantization in (None, "int8"):
        config = {"dtype": "float32", "attention": "reference", "max_model_len": 32, "quantization": quantization}
        with LLM(checkpoint(name)[1], **config) as llm:
            output = llm.generate(prompt, SCORED)[0]
            scores.append([row.logprob for row in output.prompt_logprobs or () if row is not None])
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], abs=0.15)


@AVAILABLE
def test_company_changes_no_bit_of_an_answer() -> None:
    params = SamplingParams(max_tokens=5, temperature=0, ignore_eos=True, logprobs=2)
    prompts = [TEXT[start : start + 30 + 9 * start] for start in range(8)]
    with LLM(dtype="float32", quantization="int8", policy="orca", kv="paged", max_batch_size=8) as llm:
        alone = [llm.generate(prompt, params)[0] for prompt in prompts[::3]]
        together = llm.generate(prompts, params)[::3]
    assert [(one.token_ids, one.logprobs) for one in alone] == [(one.token_ids, one.logprobs) for one in together]


@pytest.mark.parametrize("made", [pytest.param(Int8Weight, marks=AVAILABLE), Rounded8])
@pytest.mark.parametrize("name", ["qwen3", "llama-biases-yarn"], ids=["tied", "with biases"])
def test_a_plan_counts_the_integers(
    checkpoint: Made, name: str, made: type[Int8Weight | Rounded8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(QUANTIZED_WEIGHTS, "int8", made)
    for known in (outline, rank_sizes):  # they would know the other one's
        known.cache_clear()
    config = EngineConfig(
        model=checkpoint(name)[1], quantization="int8", dtype="bfloat16", attention="reference", max_model_len=32
    )
    built = build(config)
    model = built.engine.executor.model  # type: ignore[attr-defined]
    linears = [module for module in model.modules() if isinstance(module, Linear)]
    assert all(isinstance(linear.weight, made) for linear in linears)
    assert model.embed.weight.dtype is torch.bfloat16
    matrices = sum(made.bytes_of(linear.weight.shape) for linear in linears)
    biases = sum(2 * linear.bias.numel() for linear in linears if linear.bias is not None)
    assert built.plan.memory.weights == matrices + biases + sum(2 * each.numel() for each in model.parameters())
    assert built.resolved.quantization == "int8"
    assert built.resolved.num_parameters == make_plan(EngineConfig(model=config.model)).resolved.num_parameters


@AVAILABLE
@pytest.mark.parametrize("load_format", ["auto", "dummy"])
def test_one_plain_weight_at_a_time(checkpoint: Made, monkeypatch: pytest.MonkeyPatch, load_format: str) -> None:
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    quantize = Int8Weight.quantize.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Int8Weight], weight: Tensor, split: Split) -> Int8Weight:
        alive.append(sum(one() is not None for one in made))
        made.append(weakref.ref(weight))
        found: Int8Weight = quantize(cls, weight, split)
        return found

    monkeypatch.setattr(Int8Weight, "quantize", classmethod(counted))
    monkeypatch.setitem(QUANTIZED_WEIGHTS, "int8", Int8Weight)
    shares: list[float] = []
    config = EngineConfig(model=checkpoint("qwen3")[1], quantization="int8", load_format=load_format, max_model_len=32)
    build(config, progress=lambda stage, done, total: shares.append(done / total * len(alive)) if stage == "weights" else None)
    assert len(alive) > 8
    assert max(alive) <= 1, "the tied embedding, and nothing else"
    assert sum(0 < share < len(alive) - 1 for share in shares) > 0, "weights are quantised while others are still read"


def test_what_cannot_be_quantised_is_refused() -> None:
    assert list(QUANTIZED_WEIGHTS) == list(QUANTIZATIONS)
    with pytest.raises(ConfigError, match=r"^unknown quantization 'int3': choose int8, int4, none, or leave it out$"):
        EngineConfig(quantization="int3")
    with pytest.raises(ConfigError, match=r"quantization int8 is for CPUs: leave it out on device cuda"):
        make_plan(EngineConfig(model="llama-7b", device="a100-40g", quantization="int8"), known=True)
