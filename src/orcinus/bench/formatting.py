"""Numbers and names as reports write them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

NOTHING = "–"


def digits(value: float) -> str:
    """Three significant digits without an exponent; a dash for NaN.

    0.00123, 1.20, 123, 12346, but 12 for just that.
    """
    if not math.isfinite(value):
        return NOTHING
    if value == int(value):
        return str(int(value))
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 9)}f}"


def count(value: float) -> str:
    """A whole number with thousands separators; other numbers by `digits`."""
    if not math.isfinite(value) or value != int(value):
        return digits(value)
    return f"{int(value):,}".replace(",", "\u202f")


def unit_of(seconds: Iterable[float]) -> tuple[str, float]:
    """A common unit for seconds: its name, and units per second."""
    known = [value for value in seconds if math.isfinite(value) and value > 0]
    if known and min(known) >= 1:
        return "s", 1.0
    return ("µs", 1e6) if known and max(known) < 1e-3 else ("ms", 1e3)


def slug(name: str) -> str:
    """A name reduced to the letters allowed in a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
