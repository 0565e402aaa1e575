"""Observers against cases computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import Finished, Submitted, Token
from orcinus.core.policies import Orca, RequestLevel
from orcinus.core.request import Finish
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.observe.latency import LatencyObserver, mean, percentile
from orcinus.observe.slots import Cell, Phase, SlotObserver
from tests.worlds import Job, build_world, run


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 100))
def test_percentiles_are_numpys(values: list[float], p: float) -> None:
    assert percentile(values, p) == pytest.approx(float(np.percentile(values, p)), rel=1e-9, abs=1e-6)


def test_of_nothing_there_is_no_mean() -> None:
    assert math.isnan(mean([]))
    assert math.isnan(percentile([], 50))


def test_latencies_by_hand() -> None:
    observer = LatencyObserver()
    for name, at in (("a", 10.0), ("b", 11.0)):
        observer.on_submit(Submitted(name, (1, 2), SamplingParams(), at))
    observer.on_events([Token("a", 1, 12.0), Token("a", 1, 12.5), Token("b", 1, 13.0)])
    observer.on_events([Finished("a", Finish.LENGTH, 12.5), Finished("b", Finish.CANCELLED, 15.0)])
    assert observer.ttft() == [2.0, 2.0]
    assert observer.tbt() == [0.5]
    assert observer.e2e() == [2.5]
    assert observer.output_throughput() == pytest.approx(3 / 5)


def picture(policy: Orca | RequestLevel, *lengths: int) -> list[str]:
    """Rows of slots: capital = prefill, small = decode, . = idle."""
    slots = SlotObserver(2)
    world = build_world(policy, "reservation", limits=Limits(2, 64, 40))
    world.engine.observers.append(slots)
    run(world, [Job(0, (1, 2), SamplingParams(max_tokens=length, seed=0)) for length in lengths])
    names = {f"r{index}": letter for index, letter in enumerate("ABCDE")}

    def text(cell: Cell | None) -> str:
        if cell is None:
            return "."
        return names[cell.request_id] if cell.phase is Phase.PREFILL else names[cell.request_id].lower()

    return ["".join(text(column[slot]) for column in slots.columns) for slot in range(2)]


def test_static_slots_stay_empty_and_iteration_level_slots_refill() -> None:
    assert picture(RequestLevel(), 5, 1, 3, 1) == ["AaaaaCcc", "B....D.."]
    assert picture(Orca(), 5, 1, 3, 1) == ["Aaaaa", "BCccD"]


def test_slot_use_is_the_share_of_busy_slots() -> None:
    slots = SlotObserver(2)
    world = build_world(RequestLevel(), "reservation", limits=Limits(2, 64, 40))
    world.engine.observers.append(slots)
    run(world, [Job(0, (1, 2), SamplingParams(max_tokens=length, seed=0)) for length in (5, 1)])
    assert slots.use == pytest.approx(6 / 10)
