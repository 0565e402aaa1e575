"""Ctrl-C at a moment of our choosing: an engine that is torn apart in the middle of a plan cannot be mended afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STATUS = 130  # the exit status that shells give Ctrl-C


def leave_at_once() -> None:
    """From now on Ctrl-C ends the process with one line. For a process that holds nothing yet, or nothing any more.

    An exception would not do: in the middle of an import it comes out as something else, or not at all.
    """
    _handle(lambda number, frame: _leave())


def raise_exception() -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt`, so that what the process holds is given back."""
    _handle(signal.default_int_handler)


def _handle(handler: Callable[[int, FrameType | None], object]) -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # who started this process may have turned Ctrl-C off
        signal.signal(signal.SIGINT, handler)


def _leave() -> None:
    with suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(STATUS)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended, at most one iteration. Pressed a second time, it does not wait.

    Python delivers signals to the main thread alone, so in any other thread there is nothing to do.
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
