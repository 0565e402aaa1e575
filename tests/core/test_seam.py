"""What crosses the seam: deltas that come once, plain data, and little of it."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import Batch, BatchResult, Chunk, Event, NewRequest
from orcinus.core.component_spec import make_policy
from orcinus.core.executor_state import RequestState, accepted
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.core.request import Overlap, Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import NO_OVERLAP
from orcinus.core.view import Limits
from tests.examples import examples
from tests.worlds import OVERLAP, GuessingDrafter, World, build_world, check_all, random_jobs, run

LIMITS = Limits(max_batch_size=4, max_batch_tokens=64, max_model_len=40)


def fresh(name: str = "r", *, prompt: int = 3, output: int = 4, at: float = 0.0) -> Request:
    return Request(name, tuple(range(1, prompt + 1)), SamplingParams(max_tokens=output, seed=0), at)


def rebuilt(world: World) -> dict[str, RequestState]:
    """What executors must know, made from the engine's requests themselves."""
    scheduler = world.engine.scheduler
    known = [request for request in scheduler._requests.values() if request.sent is not None]
    made = {}
    for one in known:
        assert one.sent is not None
        made[one.id] = RequestState.of(NewRequest(one.id, one.prompt, tuple(one.output), one.params, one.context, one.sent))
    return made


def deltas(batch: Batch) -> tuple[list[str], list[str]]:
    return [new.request_id for new in batch.new], list(batch.removed)


# --- when: `new` with the first chunk, `removed` once the last batch was collected ---


def test_a_request_is_new_with_its_first_chunk_and_only_then() -> None:
    world = build_world(make_policy("stall-free:token_budget=2"), "paged", limits=LIMITS)
    world.engine.submit(fresh(prompt=3, output=2))
    while not world.engine.idle:
        world.engine.step()
    assert [deltas(batch) for batch in world.record.batches] == [(["r"], []), ([], []), ([], [])]
    (new,) = world.record.batches[0].new
    assert (new.prompt, new.output, new.blocks) == ((1, 2, 3), (), ((0,),))


def test_new_blocks_come_once_with_the_chunk_that_needs_them() -> None:
    world = build_world(make_policy("orca"), "paged", block_size=2, limits=LIMITS)
    world.engine.submit(fresh(prompt=3, output=5))
    while not world.engine.idle:
        world.engine.step()
    assert [chunk.new_blocks for batch in world.record.batches for chunk in batch.chunks] == [
        (), (), ((2,),), (), ((3,),)
    ]  # fmt: skip


@pytest.mark.parametrize("depth", [1, 3])
def test_who_ended_is_removed_with_the_first_batch_planned_after_its_last_was_collected(depth: int) -> None:
    world = build_world(make_policy("orca"), "paged", depth=depth, limits=LIMITS)
    world.engine.submit(fresh("short", output=1))
    world.engine.step()
    world.engine.submit(fresh("next", output=1))
    world.engine.step()
    assert [deltas(batch) for batch in world.record.batches] == [(["short"], []), (["next"], ["short"])]


def test_a_cancelled_request_is_removed_when_it_is_back() -> None:
    world = build_world(make_policy("orca"), "paged", depth=2, limits=LIMITS)
    world.engine.submit(fresh("a"))
    world.engine.dispatch()
    world.engine.cancel("a")
    world.engine.submit(fresh("b"))
    world.engine.dispatch()  # `a` is still in flight
    for _ in range(3):
        world.engine.step()
    assert [deltas(batch) for batch in world.record.batches[:3]] == [(["a"], []), (["b"], []), ([], ["a"])]


def test_one_batch_may_carry_an_id_as_removed_and_as_new() -> None:
    world = build_world(make_policy("orca"), "paged", limits=LIMITS)
    for prompt in (3, 7):
        world.engine.submit(fresh("r", prompt=prompt, output=1))
        world.engine.step()
    assert [deltas(batch) for batch in world.record.batches] == [(["r"], []), (["r"], ["r"])]
    assert world.record.known["r"].prompt_length == 7


def test_a_request_that_never_had_a_chunk_is_in_neither_list() -> None:
    world = build_world(make_policy("orca"), "paged", limits=Limits(1, 64, 40))
    world.engine.submit(fresh("a"))
    world.engine.submit(fresh("b"))
    world.engine.step()
    world.engine.cancel("b")
    while not world.engine.idle:
        world.engine.step()
    assert {name for batch in world.record.batches for names in deltas(batch) for name in names} == {"a"}


def test_a_preempted_request_is_removed_and_comes_back_new_with_its_output() -> None:
    world = build_world(make_policy("orca"), "paged", num_blocks=7, limits=LIMITS)
    for name in "ab":
        world.engine.submit(fresh(name, prompt=12, output=12))
    while not world.engine.idle:
        world.engine.step()
    assert world.engine.scheduler.admission.preemptions == 1
    removed = next(batch for batch in world.record.batches if "b" in batch.removed)
    again = [new for batch in world.record.batches for new in batch.new if new.request_id == "b"][1]
    assert removed.chunks
    assert len(again.output) >= 1
    assert list(again.output) == world.record.tokens["b"][: len(again.output)]


# --- derived: what executors keep is equal to a rebuild ---


