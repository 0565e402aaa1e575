"""A rank without a model: its "memory" is that of `tests.worlds`, and it fails as it is told.

    python -m tests.runtime.parallel.fake_worker PARENT < configuration

`load` of its configuration: `block_size`, and `faults`: rows of a rank, one of `FAULTS`, and before which batch (0: at start).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from orcinus.core.batch import BatchResult
from orcinus.core.request import Overlap
from orcinus.errors import ConfigError, EngineError
from orcinus.runtime.parallel.rank_config import RankConfig
from orcinus.runtime.parallel.rank_loop import run_process
from orcinus.runtime.parallel.sign_of_life import SignsOfLife
from tests.worlds import MemoryExecutor


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise() -> None:
    raise ZeroDivisionError("a defect")


def _wait_in_vain() -> None:
    raise EngineError("all_reduce: a rank did not come")


def _refuse() -> None:
    raise ConfigError("the disk is full: make room")


def _hang() -> None:
    time.sleep(3600)


FAULTS: dict[str, Callable[[], None]] = {
    "end": _end,
    "stop": _stop,
    "raise": _raise,
    "wait in vain": _wait_in_vain,
    "refuse": _refuse,
    "hang": _hang,
}


class FaultyExecutor(MemoryExecutor):
    """Answers batches at once, until the one before which it fails."""

    def __init__(self, block_size: int, overlap: Overlap, faults: dict[int, str]) -> None:
        super().__init__(1, block_size, overlap)
        self.faults, self.batches = faults, 0

    def collect(self) -> BatchResult:
        self.batches += 1
        if self.batches in self.faults:
            FAULTS[self.faults[self.batches]]()
        return super().collect()


def load(config: RankConfig, signs: SignsOfLife, progress: Callable[[str, int, int], None]) -> Callable[[], MemoryExecutor]:
    told: dict[str, Any] = config.load
    faults = {before: fault for rank, fault, before in told["faults"] if rank == config.rank}
    progress("weights", 50, 100)
    if 0 in faults:
        FAULTS[faults[0]]()
    return lambda: FaultyExecutor(told["block_size"], Overlap(prefill=config.mesh.pp > 1), faults)


if __name__ == "__main__":
    run_process(load)
