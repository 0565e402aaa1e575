"""Numbers of a report: against whom, how they are judged, and how they are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.bench.compare import compare
from orcinus.bench.formatting import digits, slug, unit_of
from orcinus.bench.record import Iteration
from orcinus.bench.report.curves import curves
from orcinus.bench.report.markdown import markdown_table
from orcinus.bench.report.numbers import side_numbers
from orcinus.bench.report.pictures import choose
from orcinus.bench.report.tables import capacities, headline, outcomes, settings
from orcinus.bench.report.window import BARS, window
from orcinus.bench.result import Side
from tests.bench import made_up, made_up_runs
from tests.bench.made_up_runs import run_of
from tests.bench.report.pages import capacity, refused, sweep


def test_sides_are_compared_at_their_own_rate() -> None:
    found = side_numbers(sweep())
    assert [bool(side.summary.ratios) for side in found] == [False, True] * 3


def test_invalid_repeats_count_only_if_there_are_no_others() -> None:
    good, bad = made_up.side("orca"), made_up.side("sarathi", problems=("late",))
    one, other = side_numbers(made_up.result([good, bad]))
    assert (len(one.used), len(other.used)) == (3, 0)
    assert math.isnan(other.median("ttft.p50"))
    (alone,) = side_numbers(made_up.result([bad]))
    assert len(alone.used) == 3
    assert alone.median("ttft.p50") > 0


def test_promises_of_a_capacity_are_no_goodput() -> None:
    assert all("goodput" not in side.summary.intervals for side in side_numbers(capacity()))
    assert all("goodput" in side.summary.intervals for side in side_numbers(sweep()))


def seconds(name: str, *each: float) -> Side:
    return made_up_runs.side(name, *(run_of(one, number) for number, one in enumerate(each)))


FAST, SLOW = (1.0, 1.1, 1.2, 1.1, 1.0, 1.1, 1.2), (2.0, 2.1, 2.2, 2.1, 2.0, 2.1, 2.2)


@pytest.mark.parametrize(
    ("other", "latency", "throughput"),
    [
        (SLOW, "worse", "worse"),
        (FAST, "unclear", "unclear"),
        (SLOW[:5], "", ""),
        ((0.5, 0.6, 0.5, 0.6, 0.7, 0.6, 0.5), "better", "better"),
    ],
)
def test_better_is_said_only_if_it_is_sure(other: tuple[float, ...], latency: str, throughput: str) -> None:
    """On the page, in the table for a README and by `compare` alike."""
    result = made_up_runs.result(seconds("a", *FAST), seconds("b", *other))
    _, numbers = side_numbers(result)
    assert (numbers.judgement("e2e.p99"), numbers.judgement("output_throughput")) == (latency, throughput)
    assert numbers.judgement("iterations") == numbers.judgement("e2e.mean") == ""
    row = markdown_table(result, side_numbers(result)).splitlines()[3]
    assert row.rstrip("| ").endswith(latency or ")")
    verdicts = {verdict.metric: verdict.better for verdict in compare(result, result, "a", "b")}
    assert verdicts["e2e.p99"] == {"worse": "a", "better": "b"}.get(latency)
    assert verdicts == {metric: verdict.better for metric, verdict in numbers.verdicts.items()}


def test_figures_that_must_not_be_quoted_are_not_judged() -> None:
    bad = [made_up.side(name, repeats=7, problems=("late",), faster=faster) for name, faster in (("a", 1.0), ("b", 9.0))]
    assert [side.judgement("ttft.p50") for side in side_numbers(made_up.result(bad))] == ["", ""]


def test_curves_are_sides_that_differ_in_their_rate() -> None:
    found = curves(side_numbers(sweep()))
    assert [name for name, _ in found] == ["orca", "stall-free"]
    assert [len(points) for _, points in found] == [3, 3]
    assert {"ttft.p50", "ttft.p99", "tbt.p99", "normalized_latency"} == set(found[0][1][0].latencies)
    assert curves(side_numbers(made_up.result())) == []


def test_curves_without_a_system_are_named_by_what_sets_them_apart() -> None:
    sides = [
        made_up.side(f"{size} {rate}", repeats=1, settings={"policy": "sarathi", "chunk": size, "rate": rate})
        for size in (64, 128)
        for rate in (1, 2)
    ]
    assert [name for name, _ in curves(side_numbers(made_up.result(sides)))] == ["chunk=64", "chunk=128"]


def test_which_sides_are_shown_one_by_one() -> None:
    for result, names, said in (
        (sweep(), ["orca, 2/s", "stall-free, 2/s"], "at 2 requests per second"),
        (capacity(), ["orca, 2/s", "stall-free, 3/s"], "at its capacity"),
        (made_up.result(), ["orca", "stall-free"], ""),
    ):
        chosen, why = choose(result, side_numbers(result))
        assert [side.name for side in chosen] == names
        assert said in why


def test_the_window_is_around_the_longest_iteration() -> None:
    usual = [Iteration(at / 100, (at + 1) / 100, 1, 0, 1, 0, 1, 9) for at in range(1000)]
    assert window([("a", usual[:100])]).why == ""
    usual[700] = usual[700]._replace(returned=7.05)
    found = window([("a", usual), ("b", [])])
    assert found.start < 7.0 < 7.05 < found.end
    assert found.end - found.start == pytest.approx(BARS * 0.01)
    assert "0.0500 s from 7.00 s on, of a" in found.why


def test_endings_that_there_were_have_a_column() -> None:
    assert outcomes(side_numbers(made_up.result())).columns == ("side", "asked", "served")
    table = outcomes(side_numbers(refused()))
    assert table.columns == ("side", "asked", "served", "rejected")
    assert [cell.text for cell in table.rows[0][1]] == ["60", "0", "60"]


def test_settings_in_which_sides_differ_and_capacities() -> None:
    assert settings(made_up.result()).columns == ("side", "policy")
    assert settings(made_up.result([made_up.side("alone")])) is None
    assert [cells[0].text for _, cells in capacities(capacity()).rows] == ["2", "3"]
    assert capacities(made_up.result()) is None


def test_the_headline_says_how_sure_it_is() -> None:
    table = headline(side_numbers(made_up.result()))
    assert [row[1][-1].text for row in table.rows] == ["3", "3"]
    assert [row[1][-1].range for row in table.rows] == ["75 %", "75 %"]
    assert all(cell.ratio for cell in table.rows[1][1][:-1])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12, "12"), (12.04, "12.0"), (0.001234, "0.00123"), (12345.6, "12346"), (math.nan, "–"), (math.inf, "–")],
)
def test_three_digits(value: float, text: str) -> None:
    assert digits(value) == text


@given(st.floats(1e-6, 1e6))
def test_written_numbers_are_within_half_a_percent(value: float) -> None:
    assert float(digits(value)) == pytest.approx(value, rel=0.005)


def test_units_and_names_of_files() -> None:
    assert [unit_of([seconds])[0] for seconds in (2.0, 0.2, 2e-6, 0.0, math.nan)] == ["s", "ms", "µs", "ms", "ms"]
    assert unit_of([0.05, 12.0]) == ("ms", 1000)
    assert slug("../A b<c>") == "a-b-c"
    assert slug("…") == "run"
