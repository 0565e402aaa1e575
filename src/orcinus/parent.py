"""Child processes that leave signals to their parent and end with it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

LEAVE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what a service manager or a terminal may send to a whole group
POLL_S = 0.25
PR_SET_PDEATHSIG = 1


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours in a new Python.

    With -P it imports nothing from the current folder, which may be a model's: `-m` alone would look there first.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


@contextmanager
def environment_variable(name: str, value: str) -> Iterator[None]:
    """A variable of this process's environment, and of processes that start in the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def safe_imports() -> AbstractContextManager[None]:
    """Pythons that start in the block, with any command, import nothing from the current folder."""
    return environment_variable("PYTHONSAFEPATH", "1")  # the variable for -P


@contextmanager
def signals_held() -> Iterator[None]:
    """Children started in the block get no `LEAVE` until `leave_signals_to_parent`.

    Signals for this process are delivered at the end of the block.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_parent() -> None:
    """Ignore `LEAVE` signals: the parent decides what they mean.

    The parent is in the same group and gets them too.
    """
    for sig in LEAVE:
        signal.signal(sig, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEAVE)


def end_with(parent: int, grace_s: float, last_words: Callable[[], None]) -> None:
    """End this process when the parent of that process id has ended.

    This works even if the main thread is stuck. It has `grace_s` seconds to end by itself; then come `last_words` and exit
    status 1.
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
    """A `preexec_fn` for foreign programs: Linux kills them with their parent.

    More exactly, with the thread that starts them.
    """
    if sys.platform != "linux":
        return lambda: None
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it was asked
            os._exit(1)

    return ask


def describe_exit(status: int) -> str:
    """How a process ended, in words, from `subprocess`'s exit status."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:  # a real-time signal
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (when memory runs out, the system does so)" if -status == signal.SIGKILL else "")
