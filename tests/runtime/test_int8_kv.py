"""`kv_cache_dtype="int8"`: what is stored depends on the token alone, and attention reads it as it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orcinus import LLM, EngineConfig
from orcinus.build import build, silent
from orcinus.core.batch import Chunk
from orcinus.errors import ConfigError
from orcinus.plan import make_plan
from orcinus.runtime.attention import ATTENTION, Heads
from orcinus.runtime.attention.reference import attend, parts
from orcinus.runtime.kv_cache import LayerKV, allocate
from orcinus.runtime.operator_work import OperatorKind, operator_work
from orcinus.runtime.pack import PackedBatch
from orcinus.serve.engines import build_served
from tests.examples import examples
from tests.product import part
from tests.runtime.test_attention import HERE, NUM_BLOCKS, ragged_batch
from tests.runtime.test_int8_weights import SCORED, TEXT

Made = Callable[[str], tuple[Any, Path]]
CPU = torch.device("cpu")
KV_HEADS, GROUP = 2, 3
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # relative error of an output
DTYPES = part(torch.float32, full=[torch.bfloat16])  # kernels are compiled for each


def rounded(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Levels around 128, scales, and the numbers that they stand for, by the definition."""
    scales = x.float().abs().amax(-1) / 127
    levels = (x.float() * (127 / x.float().abs().amax(-1, keepdim=True))).round()
    return levels + 128, scales, (levels * scales[..., None]).to(x.dtype)


def filled(block_size: int, dim: int, dtype: torch.dtype) -> tuple[LayerKV, LayerKV]:
    """The same random keys and values, as bytes and in the model's dtype."""
    (kv,) = allocate(1, NUM_BLOCKS, KV_HEADS, block_size, dim, dtype, CPU, "int8")
    (plain,) = allocate(1, NUM_BLOCKS, KV_HEADS, block_size, dim, dtype, CPU)
    assert kv.scales is not None
    pairs = (kv.keys, kv.scales.keys, plain.keys), (kv.values, kv.scales.values, plain.values)
    for levels, scales, numbers in pairs:
        levels[:], scales[:], numbers[:] = rounded(torch.randn(levels.shape).to(dtype))
    return kv, plain


def truth(qkv: Tensor, plain: LayerKV, batch: PackedBatch, heads: Heads) -> Tensor:
    """Attention in float64 over the rounded keys and values, the batch's own included."""
    sizes = [heads.num_heads, heads.num_kv_heads, heads.num_kv_heads]
    q, k, v = torch.split(qkv.view(len(qkv), -1, heads.head_dim), sizes, dim=1)
    plain.write(batch, rounded(k)[2], rounded(v)[2])
    exact, out = LayerKV(plain.keys.double(), plain.values.double()), torch.empty(q.shape, dtype=torch.float64)
    for chunk in (*parts(batch.decodes, 0), *parts(batch.chunks, len(batch.sources))):
        out[chunk.rows] = attend(q[chunk.rows].double(), exact, chunk, heads)
    return out.flatten(1)


SIZES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([1, 1, 2, 7, 20])), min_size=1, max_size=5)


@pytest.mark.parametrize("dtype", DTYPES)
@examples(20)
@given(st.sampled_from(HERE), SIZES, st.sampled_from([None, 1, 16, 33]))
def test_attention_over_bytes_is_attention_over_the_numbers_that_they_stand_for(
    dtype: torch.dtype, name: str, sizes: list[tuple[int, int]], window: int | None
) -> None:
    torch.manual_seed(len(sizes))
    batch, (kv, plain) = ragged_batch(sizes, 8, 1), filled(8, 20, dtype)
    heads = Heads(KV_HEADS * GROUP, KV_HEADS, 20, 20**-0.5, window)
    qkv = torch.randn(len(batch.tokens), (GROUP + 2) * KV_HEADS * 20).to(dtype)
    found = ATTENTION[name]()(qkv.clone(), None, kv, batch, heads)
    expected = truth(qkv, plain, batch, heads)
    assert float((found.double() - expected).norm() / expected.norm()) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HERE)
