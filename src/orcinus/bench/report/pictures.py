"""The pictures of a result, with their captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orcinus.bench.formatting import digits
from orcinus.bench.measure import gaps, latencies
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.report.curves import PANELS, curves
from orcinus.bench.report.numbers import SideNumbers
from orcinus.bench.report.window import window
from orcinus.bench.result import Result
from orcinus.bench.summary import rate_of
from orcinus.errors import plural
from orcinus.plots.distributions import DistributionPanel, draw_distributions
from orcinus.plots.gaps import draw_gaps
from orcinus.plots.iterations import draw_composition, draw_timeline, linear_up_to
from orcinus.plots.rates import draw_rates

MOST_SIDES = 8  # per picture: more cannot be distinguished
DISTRIBUTIONS = (
    ("ttft", "time to first token", "requests", False),
    ("e2e", "end-to-end latency", "requests", False),
    ("tbt", "time between tokens", "gaps", False),
    ("tbt", "time between tokens", "gaps", True),
)
READ_DISTRIBUTIONS = (
    "The share of all requests, or of all gaps between tokens, that took at most this long, over all repeats. The further left "
    "a line, the better. The last panel shows the other end of the one before: the few longer gaps, which users notice."
)
READ_RATES = (
    "Each point is a side at one arrival rate. Further right is more throughput, lower is less latency. Where a curve turns "
    "upwards, it is at its capacity. Bars are the ranges in which the medians over the repeats lie."
)
READ_GAPS = (
    "Each dot is one gap between two tokens of one request, at the time at which it ended. Usual iterations make the band; "
    "dots above it are users who waited. Many such dots at one time are a stall of all running answers."
)
READ_TIMELINE = (
    "Each bar is one iteration. Its width is its duration, its height its tokens: those of prompts (dark) on top of those of "
    "answers (light). A wide dark bar stalls every answer."
)
READ_COMPOSITION = (
    "How many requests ran and waited, what iterations consisted of, and how much K/V memory was free. Time is cut into 120 "
    "parts: tokens are means over the iterations in a part, all others medians."
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture's file, its alternative text, and how to read it."""

    path: Path
    title: str
    alt: str
    reading: str


def draw_pictures(result: Result, sides: Sequence[SideNumbers], stem: Path) -> list[Picture]:
    """Draw all pictures that have data, into files named `stem-…`.

    Raises `ConfigError`.
    """
    chosen, left_out = choose(result, sides)
    runs = {side.name: repeat for side in chosen if (repeat := _looked_at(side)) is not None}
    engines = {name: repeat for name, repeat in runs.items() if repeat.iterations}

    def named(name: str) -> Path:
        return stem.with_name(f"{stem.name}-{name}.png")

    makers: tuple[Callable[[], Picture | None], ...] = (
        lambda: _rates(sides, _per_metric(result), named("rates")),
        lambda: _distributions(chosen, named("latencies"), left_out),
        lambda: _gaps(runs, _per_metric(result).get("tbt.p99"), named("gaps"), left_out),
        lambda: _timeline(engines, named("iterations"), left_out),
        lambda: _composition(engines, named("batches"), left_out),
    )
    return [drawn for make in makers if (drawn := make()) is not None]


