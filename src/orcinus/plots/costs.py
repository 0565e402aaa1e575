"""What an iteration costs as its batch, context or prompt grows, above its floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orcinus.plots.style import BAND, MARKERS, WIDE, legend_below, legible, picture, plain_log, styles


@dataclass(frozen=True, slots=True)
class CostPoint:
    """An iteration's milliseconds: quartiles, median, and floor."""

    at: float
    low: float
    median: float
    high: float
    floor: float


@dataclass(frozen=True, slots=True)
class CostPanel:
    """One panel: what grows, and the points."""

    horizontal: str
    points: Sequence[CostPoint]


def draw_costs(path: str | Path, panels: Sequence[CostPanel], title: str = "") -> None:
    """Draw a panel for each thing that grows: measured iterations, and their floor.

    Raises `ConfigError` if the file cannot be written.
    """
    with picture(path, 1, len(panels), width=3.9, height=3.2) as axes:
        for place, panel in zip(axes.flat, panels, strict=True):
            _draw(place, panel)
        legend_below(axes[0][0], legible(title, 100) if title else "")


def _draw(place: Any, panel: CostPanel) -> None:
    measured, floor = styles()[:2]
    points = sorted(panel.points, key=lambda point: point.at)
    at, medians = [point.at for point in points], [point.median for point in points]
    place.plot(at, medians, label="measured", marker=MARKERS[0], markersize=4, linewidth=1.3, **measured)
    lows, highs = [point.low for point in points], [point.high for point in points]
    place.fill_between(at, lows, highs, color=measured["color"], **BAND)
    floors = [point.floor for point in points]
    place.plot(at, floors, label="floor", linewidth=1.3, **floor | {"linestyle": "--"})
    place.set(xlabel=panel.horizontal, ylabel="ms an iteration")
    if at and max(at) > WIDE * min(at):
        place.set_xscale("log")
        plain_log(place.xaxis, most=6)  # long numbers stand side by side
    if at and max(medians) > WIDE * min(floors) > 0:
        place.set_yscale("log")
        plain_log(place.yaxis, most=8)
    else:
        place.set_ylim(bottom=0)
