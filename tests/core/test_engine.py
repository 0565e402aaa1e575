"""The loop: what it tells, what it refuses, and what it never does."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from orcinus.core.batch import BatchResult, Event, Finished, Token
from orcinus.core.component_spec import make_policy
from orcinus.core.policies import Orca, StallFree
from orcinus.core.ports import Observer
from orcinus.core.request import Failure, Finish, FinishCode, Logprobs, Overlap, Request, Status
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import NO_OVERLAP
from orcinus.core.view import Grant, Limits, Selection, View
from orcinus.errors import ConfigError, PolicyError, RequestError, Stalled
from tests.worlds import OVERLAP, MemoryExecutor, build_world

PARAMS = SamplingParams(max_tokens=4, seed=0)


def request(name: str = "r", prompt: tuple[int, ...] = (1, 2, 3), params: SamplingParams = PARAMS) -> Request:
    return Request(name, prompt, params, 0.0)


@dataclass(frozen=True)
class Lazy:
    """Selects no request."""

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


def test_a_policy_that_selects_no_request_is_reported_instead_of_spinning() -> None:
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
                result.batch_id,
                result.tokens,
                errors={i: Failure(FinishCode.EXECUTOR_FAILED, "no") for i, c in enumerate(chunks) if c.request_id == "bad"},
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


@pytest.mark.parametrize("overlap", [NO_OVERLAP, OVERLAP])
def test_an_iteration_lasts_from_its_launch_or_from_the_end_of_the_one_it_had_to_wait_for(overlap: Overlap) -> None:
    """Batches that follow one another run one after the other; those of a pipeline overlap."""

    class Moments(Observer):
        def __init__(self) -> None:
            self.launches, self.ends = list[float](), list[float]()

        def on_batch(self, *told: Any) -> None:
            self.launches.append(told[-1])

        def on_step(self, *told: Any) -> None:
            self.ends.append(told[-1])

    world, moments, learnt = build_world(Orca(), "paged", depth=2, overlap=overlap), Moments(), list[float]()
    world.engine.observers.append(moments)
    world.engine.scheduler.step_time.learn = lambda batch, seconds: learnt.append(seconds)  # type: ignore[method-assign]
    for name in "ab":
        world.engine.submit(request(name))
    while not world.engine.idle:
        world.engine.step()
    before = [-math.inf, *moments.ends]
    began = [max(pair) for pair in zip(moments.launches, before, strict=False)] if overlap.decode else moments.launches
    assert learnt == [end - start for start, end in zip(began, moments.ends, strict=True)]
    assert (began != moments.launches) == overlap.decode


def test_a_prompt_that_is_read_twice_is_scored_once() -> None:
    """A request that is preempted in mid-prompt begins again: new scores take the place of the old ones."""

    class Scorer(MemoryExecutor):
        def collect(self) -> BatchResult:
            chunks, result = self.in_flight[0].chunks, super().collect()
            scored = {
                row: tuple(
                    Logprobs(float(token), 1, ()) for token in prompts[chunk.request_id][chunk.start + 1 : chunk.end + 1]
                )
                for row, chunk in enumerate(chunks)
                if chunk.start + 1 < len(prompts[chunk.request_id])
            }
            return replace(result, prompt_logprobs=scored)

    again = 0
    for seed in range(20):
        rng = random.Random(seed)
        prompts = {f"r{number}": tuple(rng.randrange(50) for _ in range(rng.choice([2, 24]))) for number in range(12)}
        world = build_world(StallFree(7), "paged", num_blocks=11)
        world.engine.executor = Scorer(1, world.kv.block_size)
        requests = [
            Request(name, prompt, SamplingParams(max_tokens=14, prompt_logprobs=0), 0.0) for name, prompt in prompts.items()
        ]
        for one in requests:
            world.engine.submit(one)
        events, computed = list[Event](), dict.fromkeys(prompts, 0)
        while not world.engine.idle:
            events += world.engine.step()
            again += sum(0 == one.computed < computed[one.id] < len(one.prompt) for one in requests)
            computed = {one.id: one.computed for one in requests}
        first = {event.request_id: event.prompt_logprobs for event in reversed(events) if isinstance(event, Token)}
        for name, prompt in prompts.items():
            assert [one.logprob for one in first[name] or ()] == list(prompt[1:])
        told = [event for event in events if isinstance(event, Token) and event.prompt_logprobs is not None]
        assert len(told) == len(prompts), "with the first token alone"
    assert again > 0, "or no prompt was read twice"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"prompt": ()}, "the prompt is empty"),
        ({"params": SamplingParams(seed=0, max_tokens=None)}, "max_tokens is not resolved"),
        ({"params": SamplingParams(seed=0, max_tokens=2), "output": [5, 6]}, "has 2 tokens already, of max_tokens 2"),
        ({"params": SamplingParams(seed=0, max_tokens=2, n=2)}, "make n requests for n answers"),
    ],
)
def test_a_request_that_no_engine_could_serve_is_refused(change: dict[str, Any], why: str) -> None:
    usual = {"id": "r", "prompt": (1, 2), "params": SamplingParams(seed=0, max_tokens=3), "arrival": 0.0, "output": [5]}
    assert Request(**usual).known == 3
    with pytest.raises(RequestError, match=why):
        Request(**usual | change)


def test_only_who_asks_is_told_of_the_prompt_s_log_probabilities() -> None:
    world = build_world(make_policy("orca"), "paged")
    world.engine.submit(Request("r", (1, 2, 3), SamplingParams(max_tokens=2, seed=0), 0.0))
    events = [event for _ in range(2) for event in world.engine.step()]
    assert [event.prompt_logprobs for event in events if isinstance(event, Token)] == [None, None]
