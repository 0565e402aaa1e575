"""The composition of an engine's iterations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from orcinus.observe.latency import mean
from orcinus.plots.style import COLOURS, LONGEST_RUN, legend_below, legible, mixed_styles, picture

PREFILL, DECODE = COLOURS[0], COLOURS[4]  # dark and light, also without colours
TALL = 8  # times the most decodes of an iteration: beyond that prefills would hide them
BINS = 120


class DrawnIteration(Protocol):
    """One iteration. Times are in seconds."""

    @property
    def launched(self) -> float: ...
    @property
    def returned(self) -> float: ...
    @property
    def prefill_tokens(self) -> int: ...
    @property
    def decode_tokens(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def free_blocks(self) -> int: ...


Sides = Sequence[tuple[str, Sequence[DrawnIteration]]]
TokenRange = Callable[[DrawnIteration], tuple[int, int]]  # low and high end of a part of a bar

COMPOSITION: tuple[tuple[str, Callable[[DrawnIteration], float], Callable[[Sequence[float]], float]], ...] = (
    ("requests running", lambda seen: seen.running, median),
    ("requests waiting", lambda seen: seen.waiting, median),
    ("free K/V blocks", lambda seen: seen.free_blocks, median),
    ("prefill tokens per iteration", lambda seen: seen.prefill_tokens, mean),
    ("decode tokens per iteration", lambda seen: seen.decode_tokens, mean),
    ("seconds per iteration", lambda seen: seen.returned - seen.launched, median),
)


def draw_timeline(path: str | Path, sides: Sides, window: tuple[float, float]) -> None:
    """Draw iterations as bars of duration and tokens, one panel per side.

    Raises `ConfigError` if the file cannot be written.
    """
    shown = [(name, [seen for seen in all_ if seen.returned > window[0] and seen.launched < window[1]]) for name, all_ in sides]
    tallest = max((seen.prefill_tokens + seen.decode_tokens for _, some in shown for seen in some), default=1)
    linear = linear_up_to(shown)
    with picture(path, len(shown), 1, width=10, height=1.7) as axes:
        for place, (name, some) in zip(axes.flat, shown, strict=True):
            _bars(place, some, PREFILL, "prefill", lambda seen: (seen.decode_tokens, seen.decode_tokens + seen.prefill_tokens))
            _bars(place, some, DECODE, "decode", lambda seen: (0, seen.decode_tokens))
            place.set_title(legible(name), loc="left", fontsize=9)
            place.set(xlim=window, ylabel="tokens", axisbelow=True)
            if linear is not None:
                _compress(place, linear, tallest)
            place.set_ylim(0, tallest * 1.08)
        axes[-1][0].set_xlabel("seconds since the start of the run")
        legend_below(axes[0][0])


def linear_up_to(sides: Sides) -> int | None:
    """Tokens above which the timeline's axis is logarithmic.

    None if all of it is linear.
    """
    decodes = max((seen.decode_tokens for _, all_ in sides for seen in all_), default=0)
    tallest = max((seen.prefill_tokens + seen.decode_tokens for _, all_ in sides for seen in all_), default=0)
    return decodes if 0 < TALL * decodes < tallest else None


def _compress(place: Any, linear: int, tallest: int) -> None:
    place.set_yscale("symlog", linthresh=linear, linscale=0.8, base=2)
    steps = int(math.log(max(tallest / linear, 1)) / math.log(4))
    ticks = [0, linear, *(linear * 4**step for step in range(1, steps + 1))]
    place.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    place.yaxis.set_minor_locator(_none())


def _none() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _bars(
    place: Any, some: Sequence[DrawnIteration], colour: str, label: str, part: Callable[[DrawnIteration], tuple[int, int]]
) -> None:
    """Bars of one part of the iterations, from low to high."""
    from matplotlib.collections import PolyCollection

    ends = [(seen.launched, seen.returned, *part(seen)) for seen in some]
    corners = [[(left, low), (left, high), (right, high), (right, low)] for left, right, low, high in ends if high > low]
    place.add_collection(PolyCollection(corners, facecolors=colour, edgecolors="#222222", linewidths=0.25, label=label))


def draw_composition(path: str | Path, sides: Sides) -> None:
    """Draw batch composition and free K/V memory over time, by side.

    Time is cut into 120 equal parts, and an iteration counts in every part that it touches. The line has a gap where
    nothing ran. Raises `ConfigError` if the file cannot be written.
    """
    end = max((seen.returned for _, all_ in sides for seen in all_), default=0.0) or 1.0
    edges = [end * part / BINS for part in range(BINS + 1)]
    binned = [(name, _binned(all_, end)) for name, all_ in sides]
    with picture(path, 2, 3, width=3.6, height=2.6) as axes:
        for place, (label, value, middle) in zip(axes.flat, COMPOSITION, strict=True):
            for (name, bins), style in zip(binned, cycle(mixed_styles()), strict=False):
                heights = [middle([value(seen) for seen in some]) if some else math.nan for some in bins]
                place.stairs(heights, edges, baseline=None, label=legible(name, LONGEST_RUN), linewidth=1.3, **style)
            place.set_title(label, loc="left", fontsize=9)
            place.set(xlim=(0, end))
            place.set_ylim(bottom=0)
        for place in axes[-1]:
            place.set_xlabel("seconds since the start of the run")
        legend_below(axes[0][0])


def _binned(all_: Sequence[DrawnIteration], end: float) -> list[list[DrawnIteration]]:
    bins: list[list[DrawnIteration]] = [[] for _ in range(BINS)]
    for seen in all_:
        first, last = (min(int(moment / end * BINS), BINS - 1) for moment in (seen.launched, seen.returned))
        for number in range(first, last + 1):
            bins[number].append(seen)
    return bins
