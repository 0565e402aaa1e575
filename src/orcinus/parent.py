"""Child processes that leave signals to their parent and do not outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

LEAVE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what a service manager or a terminal may send to a whole group
POLL_S = 0.25
PR_SET_PDEATHSIG = 1


@contextmanager
def signals_held() -> Iterator[None]:
    """Children started within do not get `LEAVE`, until they call `leave_signals_to_parent`.

    This process gets what comes meanwhile at the end of the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent() -> None:
    """From now on only the parent decides what `LEAVE` means; it is in the same group and gets them too."""
    for sig in LEAVE:
        signal.signal(sig, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE)


def end_with(parent: int, grace_s: float, last_words: Callable[[], None]) -> None:
    """End this process when its parent, of that process id, has ended, even if its main thread never looks.

    The main thread has `grace_s` seconds to end by itself; then come `last_words` and exit status 1.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        time.sleep(grace_s)
        with suppress(Exception):
            last_words()
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def killed_with_this() -> Callable[[], None]:
    """A `preexec_fn` for a program that is not ours to change: the kernel ends it with the thread that starts it (Linux)."""
    if sys.platform != "linux":
        return lambda: None
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it was asked
            os._exit(1)

    return ask


def describe_exit(status: int) -> str:
    """How a process ended, in words, from its exit status as `subprocess` gives it."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (when memory runs out, the system does so)" if -status == signal.SIGKILL else "")
