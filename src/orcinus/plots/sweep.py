"""Metrics over a product of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orcinus.plots.style import BAND, LONGEST_RUN, MARKERS, WIDE, legend_below, legible, mixed_styles, picture, plain_log

Span = tuple[float, float, float]  # low end, median, high end


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """A point of a sweep: its line, its place, and its metrics."""

    line: str
    at: float
    metrics: Mapping[str, Span]


def draw_sweep(
    path: str | Path, points: Sequence[SweepPoint], panels: Mapping[str, str], horizontal: str, varies: str = ""
) -> None:
    """Draw a panel per metric in `panels`, with a line per name.

    `varies` says in which option the lines differ. Several seeds give a band. Raises `ConfigError` if the file cannot be
    written.
    """
    lines: dict[str, list[SweepPoint]] = {}
    for point in points:
        lines.setdefault(point.line, []).append(point)
    columns = 1 if len(panels) == 1 else 2
    with picture(path, -(-len(panels) // columns), columns, width=4.8, height=3.4) as axes:
        for place, (metric, label) in zip(axes.flat, panels.items(), strict=False):
            for number, (name, some) in enumerate(lines.items()):
                _draw(place, legible(name, LONGEST_RUN), sorted(some, key=lambda point: point.at), metric, number)
            place.set(xlabel=horizontal, ylabel=label)
            place.set_ylim(bottom=0)
            _scale(place, [point.at for point in points])
        for empty in list(axes.flat)[len(panels) :]:
            empty.set_visible(False)
        if any(lines):
            legend_below(axes[0][0], varies)


def _draw(place: Any, name: str, points: Sequence[SweepPoint], metric: str, number: int) -> None:
    styles = mixed_styles()
    look, shown = styles[number % len(styles)], [point for point in points if metric in point.metrics]
    at, spans = [point.at for point in shown], [point.metrics[metric] for point in shown]
    marker = MARKERS[number % len(MARKERS)]
    place.plot(at, [median for _, median, _ in spans], label=name or None, marker=marker, markersize=4, linewidth=1.3, **look)
    if any(low < high for low, _, high in spans):
        place.fill_between(at, [low for low, _, _ in spans], [high for _, _, high in spans], color=look["color"], **BAND)


def _scale(place: Any, at: Sequence[float]) -> None:
    if at and max(at) > WIDE * min(at) > 0:
        place.set_xscale("log")
        plain_log(place.xaxis, most=8)
