"""`--record` into a file that cannot be written to its end: the work is done, the loss is told, and the status is 1."""

from __future__ import annotations

import pytest

from tests.commands import Done, orcinus, orcinus_commands

COMMANDS = (
    ("generate", "Hi", "--max-tokens", "3", "--record", "/dev/full"),
    ("demo", "--max-tokens", "3", "--repeats", "1", "--record", "/dev/full"),
    ("simulate", "--requests", "3", "--record", "/dev/full"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_record_on_a_full_disk_is_told(command: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    done = orcinus(*command)
    check(command, done, done.stderr.splitlines() + caplog.messages)


@pytest.mark.full
def test_a_process_tells_it_on_standard_error() -> None:
    for command, done in zip(COMMANDS, orcinus_commands(*COMMANDS), strict=True):
        check(command, done, done.stderr.splitlines())


def check(command: tuple[str, ...], done: Done, told: list[str]) -> None:
    assert done.returncode == 1, command
    (line,) = told
    assert "cannot record to /dev/full: No space left on device" in line
    assert done.stdout or command[0] == "simulate", "the work was done"
