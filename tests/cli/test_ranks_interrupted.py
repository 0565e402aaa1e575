"""Ctrl-C while a command starts ranks, or uses them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import ENVIRONMENT, ORCINUS
from tests.waiting import wait_until

GENERATE = [*ORCINUS, "generate", "--tp", "2", "--max-tokens", "1500", "--ignore-eos", "Once upon a time"]


def ranks_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"parallel.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.fixture
def command() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(GENERATE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        yield process
        process.kill()


def interrupt(command: subprocess.Popen[bytes]) -> list[str]:
    """Press Ctrl-C: the command ends with one line, and no rank is left."""
    ranks = ranks_of(command.pid)
    assert len(ranks) == 2
    command.send_signal(signal.SIGINT)
    assert command.wait(timeout=30) == 130
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks))
    assert command.stderr is not None
    return command.stderr.read().decode().splitlines()


@pytest.mark.full
def test_while_ranks_load(command: subprocess.Popen[bytes]) -> None:
    wait_until(lambda: len(ranks_of(command.pid)) == 2, seconds=60)
    assert interrupt(command) == ["interrupted"]


@pytest.mark.full
def test_while_ranks_answer(command: subprocess.Popen[bytes]) -> None:
    assert command.stdout is not None
    assert command.stdout.read(1)
    assert interrupt(command)[-1] == "interrupted"
