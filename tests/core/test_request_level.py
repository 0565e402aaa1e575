"""Request-level batching as its users saw it."""

from __future__ import annotations

from orcinus.core.batch import Finished
from orcinus.core.policies import Orca, RequestLevel
from orcinus.core.request import Finish, Request
from orcinus.core.sampling_params import SamplingParams
from tests.worlds import Job, build_world, run


def jobs_of(*lengths: int) -> list[Job]:
    return [Job(0, (1, 2), SamplingParams(max_tokens=length, seed=0)) for length in lengths]


def test_a_batch_is_fixed_until_its_last_request_ends() -> None:
    world = build_world(RequestLevel(), "reservation")
    run(world, jobs_of(3, 1, 2, 1, 2))  # four fit a batch
    rows = [[chunk.request_id for chunk in batch.chunks] for batch in world.record.batches]
    assert rows == [["r0", "r1", "r2", "r3"], ["r0", "r2"], ["r0"], ["r4"], ["r4"]]


def test_answers_are_released_when_the_batch_has_ended() -> None:
    world = build_world(RequestLevel(), "reservation")
    requests = [Request(f"r{i}", job.prompt, job.params, 0.0) for i, job in enumerate(jobs_of(3, 1))]
    for request in requests:
        world.engine.submit(request)
    assert world.engine.step() == []
    assert world.engine.step() == []
    released = world.engine.step()
    assert [event.request_id for event in released if isinstance(event, Finished)] == ["r1", "r0"]
    assert len({event.at for event in released}) == 1


def test_each_answer_can_be_released_at_its_own_end() -> None:
    world = build_world(RequestLevel(release="each"), "reservation")
    for i, job in enumerate(jobs_of(3, 1)):
        world.engine.submit(Request(f"r{i}", job.prompt, job.params, 0.0))
    assert [event.request_id for event in world.engine.step() if isinstance(event, Finished)] == ["r1"]


def test_cancelling_a_held_answer_withdraws_it() -> None:
    world = build_world(RequestLevel(), "reservation")
    for i, job in enumerate(jobs_of(4, 1)):
        world.engine.submit(Request(f"r{i}", job.prompt, job.params, 0.0))
    world.engine.step()  # r1 has ended, its answer is held
    (ending,) = world.engine.cancel("r1")
    assert isinstance(ending, Finished)
    assert ending.reason is Finish.CANCELLED
    while not world.engine.idle:
        world.engine.step()
    assert world.record.tokens["r1"] == []
    assert len(world.record.tokens["r0"]) == 4


def test_switching_to_another_policy_releases_what_was_held() -> None:
    world = build_world(RequestLevel(), "reservation")
    for i, job in enumerate(jobs_of(9, 1)):
        world.engine.submit(Request(f"r{i}", job.prompt, job.params, 0.0))
    assert world.engine.step() == []
    world.engine.use(Orca())
    assert {event.request_id for event in world.engine.step()} == {"r0", "r1"}


def test_cancelling_the_last_that_runs_releases_the_others() -> None:
    world = build_world(RequestLevel(), "reservation")
    for i, job in enumerate(jobs_of(9, 1)):
        world.engine.submit(Request(f"r{i}", job.prompt, job.params, 0.0))
    world.engine.step()
    events = world.engine.cancel("r0")
    assert [(e.request_id, e.reason) for e in events if isinstance(e, Finished)] == [
        ("r0", Finish.CANCELLED),
        ("r1", Finish.LENGTH),
    ]
    assert world.engine.idle
