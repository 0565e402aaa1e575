"""A model on four ranks, each in a process of its own, gives what it gives on one device. One mesh serves all workloads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from orcinus import LLM, SamplingParams
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.policies import POLICIES
from orcinus.core.view import Limits
from orcinus.errors import RequestFailed
from orcinus.runtime.parallel import start_local
from orcinus.runtime.parallel.executor import ParallelExecutor
from tests.golden.record import FILE, MAX_TOKENS
from tests.product import part
from tests.runtime.parallel.forked_ranks import OneStartedOthersForked
from tests.waiting import wait_until

GOLDEN: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
SIZES: dict[str, Any] = {
    "dtype": "float32",
    "max_batch_size": 8,
    "max_batch_tokens": 48,
    "num_blocks": 18,
    "max_model_len": 160,
}
STORY = "Once upon a time"


@pytest.fixture(scope="module")
def mesh() -> Iterator[LLM]:
    """Two stages of two tensor ranks, and so few blocks that requests are preempted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start_local, "LocalLauncher", OneStartedOthersForked)
        with LLM(tp=2, pp=2, **SIZES) as llm:
            yield llm


@pytest.fixture(scope="module")
def alone() -> Iterator[LLM]:
    with LLM(**SIZES) as llm:
        yield llm


@pytest.mark.parametrize(("count", "tokens"), part((10, 16), full=[(len(GOLDEN), MAX_TOKENS)]))
def test_the_golden_answers_under_preemption(mesh: LLM, count: int, tokens: int) -> None:
    asked = GOLDEN[:count]
    outputs = mesh.generate([record["prompt"] for record in asked], SamplingParams(max_tokens=tokens, temperature=0))
    assert [list(output.token_ids) for output in outputs] == [record["tokens"][:tokens] for record in asked]
    assert mesh.engine.scheduler.admission.preemptions > 0
    assert mesh.engine.scheduler.kv.num_free == SIZES["num_blocks"]


def test_a_batch_is_in_flight_for_each_stage(mesh: LLM) -> None:
    assert (mesh.engine.executor.depth, *mesh.engine.executor.overlap) == (2, True, False)


def test_ranks_time_what_they_wait_for(mesh: LLM) -> None:
    executor = mesh.engine.executor
    assert isinstance(executor, ParallelExecutor)
    times = executor.time_batches()
    mesh.generate(STORY, SamplingParams(temperature=0, max_tokens=2))
    wait_until(lambda: {one.rank for one in times} == {0, 1, 2, 3})
    for one in list(times):
        assert ("recv" in one.waited) == (one.rank >= 2)  # the second stage waits for hidden states
        assert 0 < one.waited["all_reduce"] < sum(one.waited.values()) < one.ended - one.began


@pytest.mark.parametrize("policy", part("sarathi:chunk_size=16", "orca", full=["prefill-first", "request-level"]))
def test_policies_are_switched_while_requests_run(mesh: LLM, policy: str) -> None:
    asked = GOLDEN[:6]
    params = SamplingParams(max_tokens=16, temperature=0)
    stream = mesh.stream([record["prompt"] for record in asked], params)
    deltas = [next(stream)]
    mesh.engine.use(make_policy(policy), make_order("shortest-first"), Limits(5, 40, 160))
    deltas += stream
    mesh.engine.use(make_policy("stall-free:token_budget=32"), make_order("fcfs"), Limits(8, 48, 160))
    texts = {
        name: "".join(delta.text for delta in deltas if delta.request_id == name)
        for name in dict.fromkeys(d.request_id for d in deltas)
    }
    assert list(texts.values()) == [mesh_text(mesh, record["tokens"][:16]) for record in asked]


def mesh_text(llm: LLM, tokens: list[int]) -> str:
    assert llm.tokenizer is not None
    return llm.tokenizer.decode(tokens)


VARIED = [
    SamplingParams(max_tokens=20, seed=7, temperature=0.8, top_p=0.9),
    SamplingParams(max_tokens=20, seed=8, top_k=20, min_p=0.01, n=2),
    SamplingParams(max_tokens=20, temperature=0, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.2),
    SamplingParams(max_tokens=20, temperature=0, logit_bias={40: -100.0}, min_tokens=5, bad_words=("village",)),
    SamplingParams(max_tokens=20, temperature=0, stop=("lived", "the")),
    SamplingParams(max_tokens=8, temperature=0, logprobs=3, prompt_logprobs=2),
]


def test_sampling_seeds_penalties_stops_and_logprobs_are_those_of_one_device(mesh: LLM, alone: LLM) -> None:
    ours, theirs = (llm.generate([STORY] * len(VARIED), VARIED) for llm in (mesh, alone))
    assert [[one.token_ids for one in output.outputs] for output in ours] == [
        [one.token_ids for one in output.outputs] for output in theirs
    ]
    assert [output.text for output in ours] == [output.text for output in theirs]
    for kind in ("logprobs", "prompt_logprobs"):
        mine, yours = (getattr(outputs[-1], kind) for outputs in (ours, theirs))
        assert [one and (one.rank, [token for token, _ in one.top]) for one in mine] == [
            one and (one.rank, [token for token, _ in one.top]) for one in yours
        ]
        assert [one and one.logprob for one in mine] == pytest.approx([one and one.logprob for one in yours], abs=1e-3)


def test_a_request_that_fails_alone_fails_no_other(mesh: LLM) -> None:
    """A row that forbids every token is no failure of a rank."""
    everything = SamplingParams(max_tokens=4, temperature=0, allowed_token_ids=(5,), bad_words_token_ids=((5, 5),))
    with pytest.raises(RequestFailed, match="forbid every token") as caught:
        mesh.generate([STORY, STORY], [everything, SamplingParams(max_tokens=4, temperature=0)])
    assert caught.value.outputs[1].finish_reason == "length"  # type: ignore[attr-defined]


def test_cancelled_requests_leave_their_blocks(mesh: LLM) -> None:
    stream = mesh.stream([STORY] * 6, SamplingParams(max_tokens=100, temperature=0, ignore_eos=True))
    next(stream)
    stream.close()
    (output,) = mesh.generate(GOLDEN[0]["prompt"], SamplingParams(max_tokens=24, temperature=0))
    assert list(output.token_ids) == GOLDEN[0]["tokens"][:24]
    assert mesh.engine.scheduler.kv.num_free == SIZES["num_blocks"]


@pytest.mark.full
@pytest.mark.parametrize(("tp", "pp"), [(2, 1), (1, 2), (1, 3), (4, 1), (2, 3)])
def test_every_mesh_gives_the_golden_answers(tp: int, pp: int) -> None:
    with LLM(tp=tp, pp=pp, **SIZES) as llm:
        for policy in POLICIES:
            llm.engine.use(make_policy(policy))
            outputs = llm.generate([record["prompt"] for record in GOLDEN], SamplingParams(max_tokens=24, temperature=0))
            assert [list(output.token_ids) for output in outputs] == [record["tokens"][:24] for record in GOLDEN]
