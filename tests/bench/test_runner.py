"""Sides are measured in turn, and Ctrl-C keeps what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from orcinus.bench.record import Repeat
from orcinus.bench.result import Setting
from orcinus.bench.runner import Interrupted, measure_sides, turns
from orcinus.workload.workload import Workload, make_workload
from tests.bench.made_up_runs import run_of

WORKLOAD = make_workload("all-at-once", "mixed", 3)


@dataclass
class FakeSystem:
    """Takes a second for everything, and remembers in `diary` what it did."""

    name: str
    diary: list[str]
    interrupt: Callable[[str, int], BaseException | None] = lambda name, number: None
    settings: dict[str, Setting] = field(default_factory=dict)

    def measure(self, workload: Workload, number: int = 0, watch: Callable[[int], None] | None = None) -> Repeat:
        self.diary.append(f"{self.name}{number}")
        if (stop := self.interrupt(self.name, number)) is not None:
            raise stop
        return run_of(1.0, number)

    def warm_up(self, workload: Workload) -> None:
        self.diary.append(f"{self.name} warms up")


def test_every_side_runs_once_a_round_and_each_round_begins_with_another() -> None:
    assert list(turns("abc", 4)) == [
        *[(0, "a"), (0, "b"), (0, "c")],
        *[(1, "b"), (1, "c"), (1, "a")],
        *[(2, "c"), (2, "a"), (2, "b")],
        *[(3, "a"), (3, "b"), (3, "c")],
    ]


def test_all_are_warmed_up_before_anything_counts() -> None:
    diary: list[str] = []
    sides, complete = measure_sides([FakeSystem("a", diary), FakeSystem("b", diary)], WORKLOAD, 2, 3)
    assert diary == ["a warms up", "b warms up", "a0", "b0", "b1", "a1"]
    assert complete
    assert [[repeat.round for repeat in side.repeats] for side in sides] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("stop", "kept"), [(KeyboardInterrupt(), [False]), (Interrupted(run_of(0.5, 1)), [False, True])], ids=["between", "within"]
)
def test_ctrl_c_keeps_what_was_measured(stop: BaseException, kept: list[bool]) -> None:
    def interrupt(name: str, number: int) -> BaseException | None:
        return stop if (name, number) == ("a", 1) else None

    diary: list[str] = []
    sides, complete = measure_sides([FakeSystem("a", diary, interrupt), FakeSystem("b", diary)], WORKLOAD, 3, 3)
    assert not complete
    assert [repeat.partial for repeat in sides[0].repeats] == kept
    assert len(sides[1].repeats) == 2
    assert diary[-1] == "a1"


def test_ctrl_c_while_warming_up_leaves_nothing() -> None:
    class Impatient(FakeSystem):
        def warm_up(self, workload: Workload) -> None:
            raise Interrupted(run_of(1.0))

    sides, complete = measure_sides([Impatient("a", [])], WORKLOAD, 1, 3)
    assert not complete
    assert sides[0].repeats == ()
