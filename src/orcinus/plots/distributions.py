"""Distributions of all measured values, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from orcinus.plots.style import LONGEST_RUN, WIDE, legend_below, legible, mixed_styles, picture, plain_log

MOST_POINTS = 2000  # of a line: more than the picture has pixels
EDGE = 0.005  # of the values, on either side, that say nothing about how wide a distribution is


@dataclass(frozen=True, slots=True)
class DistributionPanel:
    """Values in seconds by side; `tail` draws the share above each."""

    label: str
    of: str  # what the values are: requests, gaps
    values: Mapping[str, Sequence[float]]
    tail: bool = False


def draw_distributions(path: str | Path, panels: Sequence[DistributionPanel]) -> None:
    """Draw panels in two columns, one line per side. Raises `ConfigError`."""
    columns = min(2, len(panels))
    with picture(path, -(-len(panels) // columns), columns, width=5.2, height=2.9) as axes:
        for place, panel in zip(axes.flat, panels, strict=False):
            for (name, values), style in zip(panel.values.items(), cycle(mixed_styles()), strict=False):
                place.step(*_line(values, panel.tail), where="post", label=legible(name, LONGEST_RUN), linewidth=1.5, **style)
            place.set_xlabel(f"{panel.label} (s)")
            _scale(place, panel)
        for empty in list(axes.flat)[len(panels) :]:
            empty.set_visible(False)
        legend_below(max(axes.flat, key=lambda place: len(place.lines)))


def _line(values: Sequence[float], tail: bool) -> tuple[list[float], list[float]]:
    """Values and shares, thinned out except at both ends."""
    ordered, count = sorted(values), len(values)
    even = {round(step * (count - 1) / MOST_POINTS) for step in range(MOST_POINTS + 1)}
    last = {max(0, count - 1 - int(1.05**step)) for step in range(150)}
    places = sorted(even | last)
    shares = [(place + 1) / count for place in places]
    return [ordered[0], *(ordered[place] for place in places)], [
        float(tail),
        *(1 - share if tail else share for share in shares),
    ]


def _scale(place: Any, panel: DistributionPanel) -> None:
    place.set(ylabel=f"share of {panel.of}" + (" that took longer" if panel.tail else ""), ylim=(0, 1.01))
    if panel.tail:
        least = 1 / max((len(values) for values in panel.values.values()), default=1)
        place.set(yscale="log", ylim=(least / 2, 1.2))
        plain_log(place.yaxis, most=6)
    positive = sorted(value for values in panel.values.values() for value in values if value > 0)
    low, high = _edges(positive, panel.tail)
    if high > WIDE * low > 0:
        place.set_xscale("log", nonpositive="clip")
        place.set_xlim(left=low / 1.5)
        plain_log(place.xaxis, most=9)
    else:
        place.set_xlim(left=0)


def _edges(ordered: Sequence[float], tail: bool) -> tuple[float, float]:
    """The range of most values; for a tail, up to the largest."""
    if not ordered:
        return 0.0, 0.0
    last = len(ordered) - 1
    return ordered[int(EDGE * last)], ordered[last if tail else int((1 - EDGE) * last)]
