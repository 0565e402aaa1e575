"""The orca policy against a slow transcription of the paper's Algorithm 1, and the property the paper claims for it."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from orcinus.core.kv import Reservation
from orcinus.core.policies import Orca
from orcinus.core.request import Finish
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from tests.examples import fewer
from tests.worlds import Job, build_world, next_token, random_jobs, run


@dataclass
class Pooled:
    """A request of the request pool."""

    name: str
    prompt: tuple[int, ...]
    max_tokens: int  # of the request when it is done: prompt + generated
    stops: tuple[int, ...]
    tokens: list[int] = field(default_factory=list)
    state: str = "INITIATION"


def algorithm_1(jobs: list[Job], n_workers: int, max_bs: int, n_slots: int) -> list[tuple[tuple[str, int], ...]]:
    """The batches that the paper's loop launches: (request, tokens run). One turn = launch all it can, wait for one."""
    pool: list[Pooled] = []
    batches: list[tuple[tuple[str, int], ...]] = []
    launched: deque[list[Pooled]] = deque()
    reserved, turn = 0, 0
    arrivals = deque(enumerate(jobs))

    def select() -> list[Pooled]:
        nonlocal reserved
        batch: list[Pooled] = []
        for request in [r for r in pool if r.state != "RUNNING"]:  # the pool is in order of arrival
            if len(batch) == max_bs:
                break
            if request.state == "INITIATION":
                if reserved + request.max_tokens > n_slots:
                    break
                reserved += request.max_tokens
            batch.append(request)
        return batch

    while arrivals or pool:
        while arrivals and arrivals[0][1].when <= turn:
            index, job = arrivals.popleft()
            assert job.params.max_tokens is not None
            pool.append(Pooled(f"r{index}", job.prompt, len(job.prompt) + job.params.max_tokens, job.params.stop_token_ids))
        while len(launched) < n_workers and (batch := select()):
            batches.append(tuple((r.name, 1 if r.tokens else len(r.prompt)) for r in batch))
            for request in batch:
                request.state = "RUNNING"
            launched.append(batch)
        turn += 1
        if not launched:
            continue
        for request in launched.popleft():
            request.tokens.append(next_token([*request.prompt, *request.tokens]))
            request.state = "INCREMENT"
            if request.tokens[-1] in request.stops or len(request.prompt) + len(request.tokens) == request.max_tokens:
                reserved -= request.max_tokens
                pool.remove(request)
    return batches


@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_batches_equal_algorithm_1(n_workers: int) -> None:
    for seed in range(fewer(150)):
        rng = random.Random(seed)
        max_bs, n_slots = rng.randint(1, 6), rng.randint(40, 150)
        jobs = random_jobs(rng, 20)
        limits = Limits(max_bs, max_batch_tokens=10_000, max_model_len=40)
        world = build_world(Orca(), lambda n=n_slots: Reservation(n, 1), depth=n_workers, limits=limits)
        run(world, jobs)
        ours = [tuple((chunk.request_id, len(chunk.tokens)) for chunk in batch.chunks) for batch in world.record.batches]
        assert ours == algorithm_1(jobs, n_workers, max_bs, n_slots)


@pytest.mark.parametrize("kv", ["max-length", "reservation", "paged"])
def test_iteration_level_fcfs(kv: str) -> None:
    """The paper's definition: of two requests in the pool, the earlier one has run at least as many iterations."""
    for seed in range(fewer(40)):
        jobs = random_jobs(random.Random(seed), 25)
        world = build_world(Orca(), kv, num_blocks=30)
        ran = {f"r{index}": 0 for index in range(len(jobs))}

        def check(step=world.engine.step, record=world.record, ran=ran):  # type: ignore[no-untyped-def]
            before = len(record.batches)
            events = step()
            for batch in record.batches[before:]:
                for chunk in batch.chunks:
                    ran[chunk.request_id] += 1
            pool = [name for name in record.submitted if name not in record.endings]
            assert all(ran[a] >= ran[b] for a, b in zip(pool, pool[1:], strict=False))
            return events

        world.engine.step = check  # type: ignore[method-assign]
        run(world, jobs)


def test_a_short_request_may_overtake_by_needing_fewer_iterations() -> None:
    long, short = (Job(0, (1, 2), SamplingParams(max_tokens=n, seed=0)) for n in (9, 1))
    world = build_world(Orca(), "reservation")
    run(world, [long, short])
    assert list(world.record.endings) == ["r1", "r0"]


def test_a_failed_reservation_blocks_everyone_behind_it() -> None:
    """`break`, not `continue`: the third request would fit, and must wait all the same."""
    sizes = (20, 20, 2)
    jobs = [Job(0, (1,), SamplingParams(max_tokens=size - 1, seed=0)) for size in sizes]
    world = build_world(Orca(), lambda: Reservation(30, 1))
    run(world, jobs)
    assert {chunk.request_id for chunk in world.record.batches[0].chunks} == {"r0"}
    first_of_third = next(i for i, b in enumerate(world.record.batches) if any(c.request_id == "r2" for c in b.chunks))
    last_of_first = max(i for i, b in enumerate(world.record.batches) if any(c.request_id == "r0" for c in b.chunks))
    assert first_of_third > last_of_first


def test_a_request_that_can_never_fit_is_rejected_at_once_and_blocks_no_other() -> None:
    jobs = [Job(0, (1,), SamplingParams(max_tokens=size, seed=0)) for size in (39, 3)]
    world = build_world(Orca(), lambda: Reservation(30, 1))
    run(world, jobs)
    ending = world.record.endings["r0"]
    assert ending.reason is Finish.REJECTED
    assert ending.error
    assert "30 tokens" in ending.error
    assert world.record.endings["r1"].reason is Finish.LENGTH
