"""How long OpenMP's threads spin while they wait for work, by how busy the machine is.

On a quiet machine a thread that spins is there at once. On a busy one it takes a core from another program, or from a thread of
its own that has the work, and an iteration becomes many times slower. GNU's OpenMP spins `GOMP_SPINCOUNT` times, but only 100
times while it has more threads than there are CPUs (libgomp's manual). So a thread that holds a team of its own, all asleep,
makes all others sleep soon; they spin again when it ends.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

PERIOD_S = 0.1  # between two looks at the machine
LOOKS = 10  # the last ones, which are judged together: a stall of a tenth of a second is no busy machine
BUSY = 0.2  # seconds in a second that threads waited for a CPU: 0.01 on a quiet machine, 0.4 and more beside a busy process
CALM_S = 2.0  # seconds without contention before threads spin again
WAITED = "/proc/self/task/{}/schedstat"  # of Linux: nanoseconds on a CPU, and waiting for one


class SleepingTeam:
    """While it is held, OpenMP's threads spin only 100 times. Raises `OSError` if there is no GNU OpenMP."""

    def __init__(self, size: int) -> None:
        self._process, self._size = ctypes.CDLL(None), size
        if not hasattr(self._process, "GOMP_parallel"):
            raise OSError("this process has not loaded GNU's OpenMP")
        self._end: threading.Event | None = None

    def hold(self) -> None:
        """Start the team, unless it is held."""
        if self._end is not None:
            return
        ready, end = threading.Event(), threading.Event()
        threading.Thread(target=self._sleep, args=(ready, end), name="orcinus-openmp", daemon=True).start()
        self._end = end
        ready.wait()

    def release(self) -> None:
        """End the team, if it is held."""
        if self._end is not None:
            self._end.set()
            self._end = None

    def _sleep(self, ready: threading.Event, end: threading.Event) -> None:
        nothing = ctypes.cast(self._process.getpid, ctypes.c_void_p)  # what each thread of the team runs, once
        self._process.GOMP_parallel(nothing, None, ctypes.c_uint(self._size), ctypes.c_uint(0))
        ready.set()
        end.wait()


class Contention:
    """Whether other programs want the CPUs of this process: its threads are ready to run, and wait for a CPU.

    Raises `OSError` if the system does not count that.
    """

    def __init__(self) -> None:
        self._at, self._waited = time.monotonic(), waited()
        self._shares: deque[float] = deque([0.0] * LOOKS, LOOKS)  # of the time between two looks
        self._busy_at = float("-inf")

    def busy(self) -> bool:
        """Whether they wanted them during the last calls, or within `CALM_S`."""
        now, last, self._waited = time.monotonic(), self._waited, waited()
        since = sum(seconds - last[thread] for thread, seconds in self._waited.items() if thread in last)
        self._shares.append(since / max(now - self._at, 1e-9))
        self._at = now
        if sum(self._shares) > BUSY * LOOKS:
            self._busy_at = now
        return now - self._busy_at < CALM_S


def waited() -> dict[str, float]:
    """Seconds that each thread of this process has waited for a CPU. Raises `OSError` if the system does not count them."""
    found = {}
    for thread in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            found[thread] = int(Path(WAITED.format(thread)).read_text().split()[1]) / 1e9
    if not found:
        raise FileNotFoundError("the system does not count how long threads wait for a CPU")
    return found


def follow_contention(team: SleepingTeam) -> None:
    """Hold the team while the machine is busy, from a thread that ends with the process. Raises `OSError` like `Contention`."""
    contention = Contention()

    def follow() -> None:
        while True:
            time.sleep(PERIOD_S)
            with suppress(OSError, RuntimeError):  # short of file descriptors or threads for now: as before
                if contention.busy():
                    team.hold()
                else:
                    team.release()

    threading.Thread(target=follow, name="orcinus-contention", daemon=True).start()
