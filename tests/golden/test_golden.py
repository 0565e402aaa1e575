"""The bundled model's answers, token by token, under any policy, K/V manager and batch size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES
from tests.examples import whole
from tests.golden.record import FILE, MAX_TOKENS, QUESTIONS, TEXTS
from tests.product import in_turn

GOLDEN: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
# Requests at most, and one of how many prompts is served.
BATCHES = [(1, 10), (3, 4), (20, 1)] if whole() else [(1, 20), (3, 8), (20, 2)]
GREEDY = SamplingParams(max_tokens=MAX_TOKENS, temperature=0)


def test_the_file_holds_what_the_recorder_asks() -> None:
    assert [record["text"] for record in GOLDEN] == [*QUESTIONS, *TEXTS]
    assert len(GOLDEN) == 20


@pytest.mark.parametrize(("policy", "kv", "batch"), in_turn(POLICIES, KV_MANAGERS, BATCHES))
def test_the_answers_are_the_golden_ones(policy: str, kv: str, batch: tuple[int, int]) -> None:
    """Small batches take many iterations, so they serve a part of the prompts: each policy and manager another one."""
    max_batch_size, every = batch
    part = list(POLICIES).index(policy) + list(KV_MANAGERS).index(kv)
    asked = GOLDEN[part % every :: every]
    with LLM(dtype="float32", policy=policy, kv=kv, max_batch_size=max_batch_size, max_model_len=160) as llm:
        outputs = llm.generate([record["prompt"] for record in asked], GREEDY)
    assert [list(output.token_ids) for output in outputs] == [record["tokens"] for record in asked]
    assert [output.text for output in outputs] == [record["answer"] for record in asked]


def test_preemption_and_chunks_change_no_answer() -> None:
    asked = GOLDEN if whole() else GOLDEN[::2]
    with LLM(dtype="float32", kv="paged", max_batch_size=8, max_batch_tokens=13, num_blocks=11, max_model_len=160) as llm:
        outputs = llm.generate([record["prompt"] for record in asked], GREEDY)
        assert llm.engine.scheduler.admission.preemptions > 0
    assert [list(output.token_ids) for output in outputs] == [record["tokens"] for record in asked]


@pytest.mark.full
def test_the_reference_backend_gives_the_same_answers() -> None:
    with LLM(dtype="float32", attention="reference", max_model_len=160) as llm:
        outputs = llm.generate([record["prompt"] for record in GOLDEN], GREEDY)
    assert [list(output.token_ids) for output in outputs] == [record["tokens"] for record in GOLDEN]


def test_strings_become_the_golden_prompts() -> None:
    with LLM(max_model_len=160) as llm:
        chats = [llm.encode_chat([{"role": "user", "content": text}]) for text in QUESTIONS]
        assert llm.tokenizer is not None
        texts = [llm.tokenizer.encode(text) for text in TEXTS]
    assert [list(ids) for ids in [*chats, *texts]] == [record["prompt"] for record in GOLDEN]
