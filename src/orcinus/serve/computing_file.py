"""The requests that an engine computes: a file that outlives a killed process."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path

from orcinus.core.batch import Batch, BatchResult
from orcinus.core.ports import Observer
from orcinus.core.unserved import Unserved

BYTES = 2**18  # room for some 8,000 ids
LENGTH = 4  # bytes of the length in front


class ComputingFile(Observer):
    """Says before each launch which requests are computed: a copy in memory, no call of the system.

    So the cause of a death can be sought among them. Without room on the disk there is no file.
    """

    def __init__(self, path: Path) -> None:
        self._in_flight: dict[int, Batch] = {}
        self._map: mmap.mmap | None = None
        with suppress(OSError):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if os.write(opened, bytes(BYTES)) == BYTES:  # a full disk is noticed now, and by no signal later
                    self._map = mmap.mmap(opened, BYTES)
            finally:
                os.close(opened)

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self._in_flight[batch.id] = batch
        self._write()

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        del self._in_flight[batch.id]
        if not self._in_flight:
            self._write()

    def _write(self) -> None:
        if self._map is not None:
            ids = [chunk.request_id for batch in self._in_flight.values() for chunk in batch.chunks]
            text = "\n".join(ids).encode()[: BYTES - LENGTH]
            self._map[: LENGTH + len(text)] = len(text).to_bytes(LENGTH, "little") + text


def read_computing(path: Path) -> frozenset[str] | None:
    """The ids that a file says; None if there is none."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    length = int.from_bytes(raw[:LENGTH], "little")
    return frozenset(raw[LENGTH : LENGTH + length].decode(errors="replace").split("\n")) - {""}
