"""Gaps between tokens over time: they show generation stalls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orcinus.plots.style import COLOURS, WIDE, legible, picture, plain_log

MANY = 5000  # points of a panel: more are drawn smaller

Gaps = tuple[str, Sequence[float], Sequence[float]]  # name of a side, moments, gaps that ended then; seconds


def draw_gaps(path: str | Path, sides: Sequence[Gaps], objective: float | None = None) -> None:
    """Draw one panel per side, with the objective as a line.

    After Fig. 1 of Sarathi-Serve (OSDI 2024), which shows generation stalls. Raises `ConfigError`.
    """
    end = max((moment for _, moments, _ in sides for moment in moments), default=1.0)
    values = sorted(gap for _, _, gaps in sides for gap in gaps if gap > 0) or [1.0]
    low, high = values[len(values) // 200], values[-1]
    if objective is not None:
        low, high = min(low, objective), max(high, objective)
    with picture(path, len(sides), 1, width=10, height=1.8) as axes:
        for place, (name, moments, gaps) in zip(axes.flat, sides, strict=True):
            size, alpha = (1.5, 0.35) if len(gaps) > MANY else (2.6, 0.6)
            place.plot(moments, gaps, "o", markersize=size, alpha=alpha, color=COLOURS[0], markeredgewidth=0)
            if objective is not None:
                place.axhline(objective, color=COLOURS[1], linestyle="--", linewidth=1.2)
                place.text(end * 1.003, objective, " objective", color=COLOURS[1], fontsize=8, va="center")
            place.set_title(legible(name) + _unseen(gaps), loc="left", fontsize=9)
            place.set(xlim=(0, end), ylabel="gap (s)", ylim=(0, high * 1.08))
            if high > WIDE * low:
                place.set(yscale="log", ylim=(low / 2, high * 1.5))
                plain_log(place.yaxis, most=7)
        axes[-1][0].set_xlabel("seconds since the start of the run")


def _unseen(gaps: Sequence[float]) -> str:
    """A note on gaps of 0, which a logarithmic axis cannot show."""
    none = sum(gap <= 0 for gap in gaps)
    return f"   ({none} of {len(gaps)} gaps are 0: tokens that came together)" if none else "" if gaps else "   (no gaps)"
