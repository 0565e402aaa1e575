"""Libraries' threads: how many, how they wait, and a guard against forks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orcinus.control_groups import cpu_quota
from orcinus.errors import ConfigError, EngineError
from orcinus.spinning import SleepingTeam, follow_contention

OPENMP = {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"}  # the last three bind this thread, too
TOPOLOGY = "cpu{}/topology/thread_siblings_list"
SPINS = "20000"  # of a waiting thread on a quiet machine: longer than the time between operators
_limit = False  # whether `limit_spinning` is to act: the user did not say how threads wait
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
    global _limit
    # Threads that spin make small models many times slower on a busy machine, and threads that sleep at once make them slower
    # on a quiet one: `limit_spinning` follows the load.
    inherited = os.environ.setdefault("GOMP_SPINCOUNT", SPINS) if "OMP_WAIT_POLICY" not in os.environ else None
    if inherited == SPINS:  # unset before, or set here by a parent process
        _limit = True
    # oneDNN keeps a compiled product for each of the last 1024 shapes: hundreds of MiB, since prompts have all lengths.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def limit_spinning() -> None:
    """Let OpenMP's threads spin only 100 times while the machine is busy.

    It acts once in a process, and not if the user said how threads wait. It works in a program that loaded torch first, too.
    Where the system does not tell whether the machine is busy, threads always spin 100 times. OpenMP libraries other than
    GNU's are left as they are.
    """
    global _limit
    if not _limit:
        return
    _limit = False
    with suppress(OSError):
        team = SleepingTeam(len(usable_cpus()))
        try:
            follow_contention(team)
        except OSError:
            team.hold()


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
