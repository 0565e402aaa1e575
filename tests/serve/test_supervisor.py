"""Engines that are started again, and their requests: engines without processes, as in `test_replica_set`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from orcinus.config import EngineConfig
from orcinus.core.policies.orca import Orca
from orcinus.core.request import Finish, Request
from orcinus.errors import EngineError
from orcinus.serve import restarts, supervisor
from orcinus.serve.computing_file import ComputingFile, read_computing
from orcinus.serve.messages import SetPace, Use
from orcinus.serve.replica_spec import replica_specs
from orcinus.serve.restarts import DELAYS_S, Restarts
from tests.serve.test_replica_set import PARAMS, PROMPT, Engine, Server, engines, run
from tests.worlds import build_world

__all__ = ["engines"]  # a fixture


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "DELAYS_S", (0.0,) * len(DELAYS_S))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def ids(engine: Engine) -> list[str]:
    return [one.id for one in engine.submitted()]


async def dies(engine: Engine, *computed: str) -> None:
    """The engine dies while it computes these; its successor stands afterwards."""
    engine.computes, engine.sent = frozenset(computed), []
    engine.die()
    await settle()


def test_requests_of_the_only_engine_wait_for_its_successor_and_go_on_in_their_order() -> None:
    async def scenario(server: Server) -> None:
        (engine,) = server.engines
        server.submit("a")
        server.submit("b")
        engine.say(("a", 7), ("a", 8))
        engine.sent = []
        engine.die()
        assert server.submit("c") == 0, "requests are taken meanwhile"
        assert (server.set.serving, engine.sent, server.set.dead) == ([], [], None)
        with pytest.raises(EngineError, match="started again"):
            await server.set.timeline("a")
        await settle()
        assert server.set.serving == [engine]
        assert [(one.id, one.output) for one in engine.submitted()] == [("a", (7, 8)), ("b", ()), ("c", ())]
        assert server.deaths == [(0, "it was killed", ("a", "b"), 0.0)]
        for name in "abc":
            engine.say((name, 9), **{name: Finish.STOP})
        assert [server.answer(name) for name in "abc"] == [([7, 8, 9], "stop"), ([9], "stop"), ([9], "stop")]
        assert server.loads() == [(0, 0, 0)]

    run(scenario, 1, restart=True)


def test_others_take_the_requests_of_a_dead_engine_until_it_is_back() -> None:
    async def scenario(server: Server) -> None:
        first, second = server.engines
        server.submit("a")
        first.die()
        assert ids(second) == ["a"]
        assert server.submit("b") == 1
        await settle()
        assert server.submit("c") == 0
        assert ids(first)[-1:] == ["c"]

    run(scenario, 2, restart=True)


def test_a_cancelled_request_does_not_come_back() -> None:
    async def scenario(server: Server) -> None:
        server.submit("a")
        server.engines[0].die()
        assert server.set.streams.cancel("a")
        await settle()
        assert ids(server.engines[0]) == ["a"], "before its death"
        assert server.answer("a") == ([], "cancelled")

    run(scenario, 1, restart=True)


def test_a_successor_decides_as_its_predecessor_did() -> None:
    async def scenario(server: Server) -> None:
        (engine,) = server.engines
        await server.set.use(Use(policy="sarathi"))
        await server.set.use(Use(order="fair"))
        server.set.settings.set_pace(paused=True)
        engine.using = engine.using.__class__("orca", "fcfs", 8, 64, False, 0, 0, 24)
        await dies(engine)
        assert (engine.using.policy, engine.using.order) == ("sarathi", "fair")
        assert SetPace(True) in engine.sent

    run(scenario, 1, restart=True)


def test_a_request_under_which_engines_die_runs_alone_and_then_fails_alone() -> None:
    async def scenario(server: Server) -> None:
        (engine,) = server.engines
        for name in ("good", "poison", "later"):
            server.submit(name)
        engine.say(("good", 1))
        await dies(engine, "good", "poison")
        assert ids(engine) == ["good", "poison", "later"], "one death proves nothing"
        await dies(engine, "good", "poison")
        assert ids(engine) == ["good"], "the suspects run alone, one after another"
        engine.say(("good", 2))
        assert ids(engine) == ["good", "poison"]
        await dies(engine, "good", "poison")
        assert ids(engine) == ["poison"], "the other one had a token since"
        await dies(engine, "poison")
        assert ids(engine) == ["poison"], "once alone may have been chance"
        await dies(engine, "poison")
        assert server.answer("poison") == ([], "failed")
        assert ids(engine) == ["good", "later"]
        assert server.set.dead is None

    run(scenario, 1, restart=True)


def test_a_suspect_that_makes_progress_is_none_and_the_others_follow() -> None:
    async def scenario(server: Server) -> None:
        (engine,) = server.engines
        for name in "ab":
            server.submit(name)
        for _ in range(2):
            await dies(engine, "a")
        assert ids(engine) == ["a"]
        assert server.submit("c") == 0
        assert ids(engine) == ["a"], "nothing beside a suspect"
        engine.say(("a", 1))
        assert ids(engine) == ["a", "b", "c"]
        await dies(engine, "a", "b")
        assert ids(engine) == ["a", "b", "c"]

    run(scenario, 1, restart=True)


def test_requests_that_only_waited_are_no_suspects() -> None:
    async def scenario(server: Server) -> None:
        (engine,) = server.engines
        for name in "abc":
            server.submit(name)
        for token in range(5):
            await dies(engine, "a")
            engine.say(("a", token))
        assert ids(engine) == ["a", "b", "c"]

    run(scenario, 1, restart=True)


def test_an_engine_that_cannot_live_is_given_up_with_the_cause() -> None:
    async def scenario(server: Server) -> None:
        (engine,) = server.engines
        server.submit("a")
        engine.fails = [f"reason {number}" for number in range(1, 9)]
        engine.die("it fell")
        await settle()
        assert engine.starts == 1 + len(DELAYS_S)
        assert server.set.dead == f"reason {len(DELAYS_S)}"
        assert server.answer("a") == ([], "failed")
        assert server.deaths[-1] == (0, f"reason {len(DELAYS_S)}", (), None)

    run(scenario, 1, restart=True)


def test_when_one_of_two_is_given_up_the_other_serves_all() -> None:
    async def scenario(server: Server) -> None:
        first, second = server.engines
        server.submit("a")
        first.fails = ["no"] * 9
        await dies(first)
        assert server.set.serving == [second]
        assert ids(second) == ["a"]
        assert server.set.dead is None

    run(scenario, 2, restart=True)


def test_rows_of_deaths_end_with_work_or_a_steady_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    row = Restarts()
    assert [row.delay(worked=False, lived_s=1.0) for _ in range(7)] == [*DELAYS_S, None]
    assert row.delay(worked=True, lived_s=1.0) == row.delay(worked=False, lived_s=61.0) == 0.0
    assert [row.delay(worked=False, lived_s=0.0) for _ in range(2)] == [0.5, 1.0]
    row.forgive()
    assert row.delay(worked=False, lived_s=0.0) == 0.0
    assert row.total == 6 + 2 + 2 + 1


def test_the_watchdog_kills_an_engine_that_is_silent_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOOK_S", 0.01)

    async def scenario(server: Server) -> None:
        (engine,) = server.engines
        killed: list[str] = []
        engine.kill = killed.append  # type: ignore[attr-defined]
        watch = asyncio.create_task(server.set.supervisor.watch(server.engines, 5.0))  # type: ignore[arg-type]
        engine.silence = 4.0
        await asyncio.sleep(0.1)
        assert killed == []
        engine.silence = 6.0
        while not killed:
            await asyncio.sleep(0.01)
        watch.cancel()
        assert killed[0].startswith("the engine was silent for 6 s")

    run(scenario, 1)


def test_silence_while_the_server_itself_stood_still_is_not_the_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOOK_S", 0.01)

    async def scenario(server: Server) -> None:
        (engine,) = server.engines
        engine.state.last_sign = 0.0
        began = time.monotonic()
        watch = asyncio.create_task(server.set.supervisor.watch(server.engines, 5.0))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        time.sleep(0.05)  # longer than two looks
        await asyncio.sleep(0.05)
        watch.cancel()
        assert engine.state.last_sign > began

    run(scenario, 1)


def test_a_server_that_leaves_starts_nothing_and_tells_those_that_wait() -> None:
    async def scenario(server: Server) -> None:
        server.submit("a")
        server.engines[0].die()
        await server.set.close()
        await settle()
        assert server.answer("a") == ([], "cancelled")
        assert server.engines[0].starts == 1

    run(scenario, 1, restart=True)


def test_the_file_names_what_is_in_flight_and_survives_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "computing"
    assert read_computing(path) is None
    world = build_world(Orca(), "paged")
    world.engine.observers.append(ComputingFile(path))
    assert read_computing(path) == frozenset()
    for name in "abc":
        world.engine.submit(Request(name, PROMPT, PARAMS, 0.0))
    world.engine.dispatch()
    assert read_computing(path) == {"a", "b", "c"}
    world.engine.settle()
    assert read_computing(path) == frozenset()


def test_a_full_disk_costs_the_file_only(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    world = build_world(Orca(), "paged")
    world.engine.observers.append(ComputingFile(tmp_path / "folder"))
    world.engine.submit(Request("a", PROMPT, PARAMS, 0.0))
    world.engine.step()
    assert read_computing(tmp_path / "folder") is None


def test_a_successor_has_a_record_of_its_own() -> None:
    (spec,) = replica_specs(EngineConfig(record="a/run.jsonl"), 1, {})
    assert spec.again(2).config.record == Path("a/run.restart-2.jsonl")
    assert replica_specs(EngineConfig(), 1, {})[0].again(2).config.record is None
