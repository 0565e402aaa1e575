"""The capacity of a system, found by measuring; here of one whose latency is a known function of the rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from orcinus.bench.capacity import kept_by, missed, run_capacity
from orcinus.bench.config import LoadConfig
from orcinus.bench.formatting import digits
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.bench.result import Setting
from orcinus.bench.sweep import read_rates, run_sweep
from orcinus.bench.validity import doubts
from orcinus.core.slo import SLO, capacity_slo
from orcinus.errors import ConfigError
from orcinus.workload.processes import Poisson
from orcinus.workload.workload import Workload
from tests.bench.made_up_runs import lost, repeat, run_of, work

LOAD = LoadConfig(arrivals="poisson:rate=1", requests=5, repeats=1)


@dataclass
class Queue:
    """Its end-to-end latency is 1 s as far as its capacity, and grows beyond."""

    capacity: float
    name: str = "queue"
    tried: list[float] = field(default_factory=list)
    settings: dict[str, Setting] = field(default_factory=dict)

    def measure(self, workload: Workload, number: int = 0, watch: Callable[[int], None] | None = None) -> Repeat:
        assert isinstance(workload.arrivals, Poisson)
        rate = workload.arrivals.rate
        self.tried.append(rate)
        return run_of(1.0 if rate <= self.capacity else 1.0 + rate / self.capacity, number)

    def warm_up(self, workload: Workload) -> None:
        """It has nothing to get used to."""


@pytest.mark.parametrize("capacity", [0.07, 1.0, 3.3, 250.0])
@pytest.mark.parametrize("tolerance", [0.02, 0.1, 0.5])
def test_the_capacity_is_found_to_within_the_tolerance(capacity: float, tolerance: float) -> None:
    system = Queue(capacity)
    found = run_capacity([system], LOAD, work(), SLO({"e2e.p50": 1.5}), first=1.0, tolerance=tolerance).capacity["queue"]
    assert found <= capacity * (1 + 1e-9)
    assert capacity < found * (1 + tolerance) * (1 + 1e-9)
    assert len(system.tried) == len(set(system.tried)), "no rate is tried twice"


def test_every_rate_that_was_tried_is_a_side_of_the_result() -> None:
    system = Queue(2.0)
    found = run_capacity([system], LOAD, work(), SLO({"e2e.p50": 1.5}), first=1.0, tolerance=0.1)
    assert [side.settings["rate"] for side in found.sides] == system.tried
    assert all(side.settings["kept"] is (float(side.settings["rate"] or 0) <= 2.0) for side in found.sides)


def test_promises_that_are_kept_at_no_rate_make_a_capacity_of_nothing() -> None:
    found = run_capacity([Queue(0.0001)], LOAD, work(), SLO({"e2e.p50": 0.5}), first=1.0, tolerance=0.5)
    assert found.capacity == {"queue": 0.0}
    lowest = min(float(side.settings["rate"] or 0) for side in found.sides)
    (line,) = missed(found)
    assert line == f"queue, at {digits(lowest)} requests/s: e2e.p50 is {digits(1e3 + 1e7 * lowest)} ms, " + (
        f"{digits(2 + 2e4 * lowest)} times the objective of 500 ms"
    )


def test_only_what_was_not_kept_is_named() -> None:
    promises = SLO({"e2e.p50": 2.0, "ttft.p99": 0.1, "tbt.p99": 0.001})
    found = run_capacity([Queue(1e6)], LOAD, work(), promises, first=1.0, tolerance=0.5)
    assert [line.partition(": ")[2] for line in missed(found)] == [
        "ttft.p99 is 500 ms, 5 times the objective of 100 ms",
        "tbt.p99 is 500 ms, 500 times the objective of 1 ms",
    ]
    kept = run_capacity([Queue(2.0)], LOAD, work(), SLO({"e2e.p50": 1.5}), first=1.0, tolerance=0.5)
    assert missed(kept) == []


def test_promises_that_every_rate_keeps_are_no_answer() -> None:
    with pytest.raises(ConfigError, match="the workload is too short to tell"):
        run_capacity([Queue(1.0)], LOAD, work(), SLO({"e2e.p50": 1e9}), first=1.0, tolerance=0.5)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, float("nan"), float("inf")])
def test_promises_that_mean_nothing(seconds: float) -> None:
    with pytest.raises(ConfigError, match="an objective must be a number of seconds above 0"):
        run_capacity([Queue(1.0)], LOAD, work(), SLO({"e2e.p50": seconds}), first=1.0, tolerance=0.5)


def test_where_nothing_can_be_measured_the_search_ends_with_what_was_kept() -> None:
    """The client is late from 10 requests a second on: that says nothing about the system."""

    class Unmeasurable(Queue):
        def measure(self, workload: Workload, number: int = 0, watch: Callable[[int], None] | None = None) -> Repeat:
            found = super().measure(workload, number, watch)
            return replace(found, problems=("the client was late",)) if self.tried[-1] > 10 else found

    found = run_capacity([Unmeasurable(1e9)], LOAD, work(), SLO({"e2e.p50": 1.5}), first=1.0, tolerance=0.1)
    assert 5 <= found.capacity["queue"] <= 10
    assert found.sides[-1].settings["kept"] is None
    assert any("could not be measured" in doubt.what for doubt in doubts(found))


def test_a_search_does_not_go_on_for_ever_below() -> None:
    system = Queue(0.0001)
    found = run_capacity([system], LOAD, work(requests=100), SLO({"e2e.p50": 0.5}), first=1.0, tolerance=0.5)
    assert found.capacity == {"queue": 0.0}
    assert min(system.tried) >= 100 / 600


def test_a_capacity_needs_an_objective() -> None:
    with pytest.raises(ConfigError, match=r"needs an objective: bound one of ttft\.p99"):
        capacity_slo({"ttft.p99": None})


def test_the_median_of_the_repeats_decides() -> None:
    assert kept_by([run_of(1.0), run_of(1.0, 1), run_of(9.0, 2)], SLO({"e2e.p50": 2.0}))
    assert not kept_by([run_of(1.0), run_of(9.0, 1), run_of(9.0, 2)], SLO({"e2e.p50": 2.0}))


@pytest.mark.parametrize(
    "repeats",
    [
        [repeat(lost(0, RequestOutcome.REJECTED))],
        [repeat(*run_of(1.0).requests, lost(1, RequestOutcome.REJECTED))],
        [run_of(1.0, problems=("the client was late",))],
        [],
    ],
    ids=["nothing served", "one refused", "not to be believed", "nothing measured"],
)
def test_what_is_not_served_or_not_believed_keeps_no_promise(repeats: list[Repeat]) -> None:
    assert not kept_by(repeats, SLO({"e2e.p50": 2.0}))


def test_a_sweep_measures_every_system_at_every_rate_in_turn() -> None:
    one, other = Queue(2.0, "one"), Queue(8.0, "other")
    found = run_sweep([one, other], LoadConfig(arrivals="poisson:rate=1", repeats=2), work(), [1.0, 4.0])
    assert [(side.settings["system"], side.settings["rate"]) for side in found.sides] == [
        *[("one", 1.0), ("other", 1.0)],
        *[("one", 4.0), ("other", 4.0)],
    ]
    assert one.tried == [1.0, 4.0, 4.0, 1.0]


def test_a_sweep_needs_arrivals_that_have_a_rate() -> None:
    with pytest.raises(ConfigError, match="has no rate to vary"):
        run_sweep([Queue(1.0)], LoadConfig(arrivals="closed:clients=2"), work(), [1.0])


def test_rates_in_words() -> None:
    assert read_rates("4,1,2,2") == [1.0, 2.0, 4.0]
    for wrong in ("", "x", "1,,2", "0", "-1", "inf", "nan"):
        with pytest.raises(ConfigError, match="--rates wants requests per second"):
            read_rates(wrong)
