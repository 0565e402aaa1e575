"""A real server, real sockets, the bundled model: in threads of this process, or in two processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@dataclass
class Running:
    """A server and a client for it."""

    process: Any  # subprocess.Popen[str], or `tests.serve.in_process.ServerThread`
    http: httpx.Client
    url: str

    def scheduler(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/v1/scheduler").json()
        return found

    def idle(self, within: float = 20.0) -> bool:
        """Whether every request leaves and every block is free again soon."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            state = self.scheduler()
            if state["running"] == state["waiting"] == 0 and state["free_blocks"] == state["num_blocks"]:
                return True
            time.sleep(0.02)
        return False


def arguments_of(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """These arguments, and what makes the answers of a real model exact."""
    return arguments if "--simulate" in arguments else ("--dtype", "float32", *arguments)


def start(*arguments: str) -> Running:
    """Start a server on a free port and wait for the line that says where it is."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orcinus", "serve", "--port", "0", *arguments_of(arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"at (http://\S+)", line)
    if not found:
        process.kill()
        raise AssertionError(f"no address in {line!r}: {process.communicate()[1]}")
    return Running(process, httpx.Client(base_url=found[1], timeout=60), found[1])


def stop(server: Running) -> None:
    server.http.close()
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout=20)
    for pipe in (server.process.stdout, server.process.stderr):
        assert pipe is not None
        pipe.close()


@contextmanager
def serving(*arguments: str) -> Iterator[Running]:
    """A server of one's own, gone at the end whatever happens."""
    running = start(*arguments)
    try:
        yield running
    finally:
        stop(running)


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    """One server, in threads, for all tests that leave it as they found it."""
    from tests.serve.in_process import serving_in_process  # imports the server, which most tests do not need

    with serving_in_process("--max-queue", "64") as running:
        yield running
