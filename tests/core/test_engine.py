"""The loop: what it tells, what it refuses, and what it never does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from orcinus.core.batch import BatchResult, Finished
from orcinus.core.component_spec import make_policy
from orcinus.core.policies import Orca
from orcinus.core.request import Finish, Request, Status
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Grant, Limits, Selection, View
from orcinus.errors import ConfigError, PolicyError, RequestError, Stalled
from tests.worlds import MemoryExecutor, build_world

PARAMS = SamplingParams(max_tokens=4, seed=0)


def request(name: str = "r", prompt: tuple[int, ...] = (1, 2, 3), params: SamplingParams = PARAMS) -> Request:
    return Request(name, prompt, params, 0.0)


@dataclass(frozen=True)
class Lazy:
    """Selects nobody."""

    holds_answers: ClassVar[bool] = False

    def select(self, view: View) -> Selection:
        return Selection(())


@dataclass(frozen=True)
class Stutter:
    """Grants the same request twice."""

    holds_answers: ClassVar[bool] = False

    def select(self, view: View) -> Selection:
        return Selection([Grant(view.waiting[0]), Grant(view.waiting[0])])


def test_an_idle_engine_steps_without_effect() -> None:
    world = build_world(Orca(), "paged")
    assert world.engine.step() == []
    assert world.engine.idle


def test_a_policy_that_selects_nobody_is_reported_instead_of_spinning() -> None:
    world = build_world(Lazy(), "paged")
    world.engine.submit(request())
    with pytest.raises(Stalled, match="1 requests wait"):
        world.engine.step()


def test_a_policy_that_grants_twice_is_reported() -> None:
    world = build_world(Stutter(), "paged")
    world.engine.submit(request())
    with pytest.raises(PolicyError, match="granted before"):
        world.engine.step()


def test_an_id_in_use_is_refused_and_the_first_request_unharmed() -> None:
    world = build_world(Orca(), "paged")
    world.engine.submit(request())
    with pytest.raises(PolicyError, match="already in use"):
        world.engine.submit(request())
    while not world.engine.idle:
        world.engine.step()
    assert world.record.endings["r"].reason is Finish.LENGTH


def test_an_observer_that_raises_is_dropped_and_nothing_else_happens() -> None:
    class Broken:
        def on_submit(self, submitted: object) -> None:
            raise ZeroDivisionError

    world = build_world(Orca(), "paged")
    broken = Broken()
    world.engine.observers.insert(0, broken)  # type: ignore[arg-type]
    world.engine.submit(request())
    while not world.engine.idle:
        world.engine.step()
    assert [observer for observer, _ in world.engine.dropped_observers] == [broken]
    assert len(world.record.tokens["r"]) == 4


def test_a_row_that_fails_ends_its_request_and_no_other() -> None:
    class OneBadRow(MemoryExecutor):
        def collect(self) -> BatchResult:
            chunks = self.in_flight[0].chunks
            result = super().collect()
            return BatchResult(
                result.batch_id, result.tokens, errors={i: "no" for i, c in enumerate(chunks) if c.request_id == "bad"}
            )

    world = build_world(Orca(), "paged")
    world.engine.executor = OneBadRow(1, world.kv.block_size)
    world.engine.submit(request("bad"))
    world.engine.submit(request("good"))
    while not world.engine.idle:
        world.engine.step()
    assert world.record.endings["bad"].reason is Finish.FAILED
    assert world.record.endings["bad"].error == "no"
    assert world.record.tokens["bad"] == []
    assert world.record.endings["good"].reason is Finish.LENGTH
    assert world.kv.num_free == world.kv.num_blocks


def test_cancelling_in_flight_keeps_the_blocks_until_the_batch_returns() -> None:
    world = build_world(Orca(), "reservation", depth=2)
    world.engine.submit(request("a"))
    world.engine.dispatch()
    (ending,) = world.engine.cancel("a")
    assert isinstance(ending, Finished)
    assert world.kv.num_free < world.kv.num_blocks, "the executor may still write there"
    assert world.engine.cancel("a") == []
    assert world.engine.step() == []
    assert world.kv.num_free == world.kv.num_blocks
    assert world.engine.idle


def test_a_request_needs_a_prompt_and_a_known_length() -> None:
    with pytest.raises(RequestError, match="empty"):
        request(prompt=())
    with pytest.raises(RequestError, match="max_tokens"):
        request(params=SamplingParams(max_tokens=None))


def test_progress_is_one_number() -> None:
    one = request()
    assert (one.known, one.pending, one.max_known, one.decoding) == (3, 3, 7, False)
    one.computed, one.output = 3, [9]
    assert (one.known, one.pending, one.decoding) == (4, 1, True)
    assert one.tokens(2, 2) == (3, 9)
    assert one.tokens(3, 1) == (9,)
    assert one.tokens(0, 2) == (1, 2)
    assert one.status is Status.WAITING


def test_a_long_prompt_is_cut_when_no_iteration_could_carry_it_whole() -> None:
    world = build_world(Orca(), "paged", limits=Limits(4, max_batch_tokens=5, max_model_len=40))
    world.engine.submit(request(prompt=tuple(range(12))))
    while not world.engine.idle:
        world.engine.step()
    assert [len(batch.chunks[0].tokens) for batch in world.record.batches[:3]] == [5, 5, 2]
    assert [batch.chunks[0].samples for batch in world.record.batches[:3]] == [False, False, True]


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("fifo", "unknown policy 'fifo': choose request-level, fastertransformer, orca"),
        ("orca:x=1", "it has no options"),
        ("request-level:release", "its options are release"),
        ("request-level:release=never", "must be 'batch' or 'each'"),
    ],
)
def test_a_misspelled_policy_says_what_there_is(spelled: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy(spelled)
