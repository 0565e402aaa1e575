"""What a scheduler reads of a policy's wishes, what it shows a policy, and whom short memory holds up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from orcinus.core.batch import Batch, BatchResult, Event, NewRequest
from orcinus.core.component_spec import make_policy
from orcinus.core.executor_state import RequestState, rows_to_draw
from orcinus.core.kv.paged import Paged
from orcinus.core.policies.orca import Orca
from orcinus.core.ports import Observer
from orcinus.core.request import NO_CONTEXT, Overlap, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.step_time import RIDGE, _Moments
from orcinus.core.unserved import Reason
from orcinus.core.view import Grant, Limits, Selection, View
from tests.worlds import build_world

LIMITS = Limits(max_batch_size=2, max_batch_tokens=64, max_model_len=40)


def request(name: str, *, prompt: int = 3, output: int = 20) -> Request:
    return Request(name, tuple(range(1, prompt + 1)), SamplingParams(max_tokens=output, seed=0), 0.0)


@dataclass
class Counting:
    """Grants requests one by one in an order of its own, and counts how many were read."""

    token_budget: int | None = None
    order: Callable[[View], list[Request]] = lambda view: [*view.running, *view.waiting]
    holds_answers: ClassVar[bool] = False
    read: list[str] = field(default_factory=list)
    busy: list[int] = field(default_factory=list)

    def select(self, view: View) -> Selection:
        self.busy.append(view.busy)
        return Selection(self._grants(view), self.token_budget)

    def _grants(self, view: View) -> Iterator[Grant]:
        for one in self.order(view):
            self.read.append(one.id)
            yield Grant(one)


@pytest.mark.parametrize(
    ("budget", "served", "read", "others"), [(None, 2, 3, Reason.BATCH_FULL), (3, 1, 2, Reason.BUDGET_SPENT)]
)
def test_wishes_are_read_until_the_batch_is_full(budget: int | None, served: int, read: int, others: Reason) -> None:
    policy = Counting(budget)
    scheduler = Scheduler(policy, Paged(64, 4), LIMITS)
    for name in "abcd":
        scheduler.add(request(name), 0.0)
    planned = scheduler.plan(0.0)
    assert planned is not None
    batch, unserved = planned
    assert ([chunk.request_id for chunk in batch.chunks], policy.read) == (list("abcd"[:served]), list("abcd"[:read]))
    assert unserved.others is others


def test_a_policy_sees_how_many_running_requests_are_in_flight() -> None:
    policy = Counting()
    scheduler = Scheduler(policy, Paged(64, 4), Limits(max_batch_size=4, max_batch_tokens=64, max_model_len=40))
    for name in "ab":
        scheduler.add(request(name), 0.0)
    scheduler.plan(0.0)
    scheduler.add(request("c"), 0.0)
    scheduler.plan(0.0)
    scheduler.plan(0.0)
    assert policy.busy == [0, 2, 3]


def test_a_request_that_waits_for_those_ahead_of_it_holds_up_none_of_them() -> None:
    """Nothing behind it is in flight, so nothing comes back for which planning ahead would have to wait."""
    scheduler = Scheduler(
        Counting(order=lambda view: list(reversed(view.running)) + list(view.waiting)), Paged(3, 4, 0.0), LIMITS
    )
    scheduler.add(request("first", prompt=5, output=4), 0.0)
    scheduler.add(request("last", prompt=4, output=4), 0.0)
    planned = scheduler.plan(0.0)
    assert planned is not None
    batch = planned[0]
    scheduler.apply(batch, BatchResult(batch.id, ((7,), (7,))), 0.0)
    planned = scheduler.plan(0.0, Overlap(prefill=True, decode=True))
    assert planned is not None
    batch, unserved = planned
    assert [chunk.request_id for chunk in batch.chunks] == ["first"]
    assert unserved.reasons["last"] is Reason.NO_BLOCKS


def test_observers_hear_of_events_and_not_of_their_absence() -> None:
    heard: list[list[Event]] = []

    class Listening(Observer):
        def on_events(self, events: list[Event]) -> None:
            heard.append(events)

    world = build_world(Orca(), "paged", limits=LIMITS)
    world.engine.observers.append(Listening())
    world.engine.submit(request("a", output=2))
    while not world.engine.idle:
        world.engine.step()
    assert len(heard) == 2
    assert all(heard)


def test_rows_to_draw() -> None:
    state = RequestState.of(NewRequest("r", (1, 2, 3), (), SamplingParams(max_tokens=4), NO_CONTEXT, ((0,),)))

    def positions(tokens: tuple[int, ...], drafts: int | None) -> list[int]:
        return [row.position for row in rows_to_draw([state], [2 + len(tokens)], [drafts])]

    assert positions((3,), None) == []
    assert positions((3,), 0) == [3]
    assert positions((3, 8, 9), 2) == [3, 4, 5]


def test_moments_of_no_iterations_keep_their_ridge() -> None:
    moments = _Moments()
    for _ in range(500):
        moments.add((0.0,) * 4, 0.0)
    assert [moments.matrix[i][i] for i in range(4)] == pytest.approx([RIDGE / 2] * 4)


@pytest.mark.parametrize(("seed", "allowed"), [(2**63 - 1, True), (2**63, False), (-(2**63), True), (-(2**63) - 1, False)])
def test_a_seed_has_64_bits(seed: int, allowed: bool) -> None:
    if allowed:
        assert SamplingParams(seed=seed).seed == seed
    else:
        with pytest.raises(Exception, match="a 64-bit whole number"):
            SamplingParams(seed=seed)


def test_a_batch_is_named_by_its_number() -> None:
    scheduler = Scheduler(Orca(), Paged(64, 4), LIMITS)
    scheduler.add(request("a"), 0.0)
    made: list[Batch] = []
    for _ in range(3):
        planned = scheduler.plan(0.0)
        assert planned is not None
        made.append(planned[0])
        scheduler.apply(planned[0], BatchResult(planned[0].id, ((1,),)), 0.0)
    assert [batch.id for batch in made] == [1, 2, 3]


def test_with_every_place_taken_the_queue_waits_for_a_place() -> None:
    """Under vLLM's first policy, prompts go first while there is a place for them."""
    scheduler = Scheduler(make_policy("prefill-first"), Paged(64, 4), LIMITS)
    for name in "abc":
        scheduler.add(request(name), 0.0)
    for served in (["a", "b"], ["a", "b"]):
        planned = scheduler.plan(0.0)
        assert planned is not None
        batch, unserved = planned
        assert [chunk.request_id for chunk in batch.chunks] == served
        scheduler.apply(batch, BatchResult(batch.id, ((1,), (1,))), 0.0)
    assert unserved.others is Reason.BATCH_FULL
