"""Figures of papers: published numbers as markers, ours as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orcinus.plots.style import COLOURS, picture, plain_log

WIDEST = 3  # panels in a row


@dataclass(frozen=True, slots=True)
class Curve:
    """A line of a figure: points (x, y)."""

    label: str
    points: Sequence[tuple[float, float]]
    published: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel of a figure."""

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    bars: bool = False  # groups of bars over x instead of lines
    log_x: bool = False
    top: float | None = None  # of the vertical axis, where panels are to be compared


@dataclass(frozen=True, slots=True)
class Figure:
    """A paper's figure with published curves and ours."""

    name: str  # of the file
    title: str
    panels: Sequence[Panel]
    ours: str = "simulated"  # how our curves came about


def draw_figure(path: str | Path, figure: Figure) -> None:
    """Draw a figure, its panels in three columns. Raises `ConfigError`."""
    columns = min(WIDEST, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    with picture(path, rows, columns) as axes:
        axes[0][0].figure.suptitle(figure.title)
        for place, panel in zip(axes.flat, figure.panels, strict=False):
            _draw(place, panel, figure.ours)
        for empty in list(axes.flat)[len(figure.panels) :]:
            empty.set_visible(False)


def _draw(place: Any, panel: Panel, ours: str) -> None:
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(dict.fromkeys(c.label for c in panel.curves))}
    for index, curve in enumerate(panel.curves):
        if panel.bars:
            _bars(place, panel, index, colours[curve.label])
        else:
            _line(place, curve, colours[curve.label])
    place.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    place.set_ylim(bottom=0, top=panel.top)
    if panel.log_x:
        place.set_xscale("log")
        plain_log(place.xaxis)
    place.legend(fontsize=7, title=_legend(panel, ours), title_fontsize=7, frameon=True, framealpha=0.7, edgecolor="none")


def _legend(panel: Panel, ours: str) -> str | None:
    """Legend for published curves and ours; empty if all are ours."""
    if not any(curve.published for curve in panel.curves):
        return None
    return "hatched: published" if panel.bars else f"dots: published, lines: {ours}"


def _name(curve: Curve) -> str:
    """A curve's legend entry; both curves of a label share one."""
    return "_" if curve.published else curve.label


def _line(place: Any, curve: Curve, colour: str) -> None:
    look = {"marker": "o", "markersize": 4, "linestyle": "none"} if curve.published else {"linestyle": "-", "linewidth": 1.2}
    place.plot([x for x, _ in curve.points], [y for _, y in curve.points], label=_name(curve), color=colour, **look)


def _bars(place: Any, panel: Panel, index: int, colour: str) -> None:
    """A curve as bars; published ones are hatched."""
    curve = panel.curves[index]
    groups = sorted({x for each in panel.curves for x, _ in each.points})
    width = 0.8 / len(panel.curves)
    at = [groups.index(x) + (index - (len(panel.curves) - 1) / 2) * width for x, _ in curve.points]
    hatch = "///" if curve.published else None
    fill = "none" if curve.published else colour
    place.bar(at, [y for _, y in curve.points], width, label=_name(curve), facecolor=fill, edgecolor=colour, hatch=hatch)
    place.set_xticks(range(len(groups)), [f"{group:g}" for group in groups])
