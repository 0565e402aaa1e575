"""The table, the page and the figures of reproduced experiments."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from orcinus.errors import ConfigError
from orcinus.observe.interval import Interval
from orcinus.papers.findings import Comparison, Finding, Number, NumberSource, Ordering, over_seeds, within
from orcinus.papers.page import page, tally
from orcinus.papers.simulated import BESIDES, ROWS, choose
from orcinus.papers.simulated.experiment import Experiment, Scope
from orcinus.plots.figures import Curve, Figure, Panel, draw_figure
from tests.commands import orcinus

TABLE = [1, 2, 3, 4, 5, 6, 7, 9, 10, 13, 14, 15, 16, 17, 18, 20, 21, 23, 24, 25, 26, 27, 30]
PANEL = Panel("two", "x", "y", [Curve("ours", [(1, 1.0), (2, 2.0)]), Curve("ours", [(1, 1.1), (2, 2.1)], published=True)])


def row(number: int, *comparisons: Comparison, skipped: str | None = None) -> tuple[Experiment, Finding]:
    found = Finding(comparisons, notes=["Because."], skipped=skipped, figures=[Figure("example", "An example", [PANEL])])
    return Experiment(
        number,
        "A paper",
        f"Fig. {number}",
        "Something.",
        "5 %",
        "nothing",
        NumberSource.VECTOR,
        lambda: found,
        Scope.RUN,
        "a100-80g",
    ), found


def test_every_row_of_the_acceptance_table_is_there_once() -> None:
    assert [each.number for each in ROWS if each.number != BESIDES] == TABLE


def test_what_is_within_and_what_is_not() -> None:
    assert within("a", 100, 105, 0.05).passed
    assert not within("a", 100, 105.1, 0.05).passed
    assert Number("a", 100, 120, -0.10, 0.25).passed
    assert not Number("a", 100, 89, -0.10, 0.25).passed
    assert not within("a", 100, float("nan"), 0.05).passed
    assert not Ordering("a < b", False).passed


def test_misses_and_skipped_rows_stay_visible() -> None:
    rows = [
        row(1, within("a", 100, 101, 0.05)),
        row(2, within("b", 100, 150, 0.05), Ordering("c < d", False)),
        row(3, skipped="No data."),
    ]
    text = page(rows)
    assert "1 of 3 experiments pass. 1 skipped." in text
    assert "| a | 100 | 101 | +1.0% | pass |" in text
    assert "| b | 100 | 150 | +50.0% | **miss** |" in text
    assert "| c < d | | | | **does not hold** |" in text
    assert "Skipped: No data." in text
    assert "![An example](pictures/papers/example.svg)" in text


@pytest.mark.parametrize(("simulated", "times"), [(671.0, "6.7"), (42.0, "0.4")])
def test_a_number_that_only_keeps_a_bound_is_shown_as_that(simulated: float, times: str) -> None:
    bounds = (-0.5, None) if simulated > 100 else (None, 0.5)
    rows = [row(1, within("a", 100, 101, 0.05)), row(2, within("a", 1, 1, 0.1), Number("b", 100, simulated, *bounds))]
    said = f"one-sided bound kept, at {times} times the published"
    text = page(rows)
    assert "2 of 2 experiments pass, 1 of them only because a bound is one-sided." in text
    assert f"| b | 100 | {simulated:g} | {simulated - 100:+.1f}% | {said} |" in text
    (overview,) = [line for line in text.splitlines() if line.startswith("| 2 | ")]
    assert overview.endswith(f"| {said} |")
    assert f"**{said}**" in text
    assert not Number("b", 100, 149, -0.5, None).only_bound, "no further off than it might be below"
    assert not Number("b", 100, 700, -0.5, 0.5).only_bound, "a miss"
    assert not Number("b", 100, 124, -0.1, 0.25).only_bound, "bounded on both sides"


def test_several_seeds_are_a_median_with_its_interval() -> None:
    seeds = [Finding([within("a", 100, each, 0.05, "ms"), Ordering("b", each < 107)], ["first"]) for each in (106, 101, 103)]
    found = over_seeds(seeds)
    number, ordering = found.comparisons
    assert isinstance(number, Number)
    assert (number.simulated, number.interval) == (103, Interval(103, 101, 106, 0.75))
    assert number.passed
    assert not number.sure, "one seed is out of tolerance"
    text = page([(row(1)[0], found)])
    assert "| a | 100 ms | 103 ms (101 to 106) | +3.0% | pass, not for every seed |" in text
    assert ordering == Ordering("b", True)
    (_, split) = over_seeds([*seeds, Finding([within("a", 100, 107, 0.05), Ordering("b", False)])]).comparisons
    assert split == Ordering("b (for 3 of 4 seeds)", False)
    assert over_seeds(seeds[:1]).comparisons[0] == replace(seeds[0].comparisons[0], interval=Interval(106, 106, 106, 0.0))


def test_rows_that_depend_on_chance_take_a_seed() -> None:
    asked: list[int] = []

    def run(seed: int = -1) -> Finding:
        asked.append(seed)
        return Finding([within("a", 100, 100 + seed, 0.05)])

    lucky = replace(row(1)[0], run=run, chance=True)
    assert [each.published for each in lucky.over(3).comparisons if isinstance(each, Number)] == [100]
    replace(lucky, chance=False).over(3)
    assert asked == [0, 1, 2, -1]
    assert [each.number for each in ROWS if each.chance] == [5, 6, 7, 9, 10, 13, 23, 26, 27, 0, 0, 0]


def test_no_row_of_the_committed_page_passes_in_silence_by_being_far_off() -> None:
    text = (Path(__file__).parents[2] / "docs/papers.md").read_text(encoding="utf-8")
    far = [line for line in text.splitlines() if re.search(r"\| \+[1-9]\d\d\.\d% \|", line)]
    assert far
    assert all("bound kept, at" in line or "miss" in line for line in far)


def test_links_of_the_overview_lead_to_the_sections() -> None:
    text = page([row(1, within("a", 1, 1, 0.1))])
    (anchor,) = re.findall(r"\(#([^)]*)\)", text)
    (heading,) = re.findall(r"^### (.*)$", text, re.M)
    assert anchor == "".join(c for c in heading.lower() if c.isalnum() or c in " -_").replace(" ", "-")


def test_the_committed_page_is_of_these_rows() -> None:
    text = (Path(__file__).parents[2] / "docs/papers.md").read_text(encoding="utf-8")
    for each in ROWS:
        assert each.figure in text
    for name in re.findall(r"\((pictures/papers/[^)]*)\)", text):
        assert (Path(__file__).parents[2] / "docs" / name).is_file()
    assert tally([]) == "0 of 0 experiments pass."


@pytest.mark.parametrize("bars", [False, True])
def test_figures_are_drawn(tmp_path: Path, bars: bool) -> None:
    panels = [Panel("p", "x", "y", PANEL.curves, bars=bars, log_x=not bars)] * 4
    draw_figure(tmp_path / "figure.svg", Figure("figure", "Four panels", panels))
    assert (tmp_path / "figure.svg").read_text().count("<path") > 20


def test_a_row_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no row 8: choose among 1, 2"):
        choose([8])
    assert [each.number for each in choose([14, 4])] == [4, 14]


def test_the_command_runs_rows_and_says_so(tmp_path: Path) -> None:
    done = orcinus("reproduce", "4", "14")
    assert done.returncode == 0
    assert "2 of 2 experiments pass." in done.stdout
    assert "234.8" in done.stdout


def test_the_command_writes_the_page_of_what_it_ran(tmp_path: Path) -> None:
    assert orcinus("reproduce", "1", "--write", str(tmp_path)).returncode == 0
    assert "### Row 1: Fig. 9a" in (tmp_path / "papers.md").read_text()
    assert (tmp_path / "pictures/papers").is_dir()


@pytest.mark.parametrize(
    ("arguments", "said"), [(("8",), "there is no row 8"), (("4", "--write", "/nowhere"), "is not a folder")]
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    done = orcinus("reproduce", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
