"""How busy other processes keep the machine during a measurement."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from orcinus.errors import plural

STAT, PROCESSES = Path("/proc/stat"), Path("/proc")
PARENT, CPU_TIMES = 1, slice(11, 15)  # places in /proc/PID/stat after the name: user and system, of it and of ended children
STEAL = 7  # position in a /proc/stat line, after user, nice, system, idle, iowait, irq, softirq
IDLE = (3, 4)  # idle, iowait
BUSY = 1.5  # processes per core above which the machine is busy
TAKEN = 0.15  # share of the cores used by others above which it is busy


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU seconds used by `at`: of our cores, and of this process and its descendants."""

    at: float
    busy: float
    stolen: float  # given to other machines by a hypervisor
    own: float


def load_average() -> float | None:
    """The last minute's load average; None if the system lacks it."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_times(stat: Path = STAT) -> CpuTimes | None:
    """CPU times now; None where the system does not report them."""
    try:
        usable, tick = {f"cpu{core}" for core in os.sched_getaffinity(0)}, os.sysconf("SC_CLK_TCK")
        lines = [line.split() for line in stat.read_text().splitlines()]
        cores = [[int(word) / tick for word in words] for name, *words in lines if name in usable]
        stolen = sum(times[STEAL] for times in cores)
    except (OSError, AttributeError, ValueError, IndexError):
        return None
    busy = sum(times[place] for times in cores for place in range(STEAL) if place not in IDLE)
    return CpuTimes(monotonic(), busy, stolen, _own_seconds(tick)) if cores else None


def _own_seconds(tick: int) -> float:
    """CPU seconds of this process and of all its descendants, living and ended (workers of a tensor-parallel engine)."""
    children, used = defaultdict[int, list[int]](list), dict[int, int]()
    for file in PROCESSES.glob("[0-9]*/stat"):
        try:
            fields = file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            number = int(file.parent.name)
            used[number] = sum(map(int, fields[CPU_TIMES]))
            children[int(fields[PARENT])].append(number)
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile
    family, found = [os.getpid()], 0
    while family:
        member = family.pop()
        found += used.get(member, 0)
        family += children[member]
    return found / tick


def crowded(loads: Sequence[float], cores: int) -> str | None:
    """A sentence if more processes wanted cores than there are; else None."""
    if not loads or max(loads) <= BUSY * cores:
        return None
    return f"load average up to {max(loads):.1f} on {plural(cores, 'core')}"


def taken(before: CpuTimes | None, after: CpuTimes | None, cores: int) -> str | None:
    """A sentence on the cores that others used between two moments.

    None if they used little, or if it is unknown.
    """
    if before is None or after is None or after.at <= before.at:
        return None
    seconds = after.at - before.at
    others = max(0.0, (after.busy - before.busy - after.own + before.own) / seconds)
    stolen = max(0.0, (after.stolen - before.stolen) / seconds)
    if others + stolen <= TAKEN * cores:
        return None
    hypervisor = f", and the hypervisor {stolen:.1f}" if stolen >= 0.05 else ""
    return f"other processes took {others:.1f} of {plural(cores, 'core')}{hypervisor}"


def taken_now(seconds: float) -> str | None:
    """A sentence on the cores that others use now, watched for so many seconds; None if they use little."""
    before = cpu_times()
    sleep(seconds)
    return taken(before, cpu_times(), usable_cores())
