"""How busy the machine is with other things."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orcinus.machine_load import CpuTimes, cpu_times, crowded, load_average, taken, taken_now, usable_cores

LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="/proc/stat is Linux's")


def stat(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("cpu 9999 0 0 0 0 0 0 0 0 0", *lines, "intr 1 2 3", "ctxt 4")) + "\n")
    return path


@LINUX
def test_only_the_cores_that_this_process_may_use_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle time and waiting for disks is not use; the guests are in `user` already."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    tick = os.sysconf("SC_CLK_TCK")
    line = " ".join(str(seconds * tick) for seconds in (1, 2, 3, 100, 50, 4, 5, 7, 1, 1))
    found = cpu_times(stat(tmp_path / "stat", f"cpu0 {line}", f"cpu1 {line}", f"cpu2 {line}"))
    assert found is not None
    assert (found.busy, found.stolen) == (2 * 15, 2 * 7)


@LINUX
def test_work_of_another_process_is_seen_and_ones_own_is_not() -> None:
    before = cpu_times()
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        pass
    middle = cpu_times()
    subprocess.run([sys.executable, "-c", "while sum(__import__('os').times()[:2]) < 1: pass"], check=True)
    after = cpu_times()
    assert before is not None
    assert middle is not None
    assert after is not None
    assert middle.own - before.own > 0
    assert after.own - middle.own == pytest.approx(1, abs=0.6), "a child that has ended is one's own"
    assert after.busy - before.busy >= after.own - before.own - 0.2


SPIN = "import time; end = time.monotonic() + 20\nwhile time.monotonic() < end: pass"


@LINUX
def test_processes_that_spin_are_seen_unless_they_are_ones_own() -> None:
    """A spinner for each core: of another family they take the cores, as descendants they are the measurement's own."""
    command = f"for core in $(seq {usable_cores()}); do {sys.executable} -c '{SPIN}' >/dev/null 2>&1 & echo $!; done"
    orphans = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.split()
    try:
        said = taken_now(0.5)
    finally:
        for number in orphans:
            os.kill(int(number), signal.SIGKILL)
    assert said is not None
    assert said.startswith("other processes took ")
    child = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        before = cpu_times()
        time.sleep(0.5)
        after = cpu_times()
    finally:
        child.kill()
        child.wait()
    assert before is not None
    assert after is not None
    assert after.own > before.own


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert cpu_times(tmp_path / "none") is None
    assert cpu_times(stat(tmp_path / "stat", "cpu0 1 2")) is None
    assert taken(None, CpuTimes(0, 0, 0, 0), 2) is None


@pytest.mark.parametrize(
    ("busy", "stolen", "own", "said"),
    [
        (20, 0, 20, None),
        (21, 0, 20, None),
        (30, 0, 10, "other processes took 2.0 of 2 cores"),
        (20, 10, 15, "other processes took 0.5 of 2 cores, and the hypervisor 1.0"),
        (18, 0, 20, None),
    ],
)
def test_what_others_took(busy: float, stolen: float, own: float, said: str | None) -> None:
    assert taken(CpuTimes(0, 100, 5, 50), CpuTimes(10, 100 + busy, 5 + stolen, 50 + own), 2) == said


@pytest.mark.parametrize(
    ("loads", "said"),
    [([], None), ([3.0], None), ([0.5, 9.0], "load average up to 9.0 on 2 cores")],
)
def test_more_processes_than_cores(loads: list[float], said: str | None) -> None:
    assert crowded(loads, 2) == said


def test_of_this_machine() -> None:
    assert usable_cores() >= 1
    load = load_average()
    assert load is None or load >= 0
