"""Independent calls in parallel, one process a core."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from orcinus.parent import safe_imports

T = TypeVar("T")
R = TypeVar("R")


_is_worker = False  # whether `in_parallel` started this process


def cores() -> int:
    """The number of cores that this process may use.

    One in a process of `in_parallel`, because others like it use the rest.
    """
    if _is_worker:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_parallel(function: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """Results in the order of the items, each as soon as possible.

    Function and items are sent to other processes, so they must be picklable. With one worker everything runs in this
    process. Default: all cores.
    """
    todo = list(items)
    workers = min(workers or cores(), len(todo))
    if workers <= 1:
        yield from map(function, todo)
        return
    spawn = multiprocessing.get_context("spawn")
    with safe_imports(), ProcessPoolExecutor(workers, spawn, initializer=_begin_worker) as pool:
        try:
            yield from pool.map(function, todo)
        except BaseException:  # Ctrl-C above all: the other results are not wanted
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def _begin_worker() -> None:
    """Leave Ctrl-C and the other cores to the parent process, and end with it."""
    global _is_worker
    _is_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
