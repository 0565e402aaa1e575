"""Bytes between processes that are no message: their sender is ended at once, and no reader waits for it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
import zmq.asyncio

from orcinus.errors import ConfigError, EngineError
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.messages import SignOfLife
from orcinus.runtime.parallel.messages import encode as encode_report
from orcinus.runtime.parallel.sockets import EngineSockets
from orcinus.runtime.parallel.watch import RankWatch
from orcinus.serve import engine_client
from orcinus.serve.engine_client import EngineClient
from orcinus.serve.engine_loop import serve_engine
from orcinus.serve.engines import to_wire
from orcinus.serve.messages import EngineFailed, Ready, Stop, Use
from orcinus.serve.wire import ServerWire, encode
from orcinus.sim.live_config import LiveConfig
from tests.waiting import wait_until

READY = encode(Ready(64, 512, 1024, 64))
UNREADABLE = [b"", b"\xc1", b"GET / HTTP/1.1\r\n\r\n", READY[:-1], encode(Stop()), b"\x91" * 5000]


class Process:
    """An engine's process that sends these frames, and ends when it is killed."""

    def __init__(self, address: str, frames: list[bytes]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self.killed = False
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.connect(address)
        for frame in frames:
            self._socket.send(frame)

    def kill(self) -> None:
        self.killed = True
        self._context.destroy(0)
        if not self.ended.done():
            self.ended.set_result(-9)

    async def stop(self) -> None:
        self.kill()


def engine_that_sends(
    frames: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[[EngineClient, list[str], list[Process]], Awaitable[None]],
) -> None:
    """Run a scenario with a client of such an engine, the reasons of its deaths, and its process."""

    async def run() -> None:
        deaths, processes = list[str](), list[Process]()

        def start(spec: Any, address: str) -> Process:
            processes.append(Process(address, frames))
            return processes[-1]

        monkeypatch.setattr(engine_client, "EngineProcess", start)
        client = EngineClient(0, lambda *_: None, lambda _, reason: deaths.append(reason))
        try:
            async with asyncio.timeout(20):
                await scenario(client, deaths, processes)
        finally:
            await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("frame", UNREADABLE, ids=range(len(UNREADABLE)))
def test_an_engine_that_sends_what_is_no_message_is_killed_and_its_death_is_told(
    frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(client: EngineClient, deaths: list[str], processes: list[Process]) -> None:
        await client.start(SimpleNamespace())  # type: ignore[arg-type]
        while not deaths:
            await asyncio.sleep(0.001)
        assert processes[0].killed
        assert deaths[0].startswith("the engine sent what is no message")
        assert "\n" not in deaths[0]
        with pytest.raises(EngineError, match="no message"):
            await client.use(Use())

    engine_that_sends([READY, frame], monkeypatch, scenario)


def test_one_that_does_so_while_it_starts_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(client: EngineClient, deaths: list[str], processes: list[Process]) -> None:
        with pytest.raises(ConfigError, match="the engine sent what is no message"):
            await client.start(SimpleNamespace())  # type: ignore[arg-type]
        assert processes[0].killed

    engine_that_sends([b"junk"], monkeypatch, scenario)


@pytest.mark.parametrize("frame", [b"", b"\xc1 junk", READY], ids=["empty", "junk", "the other direction's"])
def test_an_engine_that_hears_what_is_no_message_ends_and_says_why(frame: bytes) -> None:
    async def scenario() -> tuple[EngineFailed, int]:
        wire = ServerWire()
        with ThreadPoolExecutor(1) as thread:
            status = thread.submit(serve_engine, wire.bind(), to_wire(LiveConfig(model="llama-7b")), os.getppid())
            async with asyncio.timeout(60):
                while not isinstance(await wire.receive(), Ready):
                    pass
                await wire._socket.send(frame)
                while not isinstance(message := await wire.receive(), EngineFailed):
                    pass
            found = await asyncio.wrap_future(status)
        wire.close()
        return message, found

    failed, status = asyncio.run(scenario())
    assert status == 1
    assert failed.reason.startswith("the engine stopped: ")


@pytest.mark.parametrize("frame", [b"\xc1 junk", encode_report(SignOfLife(7, 0, ""))], ids=["junk", "a rank that is none"])
def test_a_report_that_is_none_ends_the_mesh(frame: bytes) -> None:
    sockets = EngineSockets()
    watch = RankWatch(Mesh(tp=2), sockets, SimpleNamespace(ended=dict))  # type: ignore[arg-type]
    watch.start()
    with zmq.Context() as context, context.socket(zmq.PUSH) as rank:
        rank.connect(sockets.addresses.reports)
        rank.send(frame)
        wait_until(lambda: watch.failure is not None)
    watch.stop()
    sockets.close()
    assert watch.failure is not None
    assert watch.failure.startswith("a report of a rank cannot be read")
