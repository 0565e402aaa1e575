"""With keys and values as 8-bit integers, no scheduling changes a token."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES
from tests.checkpoints import MOST_DIFFERENT, OTHERS
from tests.contracts.test_every_model import TOKENS, ragged_prompts
from tests.product import in_turn, part

Made = Callable[[str], tuple[Any, Path]]
GREEDY = SamplingParams(max_tokens=TOKENS, temperature=0)
INT8 = {"kv_cache_dtype": "int8", "dtype": "float32", "max_model_len": 56, "block_size": 8}
SERVED = part(*in_turn(MOST_DIFFERENT, POLICIES, KV_MANAGERS), full=itertools.product(OTHERS, POLICIES, KV_MANAGERS))


@pytest.fixture(scope="module")
def expected(checkpoint: Made) -> Callable[[str], list[list[int]]]:
    """Greedy tokens of prompts that run alone, uncut, computed once per architecture; the reference backend's are the same."""
    known: dict[str, list[list[int]]] = {}

    def answers(name: str) -> list[list[int]]:
        if name not in known:
            found = []
            for attention in ("reference", "cpu"):
                with LLM(checkpoint(name)[1], policy="orca", kv="paged", attention=attention, **INT8) as llm:
                    outputs = [llm.generate([prompt], GREEDY)[0] for prompt in ragged_prompts()]
                    found.append([list(output.token_ids) for output in outputs])
            assert found[0] == found[1]
            known[name] = found[0]
        return known[name]

    return answers


@pytest.mark.parametrize(("name", "policy", "kv"), SERVED)
def test_greedy_tokens_are_those_of_requests_alone(
    name: str, policy: str, kv: str, checkpoint: Made, expected: Callable[[str], list[list[int]]]
) -> None:
    """Six ragged prompts, three in a batch, and so few blocks that the paged manager must preempt; then all from the cache."""
    blocks = {"max-length": 14, "reservation": 12, "buddy": 16, "paged": 7, "prefix-cache": 7}[kv]
    with LLM(checkpoint(name)[1], policy=policy, kv=kv, max_batch_size=3, num_blocks=blocks, **INT8) as llm:
        for _ in range(2):
            outputs = llm.generate(ragged_prompts(), GREEDY)
            assert [list(output.token_ids) for output in outputs] == expected(name)
        if kv in ("paged", "prefix-cache") and policy == "orca":
            assert llm.engine.scheduler.admission.preemptions > 0


@pytest.mark.parametrize("name", MOST_DIFFERENT)
@pytest.mark.parametrize("max_batch_tokens", part(5, full=[1, 16]))
def test_cutting_prompts_changes_no_token(
    name: str, max_batch_tokens: int, checkpoint: Made, expected: Callable[[str], list[list[int]]]
) -> None:
    """A token of a prompt sees the rounded keys and values of its own chunk, too."""
    with LLM(checkpoint(name)[1], max_batch_size=3, max_batch_tokens=max_batch_tokens, **INT8) as llm:
        outputs = llm.generate(ragged_prompts(), GREEDY)
    assert [list(output.token_ids) for output in outputs] == expected(name)
