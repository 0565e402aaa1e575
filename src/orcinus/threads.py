"""Libraries' threads: how they wait, and a guard against forks."""

from __future__ import annotations

import os

from orcinus.errors import EngineError

_owner: int | None = None  # the process in which an engine started threads first


def num_cores() -> int:
    """Cores that this process may run on."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def thread_environment(threads: int) -> dict[str, str]:
    """The environment of a process whose libraries use `threads` threads."""
    return {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}


def set_waiting() -> None:
    """Set the environment variables of thread pools, unless the user did.

    Libraries read them once, when they are loaded.
    """
    # Threads that spin for long while they wait make small models many times slower on a busy machine, and threads that
    # sleep at once make them twice as slow on a quiet one.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # oneDNN keeps a compiled product for each of the last 1024 shapes: hundreds of MiB, since prompts have all lengths.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def claim_process() -> None:
    """Called before an engine starts threads in this process.

    Raises `EngineError` in a fork of a process that has an engine.
    """
    global _owner
    _owner = os.getpid() if _owner is None else _owner
    check_process(_owner)


def check_process(owner: int) -> None:
    """Raise `EngineError` in a fork of the process `owner`.

    OpenMP, Numba and CUDA would hang or abort there.
    """
    if os.getpid() != owner:
        raise EngineError(
            "this process was forked from one that has an engine, and its threads did not come along: start processes with "
            'multiprocessing.get_context("spawn") and make the LLM in there'
        )
