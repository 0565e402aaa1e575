"""Libraries' threads: how many, how they wait, and a guard against forks."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from orcinus.control_groups import cpu_quota
from orcinus.errors import ConfigError, EngineError

OPENMP = {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"}  # the last three bind this thread, too
TOPOLOGY = "cpu{}/topology/thread_siblings_list"
_unread = False  # whether OpenMP was loaded before its settings were made
_owner: int | None = None  # the process in which an engine started threads first


def usable_cpus() -> set[int]:
    """The logical CPUs that this process may run on."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return set(allowed(0)) if allowed else set(range(os.cpu_count() or 1))


def num_cores() -> int:
    """Physical cores that this process may use, within the CPU quota of its control groups (rounded down)."""
    cores, quota = physical_cores(usable_cpus()), cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def physical_cores(cpus: Iterable[int], system: Path = Path("/sys/devices/system/cpu")) -> int:
    """Physical cores of logical CPUs: two hyperthreads of one core share its arithmetic, so they count once."""
    found = set[str]()
    for cpu in cpus:
        try:
            found.add((system / TOPOLOGY.format(cpu)).read_text())
        except OSError:  # not Linux, or hidden
            found.add(str(cpu))
    return len(found)


def engine_threads(asked: int | None, current: int) -> int:
    """Threads of an engine in this process, whose libraries use `current` now.

    What the user set holds: `asked`, OpenMP's variables, or a smaller number told to torch. Otherwise it is one per core.
    Raises `ConfigError` if more are asked for than can run.
    """
    if asked is None:
        return current if OPENMP & os.environ.keys() else min(current, num_cores())
    if asked > (most := max(current, len(usable_cpus()))):
        raise ConfigError(f"threads is {asked}, and this process may run on {most} CPUs: lower it, or leave it out")
    return asked


def thread_environment(threads: int) -> dict[str, str]:
    """The environment of a process whose libraries use `threads` threads."""
    return {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}


def bound_cpus() -> list[int]:
    """The CPUs to which threads of this process are bound one by one, as OMP_PROC_BIND does; none = all may move."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    masks = {frozenset(os.sched_getaffinity(int(thread))) for thread in os.listdir("/proc/self/task")}
    return sorted(set[int]().union(*masks)) if len(masks) > 1 else []


def set_waiting() -> None:
    """Set the environment variables of thread pools, unless the user did.

    Libraries read them once, when they are loaded.
    """
    global _unread
    # Threads that spin for long while they wait make small models many times slower on a busy machine, and threads that
    # sleep at once make them twice as slow on a quiet one.
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "1000"
        _unread = "torch" in sys.modules
    # oneDNN keeps a compiled product for each of the last 1024 shapes: hundreds of MiB, since prompts have all lengths.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def limit_spinning() -> None:
    """Make OpenMP's threads spin shortly in a program that loaded torch before Orcinus, with its settings unread.

    GNU's OpenMP spins 300,000 times by default, but 100 times while it has more threads than there are CPUs (libgomp's manual,
    GOMP_SPINCOUNT). So a thread that sleeps for ever holds a team of its own, whose threads sleep, too. Of other OpenMP
    libraries nothing is known, and nothing is done.
    """
    global _unread
    if not _unread:
        return
    _unread = False
    process = ctypes.CDLL(None)
    if not hasattr(process, "GOMP_parallel"):
        return
    ready = threading.Event()

    def hold_team() -> None:
        nothing = ctypes.cast(process.getpid, ctypes.c_void_p)  # what each thread of the team runs, once
        process.GOMP_parallel(nothing, None, ctypes.c_uint(len(usable_cpus())), ctypes.c_uint(0))
        ready.set()
        threading.Event().wait()

    threading.Thread(target=hold_team, name="orcinus-openmp", daemon=True).start()
    ready.wait()


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
