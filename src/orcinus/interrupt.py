"""Ctrl-C between iterations only.

An engine that is interrupted in the middle of a plan cannot be repaired.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STATUS = 130  # the exit status that shells give Ctrl-C


def leave_at_once() -> None:
    """Make Ctrl-C end the process at once, with one line.

    For processes that hold nothing yet, or nothing any more. An exception would not do: in the middle of an import it turns
    into another one, or is swallowed.
    """
    _handle(lambda number, frame: _leave())


def raise_exception() -> None:
    """Make Ctrl-C raise `KeyboardInterrupt`, so that resources are released."""
    _handle(signal.default_int_handler)


def _handle(handler: Callable[[int, FrameType | None], object]) -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # the parent may have turned Ctrl-C off
        signal.signal(signal.SIGINT, handler)


def _leave() -> None:
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(STATUS)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the block ends, at most one iteration.

    A second Ctrl-C is not delayed. Python delivers signals to the main thread alone, so in other threads this does nothing.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    pressed = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed > 1:
            previous(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if pressed == 1:
            previous(signal.SIGINT, None)
