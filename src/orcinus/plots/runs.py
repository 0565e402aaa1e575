"""Latency distributions of several runs."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from orcinus.observe.distribution import Distribution
from orcinus.observe.interval import median_interval
from orcinus.observe.metrics import MetricsObserver
from orcinus.plots.style import BAND, LONGEST_RUN, legend_below, legible, mixed_styles, picture, plain_log

SHOWN = (
    ("ttft", "time to first token (s)", "requests"),
    ("tbt", "time between tokens (s)", "tokens"),
    ("e2e", "end-to-end latency (s)", "requests"),
    ("normalized_latency", "latency per generated token (s/token)", "requests"),
)
TENFOLD = 10
POINTS = 300  # of a line over several seeds


def draw_runs(path: str | Path, runs: Sequence[tuple[str, Sequence[MetricsObserver]]], varies: str = "") -> None:
    """Draw cumulative distributions of four latencies, one line per run.

    `varies` says in which option the runs differ. A run with several seeds is a line of medians in a band of their
    intervals. Raises `ConfigError` if the file cannot be written.
    """
    with picture(path, 2, 2) as axes:
        for panel, (name, label, of) in zip(axes.flat, SHOWN, strict=True):
            for (run, seeds), style in zip(runs, cycle(mixed_styles()), strict=False):
                _draw(panel, legible(run, LONGEST_RUN), [getattr(each, name) for each in seeds], style)
            panel.set(xlabel=label, ylabel=f"share of {of}", ylim=(0, 1))
            _scale(panel)
        legend_below(axes[0][0], varies)


def _draw(panel: Any, run: str, seeds: Sequence[Distribution], style: dict[str, str]) -> None:
    seen = [values for values in (each.cumulative() for each in seeds) if values[0]]
    if not seen:
        return
    if len(seen) == 1:
        values, shares = seen[0]
        panel.step(*_from_nothing(values, shares), where="post", label=run, **style)
        return
    at = _grid([values for values, _ in seen])
    found = [median_interval([_share(curve, value) for curve in seen]) for value in at]
    panel.step(*_from_nothing(at, [each.median for each in found]), where="post", label=run, **style)
    low, high = [each.low for each in found], [each.high for each in found]
    panel.fill_between(at, low, high, step="post", color=style["color"], **BAND)


def _from_nothing(values: Sequence[float], shares: Sequence[float]) -> tuple[list[float], list[float]]:
    """The curve extended to share 0, so that equal values are visible."""
    return [values[0], *values], [0.0, *shares]


def _scale(panel: Any) -> None:
    """The axis's scale: logarithmic if values differ tenfold or more."""
    ends = [value for line in panel.lines for value in line.get_xdata() if value > 0]
    if ends and max(ends) > TENFOLD * min(ends):
        panel.set_xscale("log")
        plain_log(panel.xaxis, most=6)
    else:
        panel.locator_params(axis="x", nbins=6)


def _grid(values: Sequence[Sequence[float]]) -> list[float]:
    """Values in geometric progression from the least to the greatest."""
    positive = [value for each in values for value in (each[0], each[-1]) if value > 0] or [1.0]
    low, high = math.log(min(positive)), math.log(max(positive))
    return [math.exp(low + (high - low) * step / (POINTS - 1)) for step in range(POINTS)]


def _share(curve: tuple[list[float], list[float]], value: float) -> float:
    """Shares of a distribution's values up to each of these."""
    place = bisect_right(curve[0], value * (1 + 1e-9))
    return curve[1][place - 1] if place else 0.0