def test_a_token_is_stored_rounded_by_itself_whatever_is_beside_it(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    batch, alone = ragged_batch([(9, 1), (0, 20), (3, 4)], 8, 2), ragged_batch([(9, 1)], 8, 2)
    heads, row = Heads(KV_HEADS * GROUP, KV_HEADS, 20, 20**-0.5), (GROUP + 2) * KV_HEADS * 20
    qkv = (torch.randn(len(batch.tokens), row) * torch.rand(len(batch.tokens), 1) * 9).to(dtype)
    kv, other = filled(8, 20, dtype)[0], filled(8, 20, dtype)[0]
    attend_all = ATTENTION[name]()
    attend_all(qkv.clone(), None, kv, batch, heads)
    attend_all(qkv[:1].clone(), None, other, alone, heads)
    assert kv.scales is not None
    assert other.scales is not None
    place = batch.slot_blocks[0], slice(None), batch.slot_offsets[0]
    for cache, scales, lone, lone_scales, begin in (
        (kv.keys, kv.scales.keys, other.keys, other.scales.keys, GROUP),
        (kv.values, kv.scales.values, other.values, other.scales.values, GROUP + 1),
    ):
        levels, expected, _ = rounded(qkv.view(len(qkv), -1, KV_HEADS, 20)[:, begin])
        assert (cache[batch.slot_blocks, :, batch.slot_offsets].float() - levels).abs().max() <= 1, "ties may round either way"
        torch.testing.assert_close(scales[batch.slot_blocks, :, batch.slot_offsets], expected)
        assert cache[place].equal(lone[place])
        assert scales[place].equal(lone_scales[place])


def test_a_token_that_is_not_finite_spoils_its_own_request_alone() -> None:
    batch, heads = ragged_batch([(9, 1), (5, 1)], 8, 2), Heads(KV_HEADS * GROUP, KV_HEADS, 20, 20**-0.5)
    qkv = torch.randn(2, (GROUP + 2) * KV_HEADS * 20)
    qkv[0, -1] = torch.inf
    for name in HERE:
        found = ATTENTION[name]()(qkv.clone(), None, filled(8, 20, torch.float32)[0], batch, heads)
        assert found[0].isnan().any(), name
        assert found[1].isfinite().all(), name


@pytest.mark.parametrize("attention", part("reference", full=["cpu"]))
def test_a_plan_counts_bytes_and_scales(checkpoint: Made, attention: str) -> None:
    config = EngineConfig(
        model=checkpoint("qwen3")[1], dtype="bfloat16", kv_cache_dtype="int8", attention=attention, max_model_len=32
    )
    built = build(config)
    spec, memory = built.plan.model.checkpoint.spec, built.plan.memory
    kv = built.engine.executor.kv  # type: ignore[attr-defined]
    held = [each for layer in kv for each in (layer.keys, layer.values, layer.scales.keys, layer.scales.values)]
    assert sum(each.nbytes for each in held) == memory.kv == built.resolved.kv_bytes
    assert built.plan.kv_token_bytes == 2 * spec.num_layers * spec.num_kv_heads * (spec.head_dim + 4)
    work = operator_work(built.engine.executor.model, (Chunk("r", (0,), 9),), "int8")  # type: ignore[attr-defined]
    assert work[OperatorKind.ATTENTION].num_bytes == 9 * built.plan.kv_token_bytes
    assert (built.resolved.kv_cache_dtype, built.resolved.numbers) == ("int8", "bfloat16, int8 keys and values")


def test_a_memory_holds_almost_twice_the_tokens() -> None:
    plain, int8 = (
        make_plan(EngineConfig(dtype="bfloat16", kv_memory_mib=64, kv_cache_dtype=name)).resolved for name in ("auto", "int8")
    )
    assert plain.kv_cache_dtype == "bfloat16"
    assert int8.num_blocks / plain.num_blocks == pytest.approx(2 * 64 / (64 + 4), rel=1e-3)  # heads of 64


def test_what_cannot_be_had_is_told_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^unknown kv_cache_dtype 'fp8': choose auto or int8$"):
        EngineConfig(kv_cache_dtype="fp8")
    with pytest.raises(ConfigError, match=r"^kv_cache_dtype int8 is for CPUs: leave it out on device cuda$"):
        make_plan(EngineConfig(model="llama-7b", device="a100-40g", kv_cache_dtype="int8"), known=True)


def test_a_server_says_what_its_cache_holds(checkpoint: Made) -> None:
    config = EngineConfig(model=checkpoint("qwen3")[1], kv_cache_dtype="int8", attention="reference", max_model_len=32)
    assert build_served(config, (), silent).ready.dtype == "int8"


def test_the_bundled_model_stays_close() -> None:
    """Keys and values of 8 bits move it less than bfloat16 does (docs/log.md)."""
    found = []
    for kv_cache_dtype in ("auto", "int8"):
        with LLM(dtype="float32", attention="reference", kv_cache_dtype=kv_cache_dtype) as llm:
            rows = llm.generate(TEXT, SCORED)[0].prompt_logprobs or ()
            found.append(torch.tensor([row.logprob for row in rows if row is not None]))
    differences = (found[0] - found[1]).abs()
    assert len(differences) > 50
    assert 0 < differences.mean() < 0.05
    assert differences.max() < 0.3
    perplexities = [math.exp(-each.mean()) for each in found]
    assert perplexities[1] / perplexities[0] == pytest.approx(1, abs=0.02)
