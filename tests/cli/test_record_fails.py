"""`--record` into a file that cannot be written to its end: the work is done, the loss is told, and the status is 1."""

from __future__ import annotations

from tests.commands import orcinus_commands

COMMANDS = (
    ("generate", "Hi", "--max-tokens", "3", "--record", "/dev/full"),
    ("demo", "--max-tokens", "3", "--repeats", "1", "--record", "/dev/full"),
    ("simulate", "--requests", "3", "--record", "/dev/full"),
)


def test_a_record_on_a_full_disk_is_told() -> None:
    for command, done in zip(COMMANDS, orcinus_commands(*COMMANDS), strict=True):
        assert done.returncode == 1, command
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "cannot record to /dev/full: No space left on device" in done.stderr
        assert done.stdout or command[0] == "simulate", "the work was done"
