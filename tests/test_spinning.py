"""Waiting threads spin on a quiet machine and sleep on a busy one."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from orcinus import spinning
from orcinus.spinning import BUSY, CALM_S, LOOKS, Contention, SleepingTeam, waited

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
    """Its clock, and how long each of two threads has waited for a CPU."""
    now = {"seconds": 0.0, "1": 0.0, "2": 5.0}
    monkeypatch.setattr(spinning.time, "monotonic", lambda: now["seconds"])
    monkeypatch.setattr(spinning, "waited", lambda: {thread: now[thread] for thread in ("1", "2", "3") if thread in now})
    return now


def test_a_machine_is_busy_while_threads_wait_for_a_cpu(machine: dict[str, float]) -> None:
    contention = Contention()

    def after(seconds: float, share: float) -> bool:
        machine["seconds"] += seconds
        machine["1"] += seconds * share / 2
        machine["2"] += seconds * share / 2
        return contention.busy()

    assert not after(0.1, BUSY * LOOKS * 0.9), "a stall is no busy machine"
    assert not any(after(0.1, 0) for _ in range(LOOKS))
    assert not any(after(0.1, BUSY * 0.9) for _ in range(2 * LOOKS))
    assert [after(0.1, BUSY * 2) for _ in range(LOOKS)][-1]
    assert not [after(0.1, 0) for _ in range(LOOKS + int(10 * CALM_S) + 1)][-1]
    assert after(0.1, BUSY * LOOKS * 1.1)
    assert [after(0.1, 0) for _ in range(int(10 * CALM_S))][-1], "it may be busy again at any moment"
    assert not [after(0.1, 0) for _ in range(LOOKS + 1)][-1]
    machine["3"] = 100.0  # a thread that is new, with a past of its own
    assert not after(0.1, 0)
    del machine["2"]  # one that has ended
    machine["seconds"] += 0.1
    assert not contention.busy()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts it")
def test_a_process_is_told_how_long_its_threads_waited() -> None:
    found = waited()
    assert str(os.getpid()) in found
    assert all(seconds >= 0 for seconds in found.values())


def test_a_system_that_does_not_count_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spinning, "WAITED", "/nowhere/{}")
    with pytest.raises(OSError, match="does not count"):
        Contention()


def test_the_machine_is_followed_on_after_it_could_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: Iterator[bool | OSError] = iter([True, OSError("too many open files"), False])
    told: list[str] = []
    ended = threading.Event()

    class Team(SleepingTeam):
        def __init__(self) -> None: ...

        def hold(self) -> None:
            told.append("hold")

        def release(self) -> None:
            told.append("release")
            ended.set()

    class Machine:
        """In place of `Contention`, for this test's thread alone: another may follow the machine for an engine."""

        def busy(self) -> bool:
            if ended.is_set():
                threading.Event().wait()  # for ever, in a thread that ends with the process
            if isinstance(look := next(looks), OSError):
                raise look
            return look

    monkeypatch.setattr(spinning, "PERIOD_S", 0.001)
    monkeypatch.setattr(spinning, "Contention", Machine)
    spinning.follow_contention(Team())
    assert ended.wait(10)
    assert told == ["hold", "release"]
