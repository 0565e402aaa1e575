"""Measures sides in turn; an interrupted run keeps its measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from orcinus.bench.machine import commit, this_command, this_machine, versions
from orcinus.bench.record import Repeat
from orcinus.bench.result import Result, Setting, Side, Work
from orcinus.workload.workload import Workload

T = TypeVar("T")
Bar = Callable[[str, int], Callable[..., None]]  # makes a progress bar from its name and total


def no_bar(name: str, total: int) -> Callable[..., None]:
    """A progress bar that shows nothing."""
    return lambda *_: None


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; `repeat` is the part measured."""

    def __init__(self, repeat: Repeat) -> None:
        super().__init__()
        self.repeat = replace(repeat, partial=True)


class System(Protocol):
    """A system that serves workloads: an in-process engine, or a server."""

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Setting]: ...

    def measure(self, workload: Workload, number: int = 0, watch: Callable[[int], None] | None = None) -> Repeat:
        """Serve a workload to its end, in round `number`.

        `watch` hears how many requests have ended. Raises `Interrupted` at Ctrl-C.
        """
        ...

    def warm_up(self, workload: Workload) -> None:
        """Serve a few requests, to exclude lazy initialisation from the measurement."""
        ...


@dataclass(frozen=True, slots=True)
class Point:
    """A system with a workload: a side of a result."""

    name: str
    system: System
    workload: Workload
    settings: Mapping[str, Setting]


def turns(points: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Pairs (round, point); each round begins with another point."""
    for number in range(rounds):
        shift = number % len(points)
        yield from ((number, point) for point in [*points[shift:], *points[:shift]])


def measure_sides(
    systems: Sequence[System], workload: Workload, rounds: int, requests: int, bar: Bar = no_bar
) -> tuple[list[Side], bool]:
    """Warm up, then let every system serve the workload once a round."""
    points = [Point(system.name, system, workload, system.settings) for system in systems]
    return measure_points(points, rounds, requests, bar)


def measure_points(points: Sequence[Point], rounds: int, requests: int, bar: Bar = no_bar) -> tuple[list[Side], bool]:
    """The measured sides, and whether all runs were made.

    Ctrl-C ends them early.
    """
    found: dict[str, list[Repeat]] = {point.name: [] for point in points}
    complete, current = False, list[Repeat]()
    try:
        _warm_up(points, bar)
        runs = bar("runs", rounds * len(points))
        for done, (number, point) in enumerate(turns(points, rounds), 1):
            current, watch = found[point.name], bar(f"{point.name}, {number + 1} of {rounds}", requests)
            current.append(point.system.measure(point.workload, number, watch))
            watch(requests)
            runs(done)
        complete = True
    except Interrupted as stop:
        current += [stop.repeat] if stop.repeat.requests else []
    except KeyboardInterrupt:  # between two runs
        pass
    sides = [Side(name=each.name, settings=dict(each.settings), repeats=tuple(found[each.name])) for each in points]
    return sides, complete


def _warm_up(points: Sequence[Point], bar: Bar) -> None:
    """Warm up every system once, with its first workload."""
    firsts: dict[int, Point] = {}
    for point in points:
        firsts.setdefault(id(point.system), point)
    told = bar("warm-up", len(firsts))
    for done, point in enumerate(firsts.values(), 1):
        point.system.warm_up(point.workload)
        told(done)


def make_result(kind: Any, work: Work, sides: Sequence[Side], **rest: Any) -> Result:
    """A result with this machine and time.

    `rest` are other fields of `Result`.
    """
    return Result(
        kind=kind,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        command=this_command(),
        commit=commit(),
        versions=versions(),
        machine=this_machine(),
        work=work,
        sides=tuple(sides),
        **rest,
    )
