"""The rule by which one side is better: equal sides have no winner, and a real difference is found."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.bench.compare import compare
from orcinus.bench.ranking import LEVEL, METRICS, RankingReason, chance, holm, least_chance, rank, rank_sum, repeats_for
from orcinus.bench.report.numbers import side_numbers
from orcinus.bench.result import Result
from orcinus.bench.summary import summarize
from tests.bench.made_up_runs import repeat, request, result, side
from tests.product import part

# Sizes, seed, and what scipy 1.17's mannwhitneyu(method="exact") finds.
MANN_WHITNEY = [
    ((5, 5), 0, 0.15079365079365079),
    ((7, 7), 1, 0.3828671328671329),
    ((10, 4), 2, 0.18781218781218784),
    ((30, 30), 3, 0.03997072710035605),
    ((3, 20), 4, 0.07566346696781479),
]
SAMPLES = st.lists(st.integers(0, 6), min_size=1, max_size=5)


@given(SAMPLES, SAMPLES)
def test_the_chance_is_that_of_all_ways_to_deal_the_values_out(a: list[int], b: list[int]) -> None:
    """Ties and all: held against counting."""
    values = [*a, *b]
    found = abs(rank_sum(a, b))
    ways = [
        abs(rank_sum([values[i] for i in chosen], [value for i, value in enumerate(values) if i not in chosen])) >= found
        for chosen in itertools.combinations(range(len(values)), len(a))
    ]
    assert chance(a, b) == pytest.approx(sum(ways) / len(ways))


@pytest.mark.parametrize(("sizes", "seed", "theirs"), MANN_WHITNEY)
def test_the_chance_is_that_of_the_exact_test(sizes: tuple[int, int], seed: int, theirs: float) -> None:
    rng = random.Random(seed)
    a, b = ([rng.gauss(shift, 1) for _ in range(size)] for size, shift in zip(sizes, (0, 0.8), strict=True))
    assert chance(a, b) == pytest.approx(theirs)
    assert chance(a, b) >= least_chance(*sizes)


def test_what_cannot_be_compared_is_pure_chance() -> None:
    assert chance([], [1.0]) == chance([float("nan")], [1.0]) == chance([2.0] * 9, [2.0] * 9) == 1.0


def test_holm() -> None:
    """The example of his paper's rule: the smallest counts for all, the next for one less, and none less than one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_repeats_that_can_tell_anything() -> None:
    """Two in a binomial coefficient: 2 / C(14, 7) = 0.00058, times 12 metrics less than 0.01."""
    assert [repeats_for(comparisons) for comparisons in (0, 1, 2, 4, 5, 12, 17, 18, 64, 65)] == [1, 5, 6, 6, 7, 7, 7, 8, 8, 9]


def run(rng: random.Random, number: int, slower: float = 1.0, noise: float = 0.05) -> object:
    """Eight requests of four tokens, each a little different, in a repeat that is as a whole a little different."""
    pace = slower * rng.lognormvariate(0, noise)
    made = []
    for which in range(8):
        gaps = [pace * rng.lognormvariate(0, noise) for _ in range(4)]
        made.append(request(which, 0.0, list(itertools.accumulate(gaps))))
    return repeat(*made, number=number)


def measured(seed: int, repeats: int, slower: float = 1.0, sides: int = 2, noise: float = 0.05) -> Result:
    rng = random.Random(seed)
    runs = [(f"side {which}", 1.0 if which == 0 else slower) for which in range(sides)]
    return result(*(side(name, *(run(rng, number, pace, noise) for number in range(repeats))) for name, pace in runs))  # type: ignore[arg-type]


def winners(found: Result) -> int:
    """On the page, and by `compare`."""
    page = sum(verdict.better is not None for side in side_numbers(found) for verdict in side.verdicts.values())
    said = sum(verdict.better is not None for verdict in compare(found, found, "side 0", "side 1"))
    if len(found.sides) == 2:
        assert page == said
    return page


@pytest.mark.parametrize(("repeats", "sides"), part((5, 4), full=[(5, 2), (7, 2), (7, 4), (10, 2), (10, 4)]))
def test_equal_sides_have_no_winner(repeats: int, sides: int) -> None:
    """Twenty benchmarks of a system against itself."""
    assert sum(winners(measured(seed, repeats, sides=sides)) for seed in range(20)) == 0


@pytest.mark.parametrize("repeats", part(8, full=[7, 12]))
def test_false_winners_are_as_seldom_as_the_level_says(repeats: int) -> None:
    """In a thousand families of twelve comparisons, which are independent here: the worst case."""
    rng, families = random.Random(repeats), 1000

    def values() -> list[float]:
        return [rng.lognormvariate(0, 1) for _ in range(repeats)]

    false = sum(min(holm([chance(values(), values()) for _ in METRICS])) <= 1 - LEVEL for _ in range(families))
    expected = (1 - LEVEL) * families
    assert false <= expected + 3 * expected**0.5


@pytest.mark.parametrize(("repeats", "noise"), [(8, 0.02), (14, 0.05)])
def test_a_fifth_slower_is_found(repeats: int, noise: float) -> None:
    """Every time, in what it makes slower, and never the other way round: the more noise, the more repeats it takes."""
    for seed in range(20):
        result = measured(seed, repeats, 1.2, noise=noise)
        found = {verdict.metric: verdict.better for verdict in compare(result, result, "side 0", "side 1")}
        assert {found[name] for name in ("request_throughput", "ttft.p50", "e2e.p50", "tpot.p50")} == {"a"}
        assert set(found.values()) <= {"a", None}


def test_five_repeats_are_said_to_be_too_few() -> None:
    one, other = summarize(measured(0, 5, slower=3.0).sides)
    ((*verdicts,),) = rank([(one, other)])
    assert {verdict.reason for verdict in verdicts} == {RankingReason.FEW}
    assert {verdict.why for verdict in verdicts} == {"more repeats are needed: measure both at least 7 times"}


def test_more_sides_need_more_repeats() -> None:
    """What seven repeats tell of two sides they do not tell of three."""
    assert winners(measured(0, 7, slower=3.0)) > 0
    assert winners(measured(0, 7, slower=3.0, sides=3)) == 0
    assert winners(measured(0, 8, slower=3.0, sides=3)) > 0
