"""Drafts by prompt lookup: equal to a naive search, in bounded steps, and no token changes."""

from __future__ import annotations

import gc
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.component_spec import make_drafter, make_policy
from orcinus.core.drafters.ngram import CATCH_UP, Ngram
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES
from orcinus.core.request import Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.errors import ConfigError
from tests.examples import examples
from tests.product import product
from tests.worlds import OVERLAP, Job, build_world, check_all, random_jobs, run

PERIOD = 3


def request(prompt: list[int], output: list[int]) -> Request:
    made = Request("r", tuple(prompt), SamplingParams(max_tokens=10_000, seed=0), 0.0)
    made.output += output
    return made


def naive(tokens: list[int], sizes: range, count: int) -> tuple[int, ...]:
    """The definition, by a search of the whole text for every length."""
    for size in sizes:
        for end in range(len(tokens) - 1, size - 1, -1):
            if tokens[end - size : end] == tokens[len(tokens) - size :]:
                copied = list(tokens)
                for place in range(count):
                    copied.append(copied[end + place])
                return tuple(copied[len(tokens) :])
    return ()


TEXTS = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@examples(200)
@given(TEXTS, st.lists(TEXTS, max_size=3), st.integers(1, 4), st.integers(0, 2), st.integers(1, 6), st.integers(0, 7))
def test_drafts_are_those_of_the_naive_search(
    prompt: list[int], outputs: list[list[int]], least: int, more: int, count: int, most: int
) -> None:
    """Also after a text that grew by several tokens at once."""
    drafter = Ngram(k=count, max_n=least + more, min_n=least)
    one = request(prompt, [])
    drafter.draft(one, 0)
    for output in ([], *outputs):
        one.output += output
        lookup = drafter._lookups[one]
        lookup.drafts, lookup.earned = (), count
        expected = naive([*one.prompt, *one.output], range(least + more, least - 1, -1), min(count, most))
        assert drafter.draft(one, most) == expected


def test_a_long_prompt_is_indexed_in_pieces() -> None:
    drafter, one = Ngram(k=2), request([7, 8, 9, *range(10, 10 + 3 * CATCH_UP), 7, 8], [9])
    found = []
    for _ in range(5):
        found.append(drafter.draft(one, 4))
        assert drafter._lookups[one].indexed <= len(found) * CATCH_UP
    assert found == [(), (), (), (10,), (10,)]


def test_a_request_earns_its_drafts() -> None:
    """Twice as many as were right last time."""
    drafter, one = Ngram(k=5, min_n=1), request([1, 2, 1], [2])
    given = []
    for right in (1, 2, 3, 5, 5, 0, 0):
        drafts = drafter.draft(one, 9)
        given.append(len(drafts))
        loop = [1, 2, 1, 2, 1, 2] if one.output[-1] == 2 else [2, 1, 2, 1, 2, 1]
        one.output += loop[:right] if right else [7 + len(one.output), 1, 2]
    assert given == [1, 2, 4, 5, 5, 5, 1]


def test_drafts_that_were_not_run_count_as_far_as_they_were_right() -> None:
    drafter, one = Ngram(k=8, min_n=1), request([1, 2, 3, 1, 2, 3, 1, 2], [3])
    drafter.draft(one, 8)
    drafter._lookups[one].earned = 8
    assert len(drafter.draft(one, 8)) == 8
    one.output += [1]
    assert drafter.draft(one, 8) == (2, 3)


def test_the_index_goes_with_its_request() -> None:
    drafter, one = Ngram(), request([1, 2, 1], [2])
    drafter.draft(one, 4)
    assert len(drafter._lookups) == 1
    del one
    gc.collect()
    assert len(drafter._lookups) == 0


@pytest.mark.parametrize(
    ("spelled", "says"),
    [
        ("ngrams", "unknown drafter 'ngrams': choose none, ngram"),
        ("none:k=1", "drafter 'none' cannot take 'k=1': it has no options"),
        ("ngram:n=2", "its options are k, max_n, min_n, max_batch"),
        ("ngram:k=0", "k of the drafter 'ngram' must be at least 1, not 0"),
        ("ngram:min_n=4", "min_n of the drafter 'ngram' must be at most max_n, not 4 with max_n 3"),
    ],
)
def test_a_wrong_word_is_one_line(spelled: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_drafter(spelled)


def looping(jobs: list[Job]) -> list[Job]:
    """The same requests with prompts that loop."""
    return [Job(one.when, (one.prompt * 9)[:24], one.params, one.cancelled_at, one.context) for one in jobs]


@pytest.mark.parametrize(("policy", "kv", "depth"), product(POLICIES, KV_MANAGERS, (1, 2)))
def test_tokens_are_those_without_drafts(policy: str, kv: str, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def parrot(sequence: list[int]) -> int:
        """What came `PERIOD` tokens ago, and now and then another token."""
        return sequence[-PERIOD] if len(sequence) >= PERIOD and len(sequence) % 11 else len(sequence) % 50

    monkeypatch.setattr("tests.worlds.next_token", parrot)
    overlap = OVERLAP if depth == 2 else OVERLAP._replace(prefill=False, decode=False)
    drafter = Ngram(k=3, max_n=2, min_n=1, max_batch=3)
    world = build_world(make_policy(policy), kv, depth=depth, overlap=overlap, num_blocks=20, drafter=drafter)
    jobs = looping(random_jobs(random.Random(3), 16, cancels=True))
    check_all(world, jobs, run(world, jobs))
    chunks = [chunk for batch in world.record.batches for chunk in batch.chunks if chunk.drafts]
    assert len(chunks) > 10 or policy == "fastertransformer", "or this test would say nothing"
    assert all(chunk.drafts is not None and chunk.drafts <= 3 for chunk in chunks)


@pytest.mark.parametrize(("allowed", "drafts"), [(1, False), (2, True)])
def test_while_many_requests_run_there_are_no_drafts(allowed: int, drafts: bool) -> None:
    world = build_world(make_policy("orca"), "paged", drafter=Ngram(min_n=1, max_batch=allowed))
    params = SamplingParams(max_tokens=8, seed=0)
    run(world, [Job(0, (1, 2) * 8, params), Job(0, (3, 4) * 8, params)])
    both = [batch for batch in world.record.batches if len(batch.chunks) == 2]
    assert any(chunk.drafts for batch in both for chunk in batch.chunks) is drafts


def test_drafts_leave_each_running_request_a_token_of_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.worlds.next_token", lambda sequence: sequence[-1])
    limits = Limits(max_batch_size=4, max_batch_tokens=7, max_model_len=40)
    world = build_world(make_policy("orca"), "paged", drafter=Ngram(k=9, min_n=1), limits=limits)
    run(world, [Job(0, (place,), SamplingParams(max_tokens=30, seed=0)) for place in range(4)])
    sizes = [len(batch.chunks) for batch in world.record.batches]
    assert sizes == sorted(sizes, reverse=True), "no request waits while drafts run"
    assert any(chunk.drafts for batch in world.record.batches if len(batch.chunks) == 4 for chunk in batch.chunks)