@examples(120)
@given(
    st.sampled_from(list(POLICIES)),
    st.sampled_from(list(ORDERS)),
    st.sampled_from(list(KV_MANAGERS)),
    st.sampled_from([(1, NO_OVERLAP), (3, NO_OVERLAP), (2, OVERLAP), (2, Overlap(prefill=True))]),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_what_an_executor_keeps_is_equal_to_a_rebuild(
    policy: str, order: str, kv: str, flights: tuple[int, Overlap], seed: int, drafts: bool
) -> None:
    """Through preemption, cancellation in flight, prefix hits, rejected drafts and a switch of the policy."""
    depth, overlap = flights
    drafter = GuessingDrafter(seed) if drafts else None
    world = build_world(make_policy(policy), kv, depth=depth, overlap=overlap, order=order, num_blocks=13, drafter=drafter)
    executor, settle, rng = world.engine.executor, world.engine.settle, random.Random(seed)

    def audit() -> list[Event]:
        events = settle()
        if rng.random() < 0.1:
            world.engine.use(make_policy(rng.choice(list(POLICIES))))
        known = rebuilt(world)
        kept = {name: state for name, state in executor.requests.items() if name in known}  # type: ignore[attr-defined]
        for name, state in known.items():
            assert kept[name].blocks == state.blocks
            if not world.engine.scheduler._requests[name].finish:
                assert kept[name].tokens == state.tokens
                assert sorted(zip(kept[name].counts.ids, kept[name].counts.generated, strict=True)) == sorted(
                    zip(state.counts.ids, state.counts.generated, strict=True)
                )
        return events

    world.engine.settle = audit  # type: ignore[method-assign]
    jobs = random_jobs(rng, 20, cancels=True)
    check_all(world, jobs, run(world, jobs))
    assert len(executor.requests) <= len(jobs)  # type: ignore[attr-defined]


def test_states_forget_what_was_removed() -> None:
    world = build_world(make_policy("orca"), "paged", limits=LIMITS)
    for index in range(6):
        world.engine.submit(fresh(f"r{index}", output=1))
        world.engine.step()
    assert list(world.record.known) == ["r5"], "the last one stands until the next batch"


def test_a_request_that_is_submitted_again_goes_on_behind_its_output() -> None:
    whole = build_world(make_policy("orca"), "paged", limits=LIMITS)
    whole.engine.submit(fresh(output=6))
    while not whole.engine.idle:
        whole.engine.step()
    world = build_world(make_policy("orca"), "paged", limits=LIMITS)
    again = fresh(output=6)
    again.output = whole.record.tokens["r"][:2]
    world.engine.submit(again)
    while not world.engine.idle:
        world.engine.step()
    assert world.record.batches[0].new[0].output == tuple(whole.record.tokens["r"][:2])
    assert world.record.tokens["r"] == whole.record.tokens["r"][2:]


# --- plain data ---


PARAMS = SamplingParams(
    max_tokens=9, logit_bias={3: -1.5}, stop=("a", "b"), stop_token_ids=(4,), allowed_token_ids=(1, 2), seed=7,
    bad_words_token_ids=((5, 6),), logprobs=2, prompt_logprobs=0,
)  # fmt: skip
NEW = NewRequest("r", (1, 2), (3,), PARAMS, RequestContext(2, "me", "salt"), ((4, 5), (6, 7)))
BATCH = Batch(
    7,
    (
        Chunk("r", (1, 2), 0, ((), ()), None, True),
        Chunk("s", (0,), 9, ((8,), ()), 0, False, 6),
        Chunk("t", (1, 2), 9, ((), ()), 1),
    ),
    (NEW,),
    ("gone",),
)


def over_msgspec(value: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))


@pytest.mark.parametrize(
    "value", [PARAMS, SamplingParams(max_tokens=4), BATCH, Batch(1, ())], ids=["params", "plain", "batch", "empty"]
)
@pytest.mark.parametrize("way", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), over_msgspec])
def test_what_crosses_is_plain_data(value: Any, way: Callable[[Any], Any]) -> None:
    assert way(value) == value
    assert type(way(value)) is type(value)


def test_it_can_be_taken_apart() -> None:
    assert asdict(PARAMS)["logit_bias"] == {3: -1.5}
    assert asdict(BATCH)["removed"] == ("gone",)
    assert SamplingParams(**asdict(PARAMS)) == PARAMS


def steady_batch(requests: int, context: int) -> Batch:
    """A batch of decodes, each so far in its context, some iterations after they began; ids are as long as a server's."""
    limits = Limits(requests, requests * context, context * 2)
    world = build_world(make_policy("orca"), "paged", num_blocks=requests * context // 8, block_size=16, limits=limits)
    for number in range(requests):
        name = f"chatcmpl-{number:032x}-0"
        world.engine.submit(Request(name, (7,) * context, SamplingParams(max_tokens=99, seed=0), 0.0))
    for _ in range(3):
        planned = world.engine.scheduler.plan(0.0)
        assert planned is not None
        batch, _ = planned
        tokens = ((100_000,),) * len(batch.chunks)
        world.engine.scheduler.apply(batch, BatchResult(batch.id, tokens), 0.0)
    return batch


def test_a_batch_of_256_decodes_at_4096_tokens_is_small_on_the_wire() -> None:
    """16 KB; whole block tables alone would be 256 x 256 numbers."""
    batch = steady_batch(256, 4096)
    assert len(batch.chunks) == 256
    assert len(msgspec.msgpack.encode(batch)) < 16 * 1024


# --- drafts ---


@pytest.mark.parametrize(
    ("drafts", "drawn", "holds"),
    [
        ((), (7,), (7,)),
        ((4, 5), (4, 5, 6), (4, 5, 6)),
        ((4, 5), (4, 9, 6), (4, 9)),
        ((4, 5), (9, 5, 6), (9,)),
        ((4, 5), (4,), (4,)),  # the row behind the first draft failed
        ((4, 5), (4, 5), (4, 5)),  # the last row failed
    ],
)
def test_drawn_tokens_hold_up_to_the_first_that_differs(
    drafts: tuple[int, ...], drawn: tuple[int, ...], holds: tuple[int, ...]
) -> None:
    assert accepted(Chunk("r", (1, *drafts), 8, drafts=len(drafts)), drawn) == holds
