"""Latency against throughput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orcinus.plots.style import LONGEST_RUN, MARKERS, WIDE, legend_below, legible, mixed_styles, picture, plain_log

Span = tuple[float, float, float]  # low end, median, high end


@dataclass(frozen=True, slots=True)
class RatePoint:
    """A side at one rate: served requests per second, and latencies."""

    rate: Span
    latencies: Mapping[str, Span]


def draw_rates(
    path: str | Path,
    curves: Sequence[tuple[str, Sequence[RatePoint]]],
    panels: Sequence[tuple[str, str]],
    objectives: Mapping[str, float],
) -> None:
    """Draw a panel per latency, with a line per curve.

    `objectives` maps latencies to seconds. Raises `ConfigError` if the file cannot be written.
    """
    columns = 2 if len(panels) > 1 else 1
    with picture(path, -(-len(panels) // columns), columns, width=4.8, height=3.1) as axes:
        for place, (latency, label) in zip(axes.flat, panels, strict=False):
            shown = [value for number, curve in enumerate(curves) for value in _draw(place, curve, latency, number)]
            if latency in objectives:
                _rule(place, objectives[latency])
                shown.append(objectives[latency])
            place.set(xlabel="requests served per second", ylabel=f"{label} (s)")
            _scale(place, shown)
        for empty in list(axes.flat)[len(panels) :]:
            empty.set_visible(False)
        legend_below(axes[0][0])


def _draw(place: Any, curve: tuple[str, Sequence[RatePoint]], latency: str, number: int) -> list[float]:
    """Draw one curve; returns the medians of its points."""
    styles = mixed_styles()
    look, points = styles[number % len(styles)], [point for point in curve[1] if latency in point.latencies]
    rates, values = [point.rate for point in points], [point.latencies[latency] for point in points]
    medians = [value[1] for value in values]
    marker, bars = MARKERS[number % len(MARKERS)], (look["color"], 0.45)
    place.errorbar(
        [rate[1] for rate in rates],
        medians,
        xerr=_arms(rates),
        yerr=_arms(values),
        label=legible(curve[0], LONGEST_RUN),
        marker=marker,
        markersize=5,
        ecolor=bars,
        elinewidth=0.9,
        capsize=2,
        **look,
    )
    return medians


def _rule(place: Any, seconds: float) -> None:
    place.axhline(seconds, color="#444444", linewidth=0.9, linestyle=(0, (6, 3)))
    place.text(0.005, seconds, "objective", transform=place.get_yaxis_transform(), va="bottom", fontsize=7)


def _arms(spans: Sequence[Span]) -> list[list[float]]:
    """Error bars: distances from the median to both ends, shape [2, points]."""
    return [[max(0.0, mid - low) for low, mid, _ in spans], [max(0.0, high - mid) for _, mid, high in spans]]


def _scale(place: Any, values: Sequence[float]) -> None:
    place.set_xlim(left=0)
    if values and max(values) > WIDE * min(values) > 0:
        place.set_yscale("log")
        plain_log(place.yaxis, most=8)
    else:
        place.set_ylim(bottom=0)
