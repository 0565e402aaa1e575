"""A request that is not ready waits outside the queue, and holds up no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orcinus.core.batch import Event, Finished, Token
from orcinus.core.engine import Engine
from orcinus.core.policies import Orca
from orcinus.core.request import Finish, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.errors import PolicyError
from orcinus.observe.recorder import StepRecorder, read_lines
from orcinus.observe.replay import replay
from tests.worlds import World, build_world, solo

PARAMS = SamplingParams(max_tokens=4, seed=0)


@dataclass
class Doors:
    """A preparation that ends when the test says so."""

    closed: set[str]
    begun: list[str] = field(default_factory=list)
    waited: list[tuple[str, ...]] = field(default_factory=list)

    def begin(self, request: Request) -> None:
        self.begun.append(request.id)

    def ready(self, request: Request) -> bool:
        return request.id not in self.closed

    def wait(self, requests: Sequence[Request], seconds: float) -> None:
        self.waited.append(tuple(request.id for request in requests))


def world_with(doors: Doors) -> World:
    """A world of two places, whose requests wait for `doors`."""
    world = build_world(Orca(), "paged", limits=Limits(max_batch_size=2, max_batch_tokens=64, max_model_len=40))
    world.engine = Engine(
        world.engine.scheduler, world.engine.executor, world.engine.clock, world.engine.observers, preparation=doors
    )
    return world


def request(name: str, arrival: float = 0.0) -> Request:
    return Request(name, (1, 2, len(name)), PARAMS, arrival)


def run(engine: Engine, steps: int) -> list[Event]:
    return [event for _ in range(steps) for event in engine.step()]


def tokens(events: Sequence[Event], name: str) -> list[int]:
    return [event.token for event in events if isinstance(event, Token) and event.request_id == name]


def test_others_run_while_one_prepares() -> None:
    engine = world_with(Doors({"slow"})).engine
    for name in ("slow", "a", "bb"):
        engine.submit(request(name))
    events = run(engine, 4)
    assert [event.request_id for event in events if isinstance(event, Finished)] == ["a", "bb"]
    assert tokens(events, "a") == solo((1, 2, 1), PARAMS)
    assert not engine.idle
    assert engine.num_waiting == 1


def test_once_it_is_ready_it_has_the_place_of_its_arrival() -> None:
    doors = Doors({"slow"})
    engine = world_with(doors).engine
    for place, name in enumerate(("a", "bb", "slow", "next")):
        engine.submit(request(name, float(place)))
    engine.step()  # a and bb take both places
    doors.closed.clear()
    events = run(engine, 7)
    firsts = list(dict.fromkeys(event.request_id for event in events if isinstance(event, Token)))
    assert firsts == ["a", "bb", "slow", "next"]
    assert tokens(events, "slow") == solo((1, 2, 4), PARAMS)


def test_an_engine_with_nothing_else_to_do_waits_instead_of_spinning() -> None:
    doors = Doors({"slow"})
    engine = world_with(doors).engine
    engine.submit(request("slow"))
    assert run(engine, 2) == []
    assert doors.waited == [("slow",)] * 2
    assert doors.begun == ["slow"]


def test_it_can_be_cancelled_meanwhile() -> None:
    doors = Doors({"slow"})
    engine = world_with(doors).engine
    engine.submit(request("slow"))
    (ending,) = engine.cancel("slow")
    assert isinstance(ending, Finished)
    assert (ending.request_id, ending.reason) == ("slow", Finish.CANCELLED)
    assert engine.idle
    doors.closed.clear()
    assert engine.step() == []


def test_its_id_is_taken() -> None:
    engine = world_with(Doors({"slow"})).engine
    engine.submit(request("slow"))
    with pytest.raises(PolicyError, match="'slow' is already in use"):
        engine.submit(request("slow"))


def test_one_that_can_never_run_is_rejected_at_once() -> None:
    doors = Doors({"long"})
    engine = world_with(doors).engine
    (ending,) = engine.submit(Request("long", (1,) * 10_000, PARAMS, 0.0))
    assert isinstance(ending, Finished)
    assert ending.reason is Finish.REJECTED
    assert doors.begun == []


def test_a_replay_makes_the_same_decisions(tmp_path: Path) -> None:
    doors = Doors({"slow"})
    world = world_with(doors)
    kv, limits = world.engine.scheduler.kv, world.engine.scheduler.limits
    header = {
        "policy": "orca", "order": "fcfs", "kv": "paged", "num_blocks": kv.num_blocks, "block_size": kv.block_size,
        "depth": 1, "overlap": [False, False],
        "limits": {name: getattr(limits, name) for name in limits.__dataclass_fields__},
    }  # fmt: skip
    world.engine.observers.append(StepRecorder(tmp_path / "record", header))
    for name in ("slow", "a", "bb"):
        world.engine.submit(request(name))
    run(world.engine, 2)
    doors.closed.clear()
    run(world.engine, 9)
    assert world.engine.idle
    world.engine.close()
    assert replay(read_lines(tmp_path / "record")).requests == 3