def choose(result: Result, sides: Sequence[SideNumbers]) -> tuple[list[SideNumbers], str]:
    """At most eight sides to draw, and a sentence about the others.

    Of systems at several rates it chooses the sides at their capacity, or else at the middle one of the rates that most
    systems have.
    """
    chosen, said = list(sides), ""
    rates = Counter(rate for side in sides if (rate := rate_of(side.side)) is not None)
    if result.capacity:
        chosen = [side for side in sides if rate_of(side.side) == result.capacity.get(str(side.side.settings.get("system")))]
        said = "Shown here is each system at its capacity."
    elif len(rates) > 1:
        shared = sorted(rate for rate, number in rates.items() if number == max(rates.values()))
        middle = shared[len(shared) // 2]
        chosen = [side for side in sides if rate_of(side.side) == middle]
        said = f"Shown here are the sides at {middle:g} requests per second."
    if len(chosen) > MOST_SIDES:
        said = f"{said} Only the first {MOST_SIDES} of {len(chosen)} sides are shown here."
    return chosen[:MOST_SIDES], said.strip()


def _looked_at(side: SideNumbers) -> Repeat | None:
    """The one repeat to draw: several on one time axis would overlap."""
    return next((repeat for repeat in side.used if repeat.requests), None)


def _which(runs: Mapping[str, Repeat]) -> str:
    rounds = sorted({repeat.round for repeat in runs.values()})
    return f"Shown is round {', '.join(str(number + 1) for number in rounds)}."


def _sentences(*parts: str) -> str:
    return " ".join(filter(None, parts))


def _distributions(sides: Sequence[SideNumbers], path: Path, left_out: str) -> Picture | None:
    pooled = {side.name: latencies([each for repeat in side.used for each in repeat.requests]) for side in sides}
    panels = [
        DistributionPanel(label, of, {name: values[latency] for name, values in pooled.items() if values[latency]}, tail)
        for latency, label, of, tail in DISTRIBUTIONS
        if any(values[latency] for values in pooled.values())
    ]
    if not panels:
        return None
    draw_distributions(path, panels)
    medians = "; ".join(f"{side.name}: {', '.join(_medians(side))}" for side in sides)
    alt = f"Cumulative distributions of latencies. Medians: {medians}."
    return Picture(path, "Latencies", alt, _sentences(READ_DISTRIBUTIONS, left_out))


def _medians(side: SideNumbers) -> list[str]:
    return [f"{name.upper()} {digits(side.median(f'{name}.p50'))} s" for name in ("ttft", "tbt", "e2e")]


def _per_metric(result: Result) -> dict[str, float]:
    """Objectives by the metric at which to draw them.

    Bounds for a goodput are drawn at P99.
    """
    return {name if "." in name else f"{name}.p99": seconds for name, seconds in result.objectives.items()}


def _rates(sides: Sequence[SideNumbers], objectives: Mapping[str, float], path: Path) -> Picture | None:
    found = curves(sides)
    panels = [
        (name, label) for name, label in PANELS if any(name in point.latencies for _, points in found for point in points)
    ]
    if not panels:
        return None
    draw_rates(path, found, panels, objectives)
    reach = "; ".join(f"{name}: up to {digits(max(point.rate[1] for point in points))} per second" for name, points in found)
    alt = f"Latencies against requests served per second, {plural(len(found), 'curve')}. {reach}."
    return Picture(path, "What latency a throughput costs", alt, READ_RATES)


def _gaps(runs: Mapping[str, Repeat], objective: float | None, path: Path, left_out: str) -> Picture | None:
    served = {name: [each for each in run.requests if each.outcome is RequestOutcome.OK] for name, run in runs.items()}
    found = [
        (name, [moment for each in some for moment in each.times[1:]], [gap for each in some for gap in gaps(each)])
        for name, some in served.items()
    ]
    if not any(gaps_ for _, _, gaps_ in found):
        return None
    draw_gaps(path, found, objective)
    longest = "; ".join(f"{name}: {digits(max(gaps_))} s" for name, _, gaps_ in found if gaps_)
    line = "" if objective is None else f"The dashed line is the objective, {objective:g} s."
    reading = _sentences(READ_GAPS, line, _which(runs), left_out)
    return Picture(path, "Gaps between tokens", f"Gaps over time. The longest: {longest}.", reading)


def _timeline(runs: Mapping[str, Repeat], path: Path, left_out: str) -> Picture | None:
    if not runs:
        return None
    seen = [(name, run.iterations) for name, run in runs.items()]
    part, linear = window(seen), linear_up_to(seen)
    draw_timeline(path, seen, (part.start, part.end))
    which = f"The seconds {part.start:.2f} to {part.end:.2f}, {part.why}." if part.why else "The whole run."
    scale = f"Above {plural(linear, 'token')} the axis is logarithmic." if linear else ""
    counts = "; ".join(f"{name}: {plural(len(all_), 'iteration')}" for name, all_ in seen)
    reading = _sentences(READ_TIMELINE, _which(runs), which, scale, left_out)
    return Picture(path, "Iterations", f"Iterations over time. In the whole run {counts}.", reading)


def _composition(runs: Mapping[str, Repeat], path: Path, left_out: str) -> Picture | None:
    if not runs:
        return None
    draw_composition(path, [(name, run.iterations) for name, run in runs.items()])
    most = "; ".join(f"{name}: at most {max(one.running for one in run.iterations)}" for name, run in runs.items())
    alt = f"Composition of batches over time. Requests that ran at once: {most}."
    return Picture(path, "Batches", alt, _sentences(READ_COMPOSITION, _which(runs), left_out))
