"""What docs/reproducible.md promises: when the same request gets the same tokens again, or the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.core.batch import Batch
from orcinus.core.ports import Observer
from orcinus.core.unserved import Unserved
from orcinus.llm import Completion
from orcinus.verify import verify
from tests.product import part

PROMPT = "The cat sat on 6 mats and" * 2  # 18 tokens: a block of 16 and two more
GREEDY = SamplingParams(max_tokens=12, temperature=0, ignore_eos=True, logprobs=2)
DRAWN = replace(GREEDY, temperature=1.0, seed=7, top_p=0.95)
BOTH = pytest.mark.parametrize("params", [GREEDY, DRAWN], ids=["greedy", "drawn"])
DRAWN_OR_ALL = pytest.mark.parametrize("params", part(DRAWN, full=[GREEDY]), ids=["drawn", "greedy"])
GREEDY_OR_ALL = pytest.mark.parametrize("params", part(GREEDY, full=[DRAWN]), ids=["greedy", "drawn"])
COMPANY = ["Hello", "Once upon a time there was a fox who lived by the sea", PROMPT, "Once upon a time there was a fox", "One"]


class Borders(Observer):
    """Where the chunks of every batch begin and end."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[int, int]]] = []

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.seen.append([(chunk.start, chunk.end) for chunk in batch.chunks])


def bits(output: Completion) -> tuple[Any, ...]:
    return output.token_ids, output.logprobs


@GREEDY_OR_ALL
def test_in_bfloat16_a_prefix_that_is_found_moves_a_border_once(params: SamplingParams) -> None:
    borders = Borders()
    with LLM(dtype="bfloat16", observers=[borders]) as llm:
        first, second, third = (llm.generate(PROMPT, params)[0] for _ in range(3))
        firsts = [seen for seen in borders.seen if seen[0][1] == 18]
        assert firsts == [[(0, 18)], [(16, 18)], [(16, 18)]]
        assert bits(second) == bits(third)
        salted = [llm.generate(PROMPT, params, cache_salt=salt)[0] for salt in ("a", "b")]
        assert [bits(one) for one in salted] == [bits(first)] * 2, "nothing is found, so the borders are those of the first"


@BOTH
@pytest.mark.parametrize("kv", ["paged", "reservation", "max-length"])
def test_in_bfloat16_a_request_alone_repeats_without_a_prefix_cache(kv: str, params: SamplingParams) -> None:
    with LLM(dtype="bfloat16", kv=kv) as llm:
        first = llm.generate(PROMPT, params)[0]
        llm.generate(COMPANY, replace(GREEDY, max_tokens=3))
        assert bits(llm.generate(PROMPT, params)[0]) == bits(first)


@DRAWN_OR_ALL
def test_in_bfloat16_a_new_engine_repeats_the_same_calls(params: SamplingParams) -> None:
    runs = []
    for _ in range(2):
        with LLM(dtype="bfloat16", max_batch_size=3, num_blocks=12, max_model_len=64, seed=1) as llm:
            runs.append([bits(one) for _ in range(2) for one in llm.generate(COMPANY, replace(params, seed=None))])
    assert runs[0] == runs[1]


@DRAWN_OR_ALL
def test_in_float32_neither_borders_nor_company_change_a_token(params: SamplingParams) -> None:
    with LLM(dtype="float32", kv="paged", policy="orca") as llm:
        alone = [llm.generate(prompt, params)[0] for prompt in COMPANY]
    engines = [
        {"kv": "prefix-cache"},  # the second time with a cached prefix
        {"kv": "prefix-cache", "policy": "sarathi:chunk_size=5"},
        {"kv": "paged", "policy": "stall-free:token_budget=7", "max_batch_size": 2},
        {"kv": "paged", "policy": "orca", "num_blocks": 6, "max_model_len": 64},  # preempted and recomputed
        {"kv": "max-length", "policy": "fastertransformer", "attention": "reference"},
    ]
    for engine in engines:
        with LLM(dtype="float32", **engine) as llm:
            for _ in range(2 if engine["kv"] == "prefix-cache" else 1):
                found = llm.generate(COMPANY, params)
                assert [one.token_ids for one in found] == [one.token_ids for one in alone], engine
            assert (llm.engine.scheduler.admission.preemptions > 0) == ("num_blocks" in engine)
        for ours, theirs in zip(found, alone, strict=True):
            ours_at, theirs_at = ours.logprobs or (), theirs.logprobs or ()
            assert [one.logprob for one in ours_at] == pytest.approx([one.logprob for one in theirs_at], abs=1e-4)


ALL = [(model, dtype) for model in (None, "gpt2", "mistral-sliding-window", "qwen3") for dtype in ("float32", "bfloat16")]
FEW = [(None, "bfloat16"), ("mistral-sliding-window", "float32")]


@pytest.mark.parametrize(("model", "dtype"), part(*FEW, full=[row for row in ALL if row not in FEW]))
def test_with_deterministic_a_request_has_the_same_bits_however_it_is_scheduled(
    checkpoint: Callable[[str], tuple[Any, Path]], model: str | None, dtype: str
) -> None:
    folder = None if model is None else checkpoint(model)[1]
    config = EngineConfig(model=folder, dtype=dtype, deterministic=True, block_size=4)
    comparisons = list(verify(build(config), config, prompt_tokens=70, answer_tokens=10))
    assert [comparison for comparison in comparisons if not comparison.holds] == []
    assert len({comparison.way for comparison in comparisons}) == 7
    assert len(comparisons) == 14
