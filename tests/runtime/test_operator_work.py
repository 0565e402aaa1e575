"""The work of operators, by counting; timers, by a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.runtime import device_memory, operator_timers
from orcinus.runtime.operator_timers import OperatorTimers
from orcinus.runtime.operator_work import MachineRates, OperatorKind, OperatorWork, _before, _pairs, measure_rates


@given(start=st.integers(0, 40), tokens=st.integers(1, 20), window=st.none() | st.integers(1, 50))
def test_pairs_and_contexts_are_what_each_token_sees(start: int, tokens: int, window: int | None) -> None:
    seen = [range(max(0, at + 1 - window) if window else 0, at + 1) for at in range(start, start + tokens)]
    assert _pairs(start, tokens, window) == sum(map(len, seen))
    assert _before(start, window) == len([at for at in seen[0] if at < start])


@pytest.mark.parametrize(
    ("work", "seconds"), [(OperatorWork(1, 400, 30), 4), (OperatorWork(1, 40, 30), 3), (OperatorWork(5), 0)]
)
def test_the_floor_is_the_slower_of_memory_and_arithmetic(work: OperatorWork, seconds: float) -> None:
    assert MachineRates(bytes_per_s=100, operations_per_s=10).floor(work) == seconds


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rates_are_measured(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "SECONDS", 0.001)
    rates = measure_rates(dtype, 2**20)
    assert rates.bytes_per_s > 1e6
    assert rates.operations_per_s > 1e6


class Machine:
    """Operators that take whole seconds of a clock, some of them inside others."""

    def __init__(self) -> None:
        self.now = 0.0
        self.product: Callable[[], str] = self.multiply  # an attribute of the object itself, as of an attention backend

    def multiply(self) -> str:
        self.now += 3
        return "product"

    def norm(self) -> None:
        self.now += 1

    def layer(self) -> str:
        self.now += 10
        self.norm()
        found = self.product()
        self.now += 20
        return found

    def fail(self) -> None:
        self.now += 7
        raise ValueError("as asked")


def test_time_counts_for_the_innermost_operator_and_attributes_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine()
    monkeypatch.setattr(operator_timers, "perf_counter", lambda: machine.now)
    before = dict(vars(machine))
    targets = [
        (machine, "norm", OperatorKind.NORMS),
        (machine, "product", OperatorKind.DOWN),
        (machine, "fail", OperatorKind.HEAD),
    ]
    timers = OperatorTimers(targets)
    step = timers.timed(machine.layer, OperatorKind.BETWEEN)
    for _ in range(2):  # the second time forgets the first
        with timers:
            assert (step(), step()) == ("product", "product")
            machine.now += 1000  # outside all of them
            with pytest.raises(ValueError, match="as asked"):
                machine.fail()
        seconds = {kind: took for kind, took in timers.seconds.items() if took}
        kinds = OperatorKind.NORMS, OperatorKind.DOWN, OperatorKind.BETWEEN, OperatorKind.HEAD
        assert seconds == dict(zip(kinds, (2, 6, 60, 7), strict=True))
        assert [timers.calls[kind] for kind in kinds] == [2, 2, 2, 1]
        assert vars(machine) == before | {"now": machine.now}
