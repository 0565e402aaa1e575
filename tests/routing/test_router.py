"""Routers over loads that are plain numbers, as a server has them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from orcinus.core.component_spec import make
from orcinus.errors import ConfigError
from orcinus.routing.router import ROUTERS, Load, Router


@dataclass
class Counts:
    outstanding: int = 0
    queued_tokens: int = 0
    answer_tokens: int = 0


def router(spelled: str) -> Router[Load]:
    return make("router", ROUTERS, spelled)


def test_round_robin_looks_at_no_load() -> None:
    turns = router("round-robin")
    assert [turns.choose(None, [Counts(9), Counts(), Counts()]) for _ in range(4)] == [0, 1, 2, 0]


@pytest.mark.parametrize("spelled", [name for name in ROUTERS if name != "round-robin"])
def test_of_equal_loads_the_first_is_chosen(spelled: str) -> None:
    assert router(spelled).choose(None, [Counts(2, 5, 9), Counts(1, 5, 8), Counts(1, 5, 8)]) == 1


def test_least_outstanding_counts_requests() -> None:
    assert router("least-outstanding").choose(None, [Counts(3, 0), Counts(2, 9000)]) == 1


def test_least_work_adds_an_average_answer_for_each_request_to_the_queued_prompts() -> None:
    loads = [Counts(3, 0), Counts(2, 150)]
    assert router("least-work:answer=151").choose(None, loads) == 1  # 453 against 452
    assert router("least-work:answer=149").choose(None, loads) == 0  # 447 against 448


def test_least_work_counts_what_requests_may_still_generate_unless_it_is_told_an_average() -> None:
    loads = [Counts(1, 100, 51), Counts(9, 0, 150)]
    assert router("least-work").choose(None, loads) == 1  # 151 against 150
    assert router("least-work:answer=20").choose(None, loads) == 0  # 120 against 180


def test_a_prefix_stays_at_home_until_home_has_more_than_its_share() -> None:
    affine = router("prefix-affine:slack=1.5")
    loads = [Counts(1), Counts(0), Counts(1)]
    assert affine.choose("a", loads) == 1
    loads[1].outstanding = 4  # 1.5 times the average of 2, and one more
    assert affine.choose("a", loads) == 1
    loads[1].outstanding = 5
    assert [affine.choose("a", loads), affine.choose("b", loads), affine.choose(None, loads)] == [0, 0, 0]
    loads[0].outstanding, loads[1].outstanding = 3, 0
    assert affine.choose("a", loads) == 0  # its home since then
    assert affine.choose(None, loads) == 1  # no prefix, no home


def test_the_oldest_prefix_is_forgotten() -> None:
    affine = router("prefix-affine:remembered=1")
    assert affine.choose("a", [Counts(1), Counts(0)]) == 1
    assert affine.choose("b", [Counts(1), Counts(0)]) == 1
    assert affine.choose("a", [Counts(0), Counts(0)]) == 0


@pytest.mark.parametrize("spelled", ["prefix-affine:slack=0.5", "prefix-affine:remembered=0", "least-work:answer=-1"])
def test_impossible_options_are_refused(spelled: str) -> None:
    with pytest.raises(ConfigError, match=spelled.split(":")[1].split("=")[0]):
        router(spelled)
