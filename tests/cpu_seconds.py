"""CPU seconds of each area of the tests and of the costliest tests, child processes included, after every run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COLLECTING = "imports and collection"
COSTLIEST = 10  # tests that are named


def spent() -> float:
    """CPU seconds of this process and all its descendants, those still running included (on Linux)."""
    return sum(os.times()[:4]) + sum(map(_of_living, _children(os.getpid())))


def _children(process: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it has just ended, or there is no such file on this system
        return []


def _of_living(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # user, system, and the same of children that have ended
    return own + sum(map(_of_living, _children(process)))


def area(test: str) -> str:
    """`tests/serve/test_app.py::test_it` -> `serve`; files directly in tests/ are one area."""
    parts = test.partition("::")[0].split("/")
    return parts[1] if len(parts) > 2 else "tests"


class CpuSeconds:
    """Seconds and number of runs by test, its parameters left out; processes of xdist send theirs to the first one."""

    def __init__(self, config: pytest.Config) -> None:
        self._seconds: Counter[str] = Counter()
        self._runs: Counter[str] = Counter()
        self._worker: dict[str, Any] | None = getattr(config, "workeroutput", None)

    def pytest_collection_finish(self) -> None:
        self._seconds[COLLECTING] += sum(os.times()[:2])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = spent()
        result = yield
        test = item.nodeid.partition("[")[0]
        self._seconds[test] += spent() - before
        self._runs[test] += 1
        return result

    def pytest_sessionfinish(self) -> None:
        if self._worker is not None:
            self._worker["cpu_seconds"] = dict(self._seconds), dict(self._runs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        seconds, runs = getattr(node, "workeroutput", {}).get("cpu_seconds", ({}, {}))  # none if the process was killed
        self._seconds.update(seconds)
        self._runs.update(runs)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if config.pluginmanager.has_plugin("dsession"):  # the first process of xdist runs no test
            self._seconds[COLLECTING] += sum(os.times()[:2])
        areas: Counter[str] = Counter()
        runs: Counter[str] = Counter()
        for test, seconds in self._seconds.items():
            name = area(test) if "::" in test else test
            areas[name] += seconds
            runs[name] += self._runs[test]
        terminalreporter.section("CPU seconds, child processes included")
        for name, seconds in areas.most_common():
            terminalreporter.line(f"{seconds:8.1f}  {name}" + (f" ({runs[name]} tests)" if runs[name] else ""))
        terminalreporter.line(f"{areas.total():8.1f}  in all; the costliest tests:")
        for test, seconds in Counter({test: s for test, s in self._seconds.items() if "::" in test}).most_common(COSTLIEST):
            terminalreporter.line(f"{seconds:8.1f}  {test} ({self._runs[test]})")
