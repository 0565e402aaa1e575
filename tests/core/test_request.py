"""What a request may be, and when the next batch may include it although it is in flight."""

from __future__ import annotations

from typing import Any

import pytest

from orcinus.core.batch import Chunk, NewRequest
from orcinus.core.executor_state import RequestState, accepted
from orcinus.core.request import MOST_URGENT, NO_CONTEXT, Flight, Overlap, Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import RequestError

BOTH, PREFILL, NONE = Overlap(prefill=True, decode=True), Overlap(prefill=True), Overlap()


@pytest.mark.parametrize("priority", [0, MOST_URGENT, -MOST_URGENT])
def test_priorities(priority: int) -> None:
    assert RequestContext(priority=priority).priority == priority


@pytest.mark.parametrize("wrong", [MOST_URGENT + 1, -MOST_URGENT - 1, True, "1", 1.5, None])
def test_no_priorities(wrong: Any) -> None:
    with pytest.raises(RequestError, match="priority must be a whole number"):
        RequestContext(priority=wrong)


@pytest.mark.parametrize("name", ["client", "cache_salt"])
def test_names_are_strings(name: str) -> None:
    with pytest.raises(RequestError, match=f"{name} must be a string, not 3"):
        RequestContext(**{name: 3})


def in_flight(*flights: Flight, **changes: Any) -> Request:
    request = Request("r", (1, 2, 3), SamplingParams(max_tokens=4, seed=0, **changes), 0.0)
    request.flights = flights
    return request


CHUNK, DECODE, DRAFTS = Flight(5, 2, False), Flight(5, 1, True), Flight(5, 1, True, 2)


@pytest.mark.parametrize(
    ("request_", "overlap", "last_batch", "ahead"),
    [
        (in_flight(CHUNK), PREFILL, 5, True),
        (in_flight(CHUNK), PREFILL, 6, True),
        (in_flight(CHUNK), NONE, 5, False),
        (in_flight(DECODE), BOTH, 5, True),
        (in_flight(DECODE), BOTH, 6, False),  # its token is not the last batch's
        (in_flight(DECODE), PREFILL, 5, False),
        (in_flight(DRAFTS), BOTH, 5, False),
        (in_flight(DECODE, frequency_penalty=1.0), BOTH, 5, False),
    ],
)
def test_which_requests_in_flight_may_go_on(request_: Request, overlap: Overlap, last_batch: int, ahead: bool) -> None:
    assert request_.schedulable_ahead(overlap, last_batch) == ahead


def test_a_request_whose_last_token_is_in_flight_may_not_go_on() -> None:
    request = in_flight(DECODE)
    request.output = [4, 5, 6]
    assert not request.schedulable_ahead(BOTH, 5)


def test_prompt_tokens_to_score_are_those_that_a_chunk_s_rows_predict() -> None:
    def scored(start: int, count: int, asked: int | None = 0) -> tuple[int, ...]:
        params = SamplingParams(max_tokens=4, prompt_logprobs=asked)
        state = RequestState.of(NewRequest("r", (10, 11, 12, 13, 14), (), params, NO_CONTEXT, ((0,),)))
        return state.scored(Chunk("r", (0,) * count, start, (), None))

    assert scored(0, 2) == (11, 12)
    assert scored(2, 2) == (13, 14)
    assert scored(4, 1) == ()
    assert scored(0, 5) == (11, 12, 13, 14)
    assert scored(0, 2, asked=None) == ()


def test_accepted_drafts() -> None:
    chunk = Chunk("r", (1, 7, 8), 3, (), 2)
    assert accepted(chunk, (7, 8, 9)) == (7, 8, 9)
    assert accepted(chunk, (7, 5, 9)) == (7, 5)
    assert accepted(chunk, (6, 8, 9)) == (6,)
    assert accepted(Chunk("r", (1, 2), 3, (), 0), (4,)) == (4,)
    assert accepted(Chunk("r", (1, 2), 3, (), None), ()) == ()
