"""The engine processes of a server, found among its children."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MODULE = "orcinus.serve.engine_loop"


class EngineProcess(NamedTuple):
    """An engine process, by the words of its command."""

    pid: int
    address: str  # of its socket
    name: str


def engine_processes(parent: int) -> list[EngineProcess]:
    """The engines that a process started, the oldest first."""
    found = []
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if MODULE in words:
                address, _, name = words[words.index(MODULE) + 1 :][:3]
                found.append(EngineProcess(int(pid), address, name))
    return found
