"""A server in threads of this process: real sockets, the product's HTTP server and engine loop, and no process to start.

Two processes take five to ten seconds of a core to import what they need. Tests start them where the processes are the point:
signals, memory, the death of one of them.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from typing import Any
from unittest.mock import patch

import httpx
import uvloop

from orcinus.serve import engine_client, server
from orcinus.serve.engine_loop import serve_engine
from orcinus.serve.engines import to_wire
from orcinus.serve.replica_spec import ReplicaSpec
from tests.commands import Done, orcinus
from tests.serve.conftest import Running, arguments_of


class EngineThread:
    """Stands for an `EngineProcess`."""

    def __init__(self, spec: ReplicaSpec, address: str) -> None:
        thread = ThreadPoolExecutor(1, spec.name)
        configuration = to_wire(spec.config, spec.memory_sharers)
        self.ended = asyncio.wrap_future(thread.submit(serve_engine, address, configuration, os.getppid()))
        thread.shutdown(wait=False)

    async def stop(self) -> None:
        """Wait for the engine, which was told to stop."""
        await self.ended


class ServerThread:
    """Stands for the server's process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, running: server._Server) -> None:
        self._loop, self._running = loop, running

    def send_signal(self, number: int) -> None:
        """Tell the server of a signal."""
        with suppress(RuntimeError):  # the loop is closed: the server has ended by itself
            self._loop.call_soon_threadsafe(self._running.handle_exit, number, None)


class _Server(server._Server):
    """The server without signal handlers, which belong to the main thread."""

    capture_signals = nullcontext  # type: ignore[assignment]


@contextmanager
def engines_in_threads() -> Iterator[None]:
    """Engines that start in the block have threads instead of processes."""
    with patch.object(engine_client, "EngineProcess", EngineThread):
        yield


@contextmanager
def _threads(**others: Any) -> Iterator[None]:
    """Servers that start in the block have threads instead of processes."""
    with engines_in_threads(), patch.multiple(server, _Server=_Server, **others):
        yield


def refusals(*lines: tuple[str, ...]) -> dict[tuple[str, ...], Done]:
    """What servers with these arguments say that cannot start."""

    def run(*configs: Any) -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: uvloop.run(server.serve(*configs))).result(60)

    with _threads(run=run):
        return {line: orcinus("serve", "--port", "0", *line) for line in lines}


def _asked(arguments: tuple[str, ...]) -> tuple[Any, Any]:
    """The configurations that the command line makes of its arguments."""
    found = list[tuple[Any, Any]]()
    with patch.object(server, "run", lambda *configs: found.append(configs)):
        done = orcinus("serve", "--port", "0", *arguments_of(arguments))
    assert done.returncode == 0, done.stderr
    return found[0]


@contextmanager
def serving_in_process(*arguments: str) -> Iterator[Running]:
    """A server for the block, started with the arguments of `orcinus serve`. Its `process` takes signals.

    Raises, after the block, what ended the server if nothing told it to leave.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # noqa: F401  # two threads must not be first at once

    started: queue.Queue[tuple[server._Server, str] | None] = queue.Queue()
    asked, ended = _asked(arguments), Future[None]()

    def announce(opening: asyncio.Task[None], running: server._Server, where: str) -> None:
        if opening.cancelled() or opening.exception() is not None:
            running.should_exit = True
        else:
            loops.append(asyncio.get_running_loop())
            started.put((running, where))

    def serve() -> None:
        try:
            uvloop.run(server.serve(*asked))
            ended.set_result(None)
        except BaseException as error:
            ended.set_exception(error)
        started.put(None)

    loops = list[asyncio.AbstractEventLoop]()
    with _threads(_announce=announce):
        thread = threading.Thread(target=serve, name="server")
        thread.start()
        found = started.get(timeout=600)  # a first start compiles kernels, on a busy machine for minutes
    if found is None:
        ended.result()
        raise AssertionError("the server ended before it was ready")
    process, url = ServerThread(loops[0], found[0]), found[1]
    try:
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Running(process, client, url)
    finally:
        process.send_signal(signal.SIGTERM)
        thread.join(timeout=60)
        ended.result(timeout=0)
