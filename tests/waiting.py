"""Bounds on waiting: they tell what hangs from what works, however busy the machine is. Speed is measured in benchmarks/."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def wait_until(true: Callable[[], object], seconds: float = 30, pause: float = 0.01) -> None:
    """Return as soon as the condition is true."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not true within {seconds} s"
        time.sleep(pause)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Something that may not wait for what takes longer, such as a timeout of the product that should not be reached."""
    assert seconds >= 10, "a busy machine takes seconds for what takes milliseconds"
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds, f"took more than {seconds} s"
