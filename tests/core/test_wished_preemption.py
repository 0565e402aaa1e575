"""Policies that preempt: shortest remaining first, and feedback queues, can be written."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import chain
from typing import ClassVar

import pytest

from orcinus.core.request import Overlap, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import NO_OVERLAP
from orcinus.core.unserved import Reason
from orcinus.core.view import Grant, Limits, Selection, View
from orcinus.errors import PolicyError
from tests.worlds import OVERLAP, World, build_world, check_all, random_jobs, run, solo

LIMITS = Limits(max_batch_size=1, max_batch_tokens=64, max_model_len=40)


@dataclass
class ShortestRemaining:
    """Shortest remaining processing time first: a shorter request that waits takes the place of the longest that runs."""

    holds_answers: ClassVar[bool] = False
    preempts: ClassVar[bool] = True

    def select(self, view: View) -> Selection:
        order = sorted(chain(view.running, view.waiting), key=left)
        chosen = order[: view.limits.max_batch_size]
        preempt = [request for request in view.running if request not in chosen]
        return Selection([Grant(request) for request in chosen], preempt=preempt)


def left(request: Request) -> int:
    return request.max_known - request.known


@dataclass
class Scripted:
    """Preempts the named requests once, and grants all others."""

    holds_answers: ClassVar[bool] = False
    preempts: ClassVar[bool] = True
    preempt: list[Request] = field(default_factory=list)

    def select(self, view: View) -> Selection:
        preempt, self.preempt = self.preempt, []
        return Selection([Grant(request) for request in chain(view.running, view.waiting)], preempt=preempt)


def fresh(name: str, output: int, at: float = 0.0) -> Request:
    return Request(name, (1, 2, 3), SamplingParams(max_tokens=output, seed=0), at)


def finish(world: World) -> None:
    while not world.engine.idle:
        world.engine.step()


@pytest.mark.parametrize(("depth", "overlap"), [(1, NO_OVERLAP), (2, NO_OVERLAP), (2, OVERLAP)])
def test_the_shortest_remaining_request_runs_first(depth: int, overlap: Overlap) -> None:
    world = build_world(ShortestRemaining(), "paged", depth=depth, overlap=overlap, limits=LIMITS)
    world.engine.submit(fresh("long", 12))
    world.engine.step()
    world.engine.submit(fresh("short", 3, at=1.0))
    finish(world)
    assert world.record.endings["short"].at < world.record.endings["long"].at
    assert world.record.tokens["long"] == solo((1, 2, 3), SamplingParams(max_tokens=12))


@pytest.mark.parametrize(("depth", "overlap"), [(1, NO_OVERLAP), (2, NO_OVERLAP), (2, OVERLAP)])
@pytest.mark.parametrize("kv", ["max-length", "reservation", "paged", "prefix-cache"])
def test_wished_preemptions_change_no_token(kv: str, depth: int, overlap: Overlap) -> None:
    preemptions = 0
    for seed in range(8):
        jobs = random_jobs(random.Random(seed), 25, cancels=True)
        limits = Limits(2, 64, 40)
        world = build_world(ShortestRemaining(), kv, depth=depth, overlap=overlap, num_blocks=21, limits=limits)
        check_all(world, jobs, run(world, jobs))
        preemptions += world.engine.scheduler.admission.preemptions
    assert preemptions > 20


def test_it_frees_its_place_at_once_and_closes_no_door() -> None:
    policy = Scripted()
    world = build_world(policy, "paged", limits=LIMITS)
    first = fresh("first", 9)
    world.engine.submit(first)
    world.engine.step()
    world.engine.submit(fresh("second", 2, at=1.0))
    policy.preempt = [first]
    world.engine.step()
    assert [chunk.request_id for chunk in world.record.batches[1].chunks] == ["second"]
    assert world.record.unserved[1].reasons == {"first": Reason.PREEMPTED}
    assert world.record.batches[1].removed == ("first",)
    finish(world)
    assert first.preemptions == 1
    assert world.record.tokens["first"] == solo((1, 2, 3), SamplingParams(max_tokens=9))


@pytest.mark.parametrize("overlap", [NO_OVERLAP, OVERLAP])
def test_one_in_flight_is_not_carried_on_and_leaves_when_it_is_back(overlap: Overlap) -> None:
    policy = Scripted()
    world = build_world(policy, "paged", depth=2, overlap=overlap, limits=Limits(2, 64, 40))
    first, second = fresh("first", 9), fresh("second", 4, at=1.0)
    world.engine.submit(first)
    planned = world.engine.scheduler.plan(0.0, overlap)
    assert planned is not None
    world.engine._launch(*planned, 0.0)
    policy.preempt = [first]
    world.engine.submit(second)
    world.engine.dispatch()
    assert [chunk.request_id for chunk in world.record.batches[1].chunks] == ["second"]
    assert first in world.engine.scheduler.running
    world.engine.settle()
    assert first not in world.engine.scheduler.running
    assert (first.preemptions, first.computed, len(first.output)) == (1, 0, 1)
    finish(world)
    assert world.record.tokens["first"] == solo((1, 2, 3), SamplingParams(max_tokens=9))


def test_naming_one_that_does_not_run_is_a_defect_of_the_policy() -> None:
    policy = Scripted()
    world = build_world(policy, "paged", limits=LIMITS)
    waiting = fresh("waits", 2)
    world.engine.submit(waiting)
    policy.preempt = [waiting]
    with pytest.raises(PolicyError, match="waits.*does not run"):
        world.engine.step()
