"""The prefix cache: which blocks are shared and evicted, and that no token ever changes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.kv import PrefixCache
from orcinus.core.policies import Orca, StallFree
from orcinus.core.request import Finish, Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Reason
from orcinus.core.view import Limits
from tests.examples import examples
from tests.worlds import Job, World, build_world, check_all, random_jobs, run

PREFIX = tuple(range(10))


def job(prompt: tuple[int, ...], *, when: int = 0, output: int = 3, cancelled: int | None = None) -> Job:
    return Job(when, prompt, SamplingParams(max_tokens=output, seed=0), cancelled)


def request(prompt: tuple[int, ...], *, salt: str = "", name: str = "r") -> Request:
    return Request(name, prompt, SamplingParams(max_tokens=4), 0.0, RequestContext(cache_salt=salt))


def served(world: World, jobs: list[Job]) -> list[Request]:
    requests = run(world, jobs)
    check_all(world, jobs, requests)
    return requests


def found(world: World, request: Request) -> int:
    """Tokens that were found computed when the request was first admitted."""
    return next(chunk.start for batch in world.record.batches for chunk in batch.chunks if chunk.request_id == request.id)


def cache_of(world: World) -> PrefixCache:
    assert isinstance(world.kv, PrefixCache)
    return world.kv


def test_a_second_request_finds_the_full_blocks_of_the_first() -> None:
    world = build_world(Orca(), "prefix-cache", block_size=4)
    first, second, alike = served(world, [job((*PREFIX, 20)), job((*PREFIX, 30), when=9), job((*PREFIX, 20), when=20)])
    assert [found(world, one) for one in (first, second, alike)] == [0, 8, 8]
    assert cache_of(world).stats.hits == 16


def test_generated_text_is_found_too() -> None:
    """The next turn of a conversation begins with the answer to the last one."""
    world = build_world(Orca(), "prefix-cache", block_size=2)
    (first,) = served(world, [job(PREFIX, output=8)])
    again = Request("again", (*PREFIX, *first.output, 7), SamplingParams(max_tokens=2, seed=0), 0.0)
    world.engine.submit(again)
    while not world.engine.idle:
        world.engine.step()
    assert found(world, again) == 16  # all that was computed: the last token of an answer never is


def test_at_least_one_token_is_computed() -> None:
    world = build_world(Orca(), "prefix-cache", block_size=5)
    _, second = served(world, [job(PREFIX), job(PREFIX, when=9)])
    assert found(world, second) == 5


def test_who_begins_alike_waits_for_the_blocks_that_are_being_computed() -> None:
    """n samples of one prompt compute it once; a stranger behind them does not wait."""
    world = build_world(StallFree(20), "prefix-cache", block_size=4)
    jobs = [job(PREFIX), job(PREFIX), job(PREFIX), job((40, 41))]
    requests = served(world, jobs)
    assert [found(world, one) for one in requests] == [0, 8, 8, 0]
    reasons = [unserved.reasons for unserved in world.record.unserved]
    assert reasons[0]["r1"] is reasons[0]["r2"] is Reason.NOT_READY
    assert [chunk.request_id for chunk in world.record.batches[0].chunks] == ["r0", "r3"]


def test_a_cancelled_owner_leaves_the_others_to_compute() -> None:
    world = build_world(StallFree(2), "prefix-cache", block_size=4)
    _, second = served(world, [job(PREFIX, cancelled=2), job(PREFIX)])
    assert found(world, second) in (0, 4)
    assert world.record.endings["r1"].reason is Finish.LENGTH


@pytest.mark.parametrize(("salts", "found"), [(("", ""), 8), (("a", "a"), 8), (("a", "b"), 0), (("", "a"), 0)])
def test_tenants_do_not_share(salts: tuple[str, str], found: int) -> None:
    cache = PrefixCache(20, 4)
    one, two = (request(PREFIX, salt=salt, name=str(index)) for index, salt in enumerate(salts))
    cache.admit(one)
    one.computed = len(PREFIX)
    cache.commit(one)
    assert cache.admit(two) == found


def test_a_block_is_known_by_everything_before_it_too() -> None:
    cache = PrefixCache(20, 4)
    one, two = request((1, 1, 1, 1, 2, 2, 2, 2, 3), name="1"), request((9, 9, 9, 9, 2, 2, 2, 2, 3), name="2")
    cache.admit(one)
    one.computed = 9
    cache.commit(one)
    assert cache.admit(two) == 0


def test_the_least_recently_used_block_is_forgotten_first() -> None:
    cache = PrefixCache(4, 2, watermark=0)
    for name, tokens in (("a", (1, 1, 0)), ("b", (2, 2, 0))):
        one = request(tokens, name=name)
        cache.admit(one)
        one.computed = 2
        cache.commit(one)
        cache.release(one)
    again = request((1, 1, 5), name="again")  # uses `a`'s block, so that `b`'s is the oldest
    assert cache.admit(again) == 2
    cache.release(again)
    big = request((7, 7, 7, 7, 7), name="big")  # three blocks: two that were never used, and one that is remembered
    cache.admit(big)
    cache.release(big)
    assert cache.stats.evictions == 1
    assert cache.admit(request((2, 2, 6), name="b2")) == 0
    assert cache.admit(request((1, 1, 6), name="a2")) == 2


def test_equal_digests_of_different_tokens_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same:
        def __init__(self, data: bytes) -> None:
            pass

        def digest(self) -> bytes:
            return b"same"

    monkeypatch.setattr("orcinus.core.kv.prefix_cache.sha256", Same)
    world = build_world(Orca(), "prefix-cache")
    served(world, random_jobs(random.Random(2), 30))


def test_a_failed_request_leaves_nothing_behind_to_share() -> None:
    cache = PrefixCache(20, 4)
    one, two = request(PREFIX, name="1"), request(PREFIX, name="2")
    cache.admit(one)
    assert not cache.ready(two)
    cache.release(one)  # its iteration failed: nothing was committed
    assert cache.ready(two)
    assert cache.admit(two) == 0


@examples(80)
@given(st.integers(0, 2**32), st.integers(0, 12), st.sampled_from([1, 2, 4, 7]), st.sampled_from([1, 2, 3]))
def test_books_balance_under_sharing_preemption_and_cancellation(seed: int, spare: int, block_size: int, depth: int) -> None:
    num_blocks = -(-40 // block_size) + spare
    limits = Limits(4, 64, 40)
    world = build_world(StallFree(16), "prefix-cache", depth=depth, num_blocks=num_blocks, block_size=block_size, limits=limits)
    cache, step = cache_of(world), world.engine.step

    def audit():  # type: ignore[no-untyped-def]
        events = step()
        users = [sum(block in table for (table,) in cache._tables.values()) for block in range(num_blocks)]
        assert users == cache._users
        assert {block for block in range(num_blocks) if not users[block]} == {*cache._free, *cache._unused}
        assert len(cache._free) + len(cache._unused) == len({*cache._free, *cache._unused})
        assert {block: digest for digest, entry in cache._cached.items() for block in entry.blocks} == cache._digests
        assert set(cache._unused) <= set(cache._digests)
        assert not set(cache._free) & set(cache._digests)
        return events

    world.engine.step = audit  # type: ignore[method-assign]
    served(world, random_jobs(random.Random(seed), 25, cancels=True)[:25])
    assert not cache._computing
    assert not cache._chains


def test_the_random_workloads_do_hit_evict_and_preempt() -> None:
    """Or the test above would prove less than it says."""
    hits = evictions = preemptions = 0
    for seed in range(20):
        world = build_world(StallFree(16), "prefix-cache", num_blocks=11, limits=Limits(4, 64, 40))
        served(world, random_jobs(random.Random(seed), 25))
        hits += cache_of(world).stats.hits
        evictions += cache_of(world).stats.evictions
        preemptions += world.engine.scheduler.admission.preemptions
    assert hits > 200
    assert evictions > 100
    assert preemptions > 5
