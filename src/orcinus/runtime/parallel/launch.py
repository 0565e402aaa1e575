"""Where ranks run: the protocol of what starts, watches and stops their processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.rank_config import RankConfig


class Launcher(Protocol):
    """Starts one process per rank. `stop` may be called at any time, also twice."""

    @property
    def host(self) -> str | None:
        """The address of this machine to which ranks connect; None if they all run here."""
        ...

    def threads(self, mesh: Mesh) -> int:
        """Of each rank: its share of the cores."""
        ...

    def device(self, kind: str, rank: int) -> str:
        """Where a rank computes, `kind` being cpu or cuda."""
        ...

    def rendezvous(self, file: Path) -> str:
        """Where the ranks find each other, as `rendezvous_at` reads it: in this file, if they all run here, or elsewhere."""
        ...

    def start(self, configs: Sequence[RankConfig]) -> None:
        """Start all ranks; returns before they are ready. Raises `ConfigError` if there is no place for them."""
        ...

    def ended(self) -> Mapping[int, str]:
        """The ranks that have ended, and how, in words. For any thread."""
        ...

    def stop(self, grace_s: float) -> None:
        """Give the ranks so long to end, kill those that have not, and wait until none is left."""
        ...
