"""An executor that follows: the next batch is launched before the tokens of the one in flight are known."""

from __future__ import annotations

from typing import Any

import pytest

from orcinus.core.batch import Finished, Token
from orcinus.core.component_spec import make_policy
from orcinus.core.request import Finish, Overlap, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Reason
from orcinus.core.view import Limits
from tests.worlds import OVERLAP, World, build_world, solo

PROMPT = (1, 2, 3)
LIMITS = Limits(max_batch_size=4, max_batch_tokens=64, max_model_len=40)


def world(policy: str = "orca", kv: str = "paged", **other: int) -> World:
    return build_world(make_policy(policy), kv, depth=2, overlap=OVERLAP, limits=LIMITS, **other)  # type: ignore[arg-type]


def request(name: str = "r", prompt: tuple[int, ...] = PROMPT, at: float = 0.0, **params: object) -> Request:
    return Request(name, prompt, SamplingParams(**{"max_tokens": 4, "seed": 0} | params), at)  # type: ignore[arg-type]


def chunks(here: World) -> list[list[tuple[int, int, int | None]]]:
    """Of every batch: where each chunk starts, how many tokens it has, and which batch it follows."""
    return [[(chunk.start, len(chunk.tokens), chunk.follows) for chunk in batch.chunks] for batch in here.record.batches]


def test_a_decode_is_launched_while_the_token_that_it_needs_is_being_computed() -> None:
    here = world()
    here.engine.submit(request())
    here.engine.dispatch()
    assert chunks(here) == [[(0, 3, None)], [(3, 1, 1)]]


def test_a_request_is_promised_no_more_tokens_than_it_may_have() -> None:
    here = world()
    here.engine.submit(request(max_tokens=2))
    here.engine.step()
    here.engine.step()
    assert chunks(here) == [[(0, 3, None)], [(3, 1, 1)]]
    assert here.record.endings["r"].reason is Finish.LENGTH


def test_the_end_of_a_text_is_seen_one_step_late_and_costs_one_token_that_is_never_heard_of() -> None:
    stop = solo(PROMPT, SamplingParams(max_tokens=1))[0]
    here = world()
    here.engine.submit(request(stop_token_ids=(stop,)))
    first, finished = here.engine.step()
    assert isinstance(first, Token)
    assert isinstance(finished, Finished)
    assert here.kv.num_free < here.kv.num_blocks, "the batch in flight still writes there"
    assert here.engine.step() == []
    assert here.record.tokens["r"] == [stop]
    assert len(here.record.batches) == 2
    assert here.kv.num_free == here.kv.num_blocks


def test_the_next_chunk_of_a_prompt_does_not_wait_for_the_one_before() -> None:
    here = world("sarathi:chunk_size=2")
    here.engine.submit(request(prompt=tuple(range(1, 6))))
    here.engine.dispatch()
    assert chunks(here) == [[(0, 2, None)], [(2, 2, None)]], "all its tokens are known"


HISTORY = [
    {"repetition_penalty": 1.5},
    {"presence_penalty": 1.5},
    {"frequency_penalty": 1.5},
    {"bad_words_token_ids": ((5,), (1, 2))},
]


@pytest.mark.parametrize("params", HISTORY, ids=str)
def test_what_looks_at_the_tokens_before_has_to_see_the_last_one(params: dict[str, Any]) -> None:
    here = world()
    here.engine.submit(request(**params))
    here.engine.dispatch()
    assert chunks(here) == [[(0, 3, None)]]
    while not here.engine.idle:
        here.engine.step()
    assert all(follows is None for batch in chunks(here) for *_, follows in batch)


def test_masks_that_do_not_look_back_are_carried_on() -> None:
    here = world()
    here.engine.submit(request(allowed_token_ids=(1, 2), bad_words_token_ids=((5,),), stop_token_ids=(9,), min_tokens=2))
    here.engine.dispatch()
    assert chunks(here) == [[(0, 3, None)], [(3, 1, 1)]]


def test_who_arrives_meanwhile_is_in_the_batch_after_those_in_flight() -> None:
    here = world()
    here.engine.submit(request("a"))
    here.engine.dispatch()
    here.engine.submit(request("b", at=1.0))
    here.engine.step()
    here.engine.dispatch()
    assert [chunk.request_id for chunk in here.record.batches[2].chunks] == ["a", "b"]


def test_cancelling_what_is_in_flight_twice_frees_its_blocks_when_both_are_back() -> None:
    here = world()
    here.engine.submit(request())
    here.engine.dispatch()
    here.engine.cancel("r")
    here.engine.step()
    assert here.kv.num_free < here.kv.num_blocks
    here.engine.step()
    assert here.kv.num_free == here.kv.num_blocks


def test_the_youngest_is_not_carried_on_while_an_elder_lacks_the_memory_that_it_holds() -> None:
    """Two requests fill all six blocks of four; the elder needs a seventh, and the younger is in flight."""
    here = world(num_blocks=6)
    here.engine.submit(request("elder", prompt=(1,) * 12, max_tokens=12))
    here.engine.submit(request("younger", prompt=(2,) * 9, at=1.0, max_tokens=12))
    while not here.engine.idle:
        here.engine.step()
        unserved = here.record.unserved[-1].reasons
        if unserved.get("elder") is Reason.NO_BLOCKS:
            assert all(chunk.request_id != "younger" for chunk in here.record.batches[-1].chunks)
    assert here.engine.scheduler.admission.preemptions >= 1
    for name, prompt in (("elder", (1,) * 12), ("younger", (2,) * 9)):
        assert here.record.tokens[name] == solo(prompt, SamplingParams(max_tokens=12))
    assert here.record.endings["elder"].at < here.record.endings["younger"].at


def test_an_iteration_is_timed_from_when_the_one_before_was_back() -> None:
    """The clock ticks at every look, so that what was launched early would seem to have taken longer."""
    here = world()
    learnt: list[float] = []
    here.engine.scheduler.step_time.learn = lambda batch, seconds: learnt.append(seconds)  # type: ignore[method-assign]
    here.engine.submit(request(max_tokens=6))
    while not here.engine.idle:
        here.engine.step()
    assert max(learnt[1:]) < learnt[0] + 3


@pytest.mark.parametrize(
    ("overlap", "starts"),
    [
        (Overlap(prefill=True), [(0, 2), (2, 2)]),
        (Overlap(decode=True), [(0, 2)]),
        (Overlap(), [(0, 2)]),
    ],
)
def test_chunks_of_a_prompt_follow_each_other_where_prefill_overlaps(overlap: Overlap, starts: list[tuple[int, int]]) -> None:
    here = build_world(make_policy("sarathi:chunk_size=2"), "paged", depth=2, overlap=overlap, limits=LIMITS)
    here.engine.submit(request(prompt=(1, 2, 3, 4, 5)))
    here.engine.dispatch()
    assert [chunk[:2] for batch in chunks(here) for chunk in batch] == starts
