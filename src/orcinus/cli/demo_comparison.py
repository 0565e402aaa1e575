"""The closing table of the demo: medians, and ratios beyond the noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from orcinus.bench.ranking import LEVEL, chance, holm, repeats_for
from orcinus.cli.demo_run import Run
from orcinus.observe.latency import mean, percentile

COUNTED = ("iterations", "slot use")  # counted, not measured: a difference there is no noise
FORMS = {
    "iterations": "{:.0f}",
    "slot use": "{:.0f} %",
    "TTFT mean": "{:.0f} ms",
    "TTFT p99": "{:.0f} ms",
    "TBT p99": "{:.1f} ms",
    "TBT max": "{:.1f} ms",
    "E2E mean": "{:.0f} ms",
    "E2E p99": "{:.0f} ms",
    "output throughput": "{:.0f} tokens/s",
}
Values = Mapping[str, Sequence[float]]  # figure -> one value a round


def comparison(rounds: Sequence[Sequence[Run]], console: Console) -> RenderableType:
    """The table and its notes; `rounds` have a run of each policy."""
    runs = [run for one in rounds for run in one]
    columns = [_values([one[place] for one in rounds]) for place in range(len(rounds[0]))]
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.ASCII2, title_justify="left")
    table.add_column("")
    for run in rounds[0]:
        table.add_column(run.policy, justify="right", overflow="fold")
    clear = set(_clear(columns))
    for name in FORMS:
        table.add_row(name, *(_cell(name, columns, place, (place, name) in clear) for place in range(len(columns))))
    same = all(run.token_ids == rounds[0][0].token_ids for run in runs)
    notes = [f"The answers {'are the same, token by token' if same else 'DIFFER between the policies'}.", _sureness(columns)]
    notes += [f"{run.policy} hands an answer out when its whole batch has ended." for run in rounds[0] if run.held]
    return Group(table, *(Text(note) for note in notes if note))


def _values(runs: Sequence[Run]) -> Values:
    figures = [_figures(run) for run in runs]
    return {name: [figure[name] for figure in figures] for name in FORMS}


def _figures(run: Run) -> dict[str, float]:
    """The figures of one run; NaN for unknown ones."""
    ttft, e2e, tbt = run.latency.ttft(), run.latency.e2e(), [] if run.held else run.latency.tbt()
    return {
        "iterations": len(run.slots.columns),
        "slot use": run.slots.use * 100,
        "TTFT mean": mean(ttft) * 1e3,
        "TTFT p99": percentile(ttft, 99) * 1e3,
        "TBT p99": percentile(tbt, 99) * 1e3,
        "TBT max": percentile(tbt, 100) * 1e3,
        "E2E mean": mean(e2e) * 1e3,
        "E2E p99": percentile(e2e, 99) * 1e3,
        "output throughput": run.latency.output_throughput(),
    }


def _measured(columns: Sequence[Values]) -> list[tuple[int, str]]:
    """Columns and figures to compare with the first policy."""
    return [
        (place, name)
        for place in range(1, len(columns))
        for name in FORMS
        if name not in COUNTED and not any(map(math.isnan, (*columns[0][name], *columns[place][name])))
    ]


def _clear(columns: Sequence[Values]) -> Iterator[tuple[int, str]]:
    """Columns and figures whose difference exceeds the noise."""
    for place, column in enumerate(columns):
        yield from ((place, name) for name in COUNTED if not set(column[name]) & set(columns[0][name]))
    measured = _measured(columns)
    chances = holm([chance(columns[0][name], columns[place][name]) for place, name in measured])
    yield from (one for one, found in zip(measured, chances, strict=True) if found <= 1 - LEVEL)


def _cell(name: str, columns: Sequence[Values], place: int, clear: bool) -> str:
    first, own = median(columns[0][name]), median(columns[place][name])
    text = "-" if math.isnan(own) else FORMS[name].format(own)
    return f"{text} ({own / first:.2f}x)" if clear and first else text


def _sureness(columns: Sequence[Values]) -> str:
    """The basis of the ratios, or why there are none."""
    measured, repeats = _measured(columns), len(columns[0]["iterations"])
    if not measured:
        return ""
    needed = repeats_for(len(measured))
    if repeats < needed:
        rounds = "One round" if repeats == 1 else f"Medians of {repeats} rounds in turn"
        return f"{rounds}: to tell a difference from noise takes --repeats {needed}."
    return f"Medians of {repeats} rounds in turn; without a ratio there is no difference beyond the noise."
