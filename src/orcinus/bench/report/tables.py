"""The tables of a page, as text for a template's cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orcinus.bench.formatting import NOTHING, count, digits, unit_of
from orcinus.bench.measure import metrics
from orcinus.bench.record import RequestOutcome
from orcinus.bench.report.numbers import SideNumbers
from orcinus.bench.result import Result
from orcinus.bench.validity import not_served
from orcinus.errors import plural
from orcinus.observe.interval import Interval

MARKS = {"better": "▲ better", "worse": "▼ worse", "unclear": "≈ unclear", "": ""}


@dataclass(frozen=True, slots=True)
class TableCell:
    """A number, its interval, and its ratio to the first side."""

    text: str
    range: str = ""
    ratio: str = ""
    mark: str = ""
    judgement: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Named rows of cells; `columns` name all columns, `caption` the table."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[TableCell, ...]], ...]


Columns = Sequence[tuple[str, str]]  # metric, heading

HEADLINE: Columns = (
    ("request_throughput", "requests/s"),
    ("output_throughput", "output tokens/s"),
    ("ttft.p50", "TTFT p50"),
    ("ttft.p99", "TTFT p99"),
    ("tbt.p50", "TBT p50"),
    ("tbt.p99", "TBT p99"),
)
THROUGHPUT: Columns = (
    ("request_throughput", "requests/s"),
    ("prompt_throughput", "prompt tokens/s"),
    ("output_throughput", "output tokens/s"),
    ("total_throughput", "all tokens/s"),
    ("goodput", "goodput (requests/s)"),
)
PARTS: Columns = (("mean", "mean"), ("p50", "p50"), ("p95", "p95"), ("p99", "p99"))
LATENCIES = (
    ("ttft", "Time to first token (TTFT)"),
    ("tbt", "Time between tokens (TBT)"),
    ("tpot", "Time per output token after the first (TPOT)"),
    ("e2e", "End-to-end latency (E2E)"),
)
ENGINE: Columns = (("iterations", "iterations"), ("slot_use", "slot use"), ("prefix_hit_rate", "prefix hit rate"))
REPEAT: Columns = (("requests", "served"), *HEADLINE, ("e2e.p50", "E2E p50"), ("e2e.p99", "E2E p99"))


def headline(sides: Sequence[SideNumbers]) -> Table:
    """The most important numbers, and how often they were measured."""
    shown = _present(sides, HEADLINE)
    units = [_unit(sides, metric, [name for name, _ in HEADLINE]) for metric, _ in shown]
    headings = tuple(f"{heading} ({unit})" if unit else heading for (_, heading), (unit, _) in zip(shown, units, strict=True))
    rows = []
    for side in sides:
        cells = [_cell(side, metric, scale) for (metric, _), (_, scale) in zip(shown, units, strict=True)]
        rows.append((side.name, (*cells, _repeats(side))))
    return Table("At a glance", ("side", *headings, "repeats"), tuple(rows))


def _unit(sides: Sequence[SideNumbers], metric: str, beside: Sequence[str]) -> tuple[str, float]:
    """A common unit for the statistics of a latency.

    None for other metrics.
    """
    if not _is_latency(metric):
        return "", 1.0
    parts = [name for name in beside if name.partition(".")[0] == metric.partition(".")[0]]
    return unit_of(side.median(part) for side in sides for part in parts)


def details(sides: Sequence[SideNumbers]) -> list[Table]:
    """Every metric, in groups, without empty groups and columns."""
    found = [_table("Throughput", sides, THROUGHPUT)]
    for latency, title in LATENCIES:
        columns = [(f"{latency}.{part}", heading) for part, heading in PARTS]
        unit, scale = _unit(sides, columns[0][0], [metric for metric, _ in columns])
        found.append(_table(f"{title}, {unit}", sides, columns, scale))
    return [table for table in (*found, _table("Engine", sides, [*ENGINE, *_counters(sides)])) if len(table.columns) > 1]


def outcomes(sides: Sequence[SideNumbers]) -> Table:
    """Counts of how requests ended, over all repeats; zeros left out."""
    ended = {side.name: not_served(side.side) for side in sides}
    shown = [outcome for outcome in RequestOutcome if any(outcome in some for some in ended.values())]
    rows = []
    for side in sides:
        total, own = sum(len(repeat.requests) for repeat in side.side.repeats), ended[side.name]
        counts = (total, total - sum(own.values()), *(own.get(outcome, 0) for outcome in shown))
        rows.append((side.name, tuple(TableCell(count(number)) for number in counts)))
    return Table("Requests, over all repeats", ("side", "asked", "served", *(outcome.value for outcome in shown)), tuple(rows))


def client_delays(sides: Sequence[SideNumbers]) -> Table | None:
    """The client's worst delays over the repeats, in milliseconds.

    None if there was no client.
    """
    names = ("send_p50", "send_p99", "send_max", "loop_p50", "loop_p99", "loop_max")
    found = {side.name: [repeat.client for repeat in side.side.repeats if repeat.client is not None] for side in sides}
    if not any(found.values()):
        return None
    rows = tuple(
        (name, tuple(TableCell(digits(max((getattr(one, part) for one in all_), default=math.nan) * 1e3)) for part in names))
        for name, all_ in found.items()
    )
    return Table("How late the client was, ms: the worst repeat", ("side", *(name.replace("_", " ") for name in names)), rows)


def repeats(side: SideNumbers) -> Table:
    """Metrics of each repeat, also invalid ones; latencies in milliseconds."""
    rows = []
    for repeat in side.side.repeats:
        found = metrics(repeat)
        values = (found.get(metric, math.nan) * (1e3 if _is_latency(metric) else 1) for metric, _ in REPEAT)
        state = TableCell(digits(repeat.seconds)), TableCell(NOTHING if repeat.load is None else digits(repeat.load))
        valid = TableCell("NO", judgement="worse") if not repeat.valid else TableCell("partly" if repeat.partial else "yes")
        rows.append((str(repeat.round + 1), (valid, *state, *(TableCell(digits(value)) for value in values))))
    headings = tuple(f"{heading} (ms)" if _is_latency(metric) else heading for metric, heading in REPEAT)
    return Table(f"{side.name}: {plural(len(rows), 'repeat')}", ("round", "valid", "seconds", "load", *headings), tuple(rows))


def settings(result: Result) -> Table | None:
    """The settings in which sides differ; None if they are unknown."""
    names = dict.fromkeys(name for side in result.sides for name in side.settings)
    differ = [name for name in names if len({repr(side.settings.get(name)) for side in result.sides}) > 1]
    if not differ:
        return None
    rows = tuple((side.name, tuple(TableCell(_setting(side.settings.get(name))) for name in differ)) for side in result.sides)
    return Table("Settings in which the sides differ", ("side", *differ), rows)


def common_settings(result: Result) -> list[tuple[str, str]]:
    """The settings that all sides share."""
    names = dict.fromkeys(name for side in result.sides for name in side.settings)
    same = [name for name in names if len({repr(side.settings.get(name)) for side in result.sides}) == 1]
    return [(name, _setting(result.sides[0].settings[name])) for name in same]


def capacities(result: Result) -> Table | None:
    """Capacities in requests per second; None if none was searched."""
    if not result.capacity:
        return None
    rows = tuple((name, (TableCell(digits(value)),)) for name, value in result.capacity.items())
    return Table("Capacity: the highest rate that kept the objectives, 0 if none did", ("system", "requests/s"), rows)


def comparison(files: Sequence[tuple[str, Sequence[SideNumbers]]]) -> Table:
    """Sides of several files about the same work, with ratios of medians."""
    every_side = [(label, side) for label, sides in files for side in sides]
    shown = _present([side for _, side in every_side], HEADLINE)
    first = every_side[0][1]
    rows = tuple(
        (f"{label}: {side.name}", tuple(_across(side, metric, None if side is first else first) for metric, _ in shown))
        for label, side in every_side
    )
    headings = tuple(f"{heading} (ms)" if _is_latency(metric) else heading for metric, heading in shown)
    return Table("The same work in several files", ("file and side", *headings), rows)


def _across(side: SideNumbers, metric: str, first: SideNumbers | None) -> TableCell:
    cell = _cell(side, metric, 1e3 if _is_latency(metric) else 1.0)
    if first is None or not first.median(metric):
        return TableCell(cell.text, cell.range)
    ratio = side.median(metric) / first.median(metric)
    return TableCell(cell.text, cell.range, f"{ratio:.2f}×" if math.isfinite(ratio) else "")


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NOTHING if value is None else str(value)


def _is_latency(metric: str) -> bool:
    return "." in metric and metric.partition(".")[0] in {name for name, _ in LATENCIES}


def _present(sides: Sequence[SideNumbers], columns: Columns) -> Columns:
    return [(metric, heading) for metric, heading in columns if any(metric in side.summary.intervals for side in sides)]


def _counters(sides: Sequence[SideNumbers]) -> Columns:
    """Metrics that only some engines report."""
    names = dict.fromkeys(name for side in sides for repeat in side.used for name in repeat.counters)
    return [(name, name.replace("_", " ")) for name in names if name != "prefix_hit_rate"]


def _table(caption: str, sides: Sequence[SideNumbers], columns: Columns, scale: float = 1.0) -> Table:
    shown = _present(sides, columns)
    rows = tuple((side.name, tuple(_cell(side, metric, scale) for metric, _ in shown)) for side in sides)
    return Table(caption, ("side", *(heading for _, heading in shown)), rows)


def _cell(side: SideNumbers, metric: str, scale: float) -> TableCell:
    found, ratio = side.summary.intervals.get(metric), side.summary.ratios.get(metric)
    if found is None:
        return TableCell(NOTHING)
    judgement = side.judgement(metric)
    return TableCell(digits(found.median * scale), _range(found, scale), spell_ratio(ratio), MARKS[judgement], judgement)


def _range(interval: Interval, scale: float) -> str:
    return "" if interval.low == interval.high else f"{digits(interval.low * scale)} – {digits(interval.high * scale)}"


def spell_ratio(ratio: Interval | None) -> str:
    """`1.31× (1.25–1.40)`; no interval if there was only one round."""
    if ratio is None:
        return ""
    return f"{ratio.median:.2f}×" + (f" ({ratio.low:.2f}–{ratio.high:.2f})" if ratio.level else "")


def _repeats(side: SideNumbers) -> TableCell:
    """How many of the repeats count, and the intervals' level."""
    level = max((found.level for found in side.summary.intervals.values()), default=0.0)
    some = f" of {len(side.side.repeats)}" if len(side.used) < len(side.side.repeats) else ""
    return TableCell(f"{len(side.used)}{some}", f"{level * 100:.0f} %" if level else "")
