"""Ranks of a model that cost little to start: forks of one process that has loaded the libraries."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from typing import Any

from orcinus.runtime.parallel import worker
from orcinus.runtime.parallel.rank_config import RankConfig
from orcinus.runtime.parallel.rank_loop import run_process
from orcinus.runtime.parallel.start_local import LocalLauncher
from tests.rank_processes import fork_server


class OneStartedOthersForked(LocalLauncher):
    """Starts rank 0 as a server does, and forks the others."""

    def start(self, configs: Sequence[RankConfig]) -> None:
        super().start(configs[:1])
        for config in configs[1:]:
            process = fork_server().Process(target=_be_rank, args=(config.encode(),), daemon=True)
            process.start()
            self._processes[config.rank] = _LikePopen(process)  # type: ignore[assignment]


class _LikePopen:
    """A process of `multiprocessing` with the methods of `subprocess.Popen` that a launcher calls."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> Any:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("a rank", timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def _be_rank(config: bytes) -> None:
    """What `python -m orcinus.runtime.parallel.worker PARENT` does."""
    sys.argv[1:] = [str(os.getppid())]
    sys.stdin = io.TextIOWrapper(io.BytesIO(config))
    run_process(worker.load)
