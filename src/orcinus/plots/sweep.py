"""One number over a product of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orcinus.plots.style import WIDE, picture, plain_log, styles

Point = tuple[Mapping[str, str], float | None]  # settings, and the number


def draw_sweep(path: str | Path, points: Sequence[Point], axes: Sequence[str], metric: str) -> None:
    """The metric against the last of the axes, a line for every combination of the others.

    The values of that axis are numbers, as text. Raises `ConfigError` if the file cannot be written.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for settings, value in points:
        x, label = settings[axes[-1]], ", ".join(settings[axis] for axis in axes[:-1])
        if value is not None and x != "-":  # a policy without chunks has no chunk size
            lines.setdefault(label, []).append((float(x), value))
    with picture(path, 1, 1, width=6, height=4) as drawn:
        (place,) = drawn.flat
        for (label, line), style in zip(lines.items(), styles(), strict=False):
            place.plot(*zip(*sorted(line), strict=True), label=label, marker="o", markersize=4, **style)
        place.set(xlabel=axes[-1], ylabel=metric)
        place.set_ylim(bottom=0)
        found = [x for line in lines.values() for x, _ in line]
        if found and max(found) > WIDE * min(found) > 0:
            place.set_xscale("log")
            plain_log(place.xaxis)
        if len(axes) > 1:
            place.legend(fontsize=8)
