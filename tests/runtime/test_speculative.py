"""Prompt lookup on a real model: the tokens are those without drafts, whatever ends or binds an answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from orcinus import LLM, SamplingParams, StructuredOutputs
from orcinus.config import EngineConfig
from orcinus.errors import ConfigError
from orcinus.memory.footprint import SAMPLING
from orcinus.plan import make_plan

QUESTION = {"role": "user", "content": "What is Orca?"}
SIZES: dict[str, Any] = {"dtype": "float32", "max_batch_size": 10, "max_model_len": 512, "attention": "reference"}
GREEDY = SamplingParams(max_tokens=40, temperature=0)


@pytest.fixture(scope="module")
def drafting() -> Iterator[LLM]:
    with LLM(**SIZES, speculative="ngram:min_n=1:max_batch=10") as llm:
        yield llm


@contextmanager
def plain(llm: LLM) -> Iterator[LLM]:
    """The same engine without drafts."""
    scheduler = llm.engine.scheduler
    drafter, scheduler.drafter = scheduler.drafter, None
    yield llm
    scheduler.drafter = drafter


@pytest.fixture(scope="module")
def asked_again(drafting: LLM) -> Any:
    """A conversation whose next answer stands in it already."""
    answer = drafting.chat([QUESTION], SamplingParams(max_tokens=200, temperature=0))[0].text
    return drafting.encode_chat([QUESTION, {"role": "assistant", "content": answer}, QUESTION])


CASES = {
    "greedy": {},
    "length ends inside drafts": {"max_tokens": 13},
    "seeded": {"temperature": 0.3, "seed": 4, "top_p": 0.9},
    "several answers": {"temperature": 0.6, "seed": 1, "n": 3},
    "stop string": {"stop": ("language",)},
    "stop token": {"stop_token_ids": (291,)},
    "log-probabilities": {"logprobs": 2},
    "bias and bans": {"logit_bias": {300: -5.0}, "min_tokens": 20},
}


def test_tokens_are_those_without_drafts(drafting: LLM, asked_again: Any) -> None:
    """All cases in one batch."""
    params = [SamplingParams(**{"max_tokens": 24, "temperature": 0} | case) for case in CASES.values()]
    found = drafting.generate([asked_again] * len(CASES), params)
    with plain(drafting) as llm:
        expected = llm.generate([asked_again] * len(CASES), params)
    for case, one, other in zip(CASES, expected, found, strict=True):
        for mine, theirs in zip(one.outputs, other.outputs, strict=True):
            assert (case, mine.token_ids, mine.text, mine.finish_reason) == (
                case, theirs.token_ids, theirs.text, theirs.finish_reason,
            )  # fmt: skip
            for logprobs, wanted in zip(mine.logprobs or (), theirs.logprobs or (), strict=True):
                assert logprobs.logprob == pytest.approx(wanted.logprob, abs=1e-4)
        assert 0 < other.timeline.accepted_draft_tokens <= other.timeline.draft_tokens, case
        assert other.timeline.decode_iterations < one.timeline.decode_iterations, case
        assert one.timeline.draft_tokens == 0, case


def test_rows_that_depend_on_the_tokens_before_them_get_no_drafts(drafting: LLM, asked_again: Any) -> None:
    usual = SamplingParams(max_tokens=8, temperature=0)
    bound = [replace(usual, structured_outputs=StructuredOutputs(regex="(ab )+")), replace(usual, frequency_penalty=0.1)]
    for output in drafting.generate([asked_again] * 2, bound):
        assert output.timeline.decode_iterations == 7
        assert output.timeline.draft_tokens == 0


@pytest.mark.full
@pytest.mark.parametrize("mesh", [{"tp": 2}, {"pp": 2}])
def test_ranks_verify_drafts_too(mesh: dict[str, int], drafting: LLM, asked_again: Any) -> None:
    with plain(drafting) as llm:
        expected = llm.generate([asked_again, "Hi"], GREEDY)
    with LLM(**SIZES | {"attention": "auto"}, **mesh, speculative="ngram:min_n=1:max_batch=10") as llm:
        outputs = llm.generate([asked_again, "Hi"], GREEDY)
    assert [one.token_ids for one in outputs] == [one.token_ids for one in expected]
    assert outputs[0].timeline.accepted_draft_tokens > 10


@pytest.mark.parametrize(
    ("value", "says"),
    [("lookup", "unknown drafter 'lookup': choose none, ngram"), (4, "speculative must be a string, not 4")],
)
def test_a_wrong_value_is_one_line(value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LLM(speculative=value)


def test_a_plan_counts_the_rows_of_drafts_and_refuses_a_gpu() -> None:
    def working(**options: Any) -> int:
        return make_plan(EngineConfig(max_batch_tokens=64, **options)).memory.working

    assert working(speculative="ngram:k=4:max_batch=2") - working() == 2 * 4 * 2048 * SAMPLING
    with pytest.raises(ConfigError, match="speculative is for CPUs"):
        make_plan(EngineConfig(model="llama-2-7b", device="h100", speculative="ngram"), known=True)


@pytest.mark.full
def test_drafts_change_no_bit_of_a_deterministic_engine(asked_again: Any) -> None:
    params = replace(GREEDY, logprobs=2)
    with LLM(dtype="bfloat16", max_batch_size=2, max_model_len=512, deterministic=True, speculative="ngram:min_n=1") as llm:
        (found,) = llm.generate(asked_again, params)
        with plain(llm):
            (expected,) = llm.generate(asked_again, params)
    assert found.timeline.accepted_draft_tokens > 10
    assert (found.token_ids, found.logprobs) == (expected.token_ids, expected.logprobs)
