"""Ranks as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from orcinus.parent import describe_exit, python_module, signals_held
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.rank_config import RankConfig
from orcinus.threads import num_cores, thread_environment

WORKER = "orcinus.runtime.parallel.worker"


class LocalLauncher:
    """One child process a rank; each ends with this process, however that ends."""

    host = None

    def __init__(self, module: str = WORKER, threads: int | None = None) -> None:
        self._module, self._threads = module, threads
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def threads(self, mesh: Mesh) -> int:
        """What the user set holds for each rank; else the cores are divided."""
        if self._threads is not None:
            return self._threads
        asked = os.environ.get("OMP_NUM_THREADS", "")
        return int(asked) if asked.isdigit() and int(asked) else max(1, num_cores() // mesh.size)

    def device(self, kind: str, rank: int) -> str:
        return f"cuda:{rank}" if kind == "cuda" else kind

    def rendezvous(self, file: Path) -> str:
        return f"file:{file}"

    def start(self, configs: Sequence[RankConfig]) -> None:
        for config in configs:
            command = python_module(self._module, str(os.getpid()))
            with signals_held():  # this process decides what a signal means, even if all get it
                process = subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | thread_environment(config.threads))
            self._processes[config.rank] = process
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:  # it has ended already, as its exit status will tell
                process.stdin.write(config.encode())

    def ended(self) -> Mapping[int, str]:
        statuses = {rank: process.poll() for rank, process in self._processes.items()}
        return {rank: describe_exit(status) for rank, status in statuses.items() if status is not None}

    def stop(self, grace_s: float) -> None:
        until = time.monotonic() + grace_s
        for process in self._processes.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for process in self._processes.values():
            process.wait()
