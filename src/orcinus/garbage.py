"""How often Python looks for garbage cycles in Orcinus's own processes."""

from __future__ import annotations

import atexit
import gc

OBJECTS = 10_000  # new ones between two searches; Python's own choice is 700


def collect_rarely() -> None:
    """Search less often, and not at the end; for processes that run nothing but Orcinus.

    Imports make a million objects that all stay: searching them took a fifth of a command's start, and 0.4 s of its end
    (docs/log.md).
    """
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)
