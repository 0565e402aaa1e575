"""What a rank is told at its start, on standard input."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from orcinus.runtime.parallel.sockets import RankAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class RankConfig:
    """One rank's part, where it finds the others, and what it is to build.

    `load` is for whoever builds the rank's executor, and means nothing to the rest.
    """

    rank: int
    mesh: Mesh
    addresses: RankAddresses
    rendezvous: str  # where the ranks find each other
    timeout_s: float  # that a rank may wait for others in one collective
    threads: int  # of this rank
    load: dict[str, object]

    @property
    def place(self) -> MeshPlace:
        return self.mesh.at(self.rank)

    def encode(self) -> bytes:
        """For the pipe."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> RankConfig:
        """From the pipe."""
        return msgspec.json.decode(data, type=cls)
