"""How many drafts a decode may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from orcinus.core.batch import BatchResult
from orcinus.core.drafters.ngram import Ngram
from orcinus.core.drafts import most_rows
from orcinus.core.kv.paged import Paged
from orcinus.core.request import Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.view import Grant, Limits, Selection, View

LIMITS = Limits(max_batch_size=8, max_batch_tokens=64, max_model_len=40)


@dataclass
class Greedy:
    """Guesses as many tokens as it may."""

    asked: list[int] = field(default_factory=list)

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        self.asked.append(most)
        return (1,) * most


@dataclass(frozen=True)
class Bounded:
    """Grants everyone, running ones first, at most so many tokens."""

    token_budget: int | None = None
    at_most: int | None = None
    holds_answers: ClassVar[bool] = False

    def select(self, view: View) -> Selection:
        granted = (Grant(one, at_most=self.at_most if one.decoding else None) for one in (*view.running, *view.waiting))
        return Selection(granted, self.token_budget)


def drafts(requests: int, policy: Bounded, *, output: int = 30, blocks: int = 64) -> list[int | None]:
    """The drafts of each request in its first decode, after prompts of two tokens."""
    scheduler = Scheduler(Bounded(), Paged(blocks, 4, 0.0), LIMITS, drafter=Greedy())
    for number in range(requests):
        scheduler.add(Request(f"r{number}", (1, 2), SamplingParams(max_tokens=output, seed=0), 0.0), 0.0)
    planned = scheduler.plan(0.0)
    assert planned is not None
    scheduler.apply(planned[0], BatchResult(planned[0].id, ((3,),) * requests), 0.0)
    scheduler.use(policy)
    planned = scheduler.plan(1.0)
    assert planned is not None
    return [chunk.drafts for chunk in planned[0].chunks]


@pytest.mark.parametrize(
    ("requests", "policy", "found"),
    [
        (1, Bounded(token_budget=1), [0]),
        (1, Bounded(token_budget=4), [3]),
        (3, Bounded(token_budget=3), [0, 0, 0]),
        (3, Bounded(token_budget=5), [2, 0, 0]),
        (1, Bounded(at_most=1), [0]),
        (1, Bounded(at_most=3), [2]),
        (2, Bounded(token_budget=7, at_most=3), [2, 2]),
    ],
)
def test_drafts_use_budget_that_is_left_over(requests: int, policy: Bounded, found: list[int]) -> None:
    assert drafts(requests, policy) == found


def test_drafts_end_where_the_answer_must() -> None:
    assert drafts(1, Bounded(), output=4) == [2]  # one token is there, and the row of the last draft gives another


def test_there_are_no_drafts_without_blocks_for_them() -> None:
    assert drafts(1, Bounded(token_budget=3), blocks=2, output=6) == [2]
    assert drafts(1, Bounded(token_budget=6), blocks=1, output=2) == [0]


def test_the_most_rows_of_an_iteration() -> None:
    assert most_rows(None, 5) == 5
    assert most_rows(Ngram(k=3, max_batch=4), 2) == 2 + 3 * 2
    assert most_rows(Ngram(k=3, max_batch=4), 9) == 9 + 3 * 4
