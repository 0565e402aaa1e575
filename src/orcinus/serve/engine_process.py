"""Starts, watches and stops the engine's process, from its parent."""

from __future__ import annotations

import asyncio
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from orcinus.parent import python_module, signals_held
from orcinus.serve.engines import to_wire
from orcinus.serve.keys import KEY_VARIABLES
from orcinus.serve.replica_spec import ReplicaSpec

STOP_S = 3.0  # for the process to end by itself before it is killed


class EngineProcess:
    """A child process that runs `orcinus.serve.engine_loop`."""

    def __init__(self, spec: ReplicaSpec, address: str) -> None:
        command = python_module("orcinus.serve.engine_loop", address, str(os.getpid()), spec.name)
        with signals_held():  # the parent decides what a signal means, even if both get it
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=_environment() | spec.environment)
        watcher = ThreadPoolExecutor(1, "watch-engine")  # a thread of its own: those of the event loop are few
        self.ended = asyncio.wrap_future(watcher.submit(self._process.wait))  # its exit status
        watcher.shutdown(wait=False)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has already ended, as its exit status will tell
            self._process.stdin.write(to_wire(spec.config, spec.memory_sharers))
            self._process.stdin.close()

    def kill(self) -> None:
        """Kill it at once, even if it is stopped or hangs."""
        self._process.kill()

    async def stop(self) -> None:
        """Wait for a process that was told to stop, then kill it."""
        await asyncio.wait((self.ended,), timeout=STOP_S)
        if not self.ended.done():
            self._process.kill()
            await self.ended


def _environment() -> dict[str, str]:
    """This process's environment without API keys, which engines and their ranks do not need."""
    return {name: value for name, value in os.environ.items() if name not in KEY_VARIABLES}
