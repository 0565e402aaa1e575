"""Waiting threads spin on a quiet machine and sleep on a busy one."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orcinus import spinning
from orcinus.spinning import BUSY_PER_S, CALM_S, Contention, SleepingTeam

PROGRAM = """
import os, time
from orcinus.spinning import SleepingTeam
import torch

torch.set_num_threads(2)
numbers, team = torch.ones(400_000), SleepingTeam(len(os.sched_getaffinity(0)))

def used():
    before = time.process_time()
    for _ in range(50):
        numbers.add(1)
        time.sleep(0.001)
    return time.process_time() - before

used()
tasks = len(os.listdir("/proc/self/task"))
spinning = used()
team.hold()
team.hold()
sleeping = used()
team.release()
team.release()
again = used()
print(spinning, sleeping, again, len(os.listdir("/proc/self/task")) - tasks)
"""


@pytest.mark.skipif(sys.platform != "linux" or (os.cpu_count() or 1) < 2, reason="GNU's OpenMP, and threads that wait")
def test_threads_spin_but_for_the_time_that_a_team_is_held() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=plain | {"GOMP_SPINCOUNT": "10000000"}, check=True)
    spun, slept, again, more = map(float, done.stdout.split())
    assert slept < spun / 2
    assert slept < again / 2
    assert more == 0


def test_a_process_without_openmp_has_no_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with pytest.raises(OSError, match="not loaded GNU's OpenMP"):
        SleepingTeam(2)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Its clock, and how often this process was taken off a CPU."""
    now = {"seconds": 0.0, "switches": 0.0}
    monkeypatch.setattr(spinning.time, "monotonic", lambda: now["seconds"])
    monkeypatch.setattr(Contention, "_switches", staticmethod(lambda: now["switches"]))
    return now


def test_a_machine_is_busy_while_it_takes_threads_off_their_cpus(machine: dict[str, float]) -> None:
    contention = Contention()

    def after(seconds: float, per_s: float) -> bool:
        machine["seconds"] += seconds
        machine["switches"] += seconds * per_s
        return contention.busy()

    assert not after(0.1, BUSY_PER_S - 1)
    assert after(0.1, BUSY_PER_S + 1)
    assert after(CALM_S - 0.1, 0)  # it may be busy again at any moment
    assert not after(0.2, 0)
    assert after(0.1, 8000)
