"""What each replica's process is started with: its engine, cores, memory and GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orcinus.config import EngineConfig
from orcinus.serve.engines import Asked
from orcinus.serve.messages import Ready
from orcinus.threads import num_cores, thread_environment


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """One replica of a server. Those of one server differ in their `index` and what follows from it."""

    config: Asked
    index: int = 0
    replicas: int = 1
    threads: int | None = None  # of each rank's kernels; None = what the libraries choose
    gpus: str | None = None  # the devices it sees, as CUDA_VISIBLE_DEVICES has them; None = all

    @property
    def name(self) -> str:
        """The engine's name in messages."""
        return "engine" if self.replicas == 1 else f"engine {self.index}"

    @property
    def memory_sharers(self) -> int:
        """Engines that plan with the machine's free memory as a whole."""
        return 1 if self.gpus is not None else self.replicas

    @property
    def environment(self) -> dict[str, str]:
        """What its process has in its environment besides this one's."""
        seen = {} if self.gpus is None else {"CUDA_VISIBLE_DEVICES": self.gpus}
        return seen | ({} if self.threads is None else thread_environment(self.threads))

    def like(self, ready: Ready) -> ReplicaSpec:
        """The same spec with the sizes of a replica that stands.

        So replicas are equal, whatever memory is free when each of them starts. One with a GPU of its own plans alone.
        """
        if not isinstance(self.config, EngineConfig) or self.gpus is not None:
            return self
        config = replace(
            self.config,
            num_blocks=ready.num_blocks,
            kv_memory_mib=None,
            max_model_len=ready.max_model_len,
            max_batch_tokens=ready.max_batch_tokens,
        )
        return replace(self, config=config)

    def again(self, starts: int) -> ReplicaSpec:
        """The same spec for a process that takes a dead one's place.

        What the dead one recorded stays: `run.jsonl` is followed by `run.restart-1.jsonl`.
        """
        return replace(self, config=_own_record(self.config, f"restart-{starts}"))


def replica_specs(config: Asked, replicas: int = 1, environment: Mapping[str, str] = os.environ) -> list[ReplicaSpec]:
    """The specs of a server's replicas.

    The cores are divided among several, unless the config or the environment says how many threads each has.
    """
    threads = config.threads if isinstance(config, EngineConfig) else None
    if threads is None and replicas > 1 and "OMP_NUM_THREADS" not in environment:
        threads = max(1, num_cores() // (replicas * _ranks(config)))
    several = replicas > 1
    return [
        ReplicaSpec(
            _own_record(config, str(index)) if several else config,
            index,
            replicas,
            threads,
            _gpus(config, index, environment.get("CUDA_VISIBLE_DEVICES")) if several else None,
        )
        for index in range(replicas)
    ]


def _ranks(config: Asked) -> int:
    """Devices of an engine; a simulated one has none."""
    return config.tp * config.pp if isinstance(config, EngineConfig) else 1


def _gpus(config: Asked, index: int, visible: str | None) -> str | None:
    """The GPUs of a replica, one for each of its ranks, of those that this process sees; None on a CPU.

    One that does not exist is told by the engine that should have it.
    """
    if not isinstance(config, EngineConfig) or not config.device.startswith("cuda"):
        return None
    ranks = _ranks(config)
    seen = [name for name in (visible or "").split(",") if name]
    places = range(index * ranks, (index + 1) * ranks)
    return ",".join(str(place) if not seen else seen[place] if place < len(seen) else "none" for place in places)


def _own_record(config: Any, mark: str) -> Any:
    """The config with a record of its own: with the mark 1, `run.jsonl` becomes `run.1.jsonl`."""
    if config.record is None:
        return config
    path = Path(config.record)
    return replace(config, record=path.with_name(f"{path.stem}.{mark}{path.suffix}"))
