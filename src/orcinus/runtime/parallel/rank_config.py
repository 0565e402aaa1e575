"""What a rank is told at its start, on standard input."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from orcinus.core.view import Limits
from orcinus.runtime.models.spec import DecoderSpec
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from orcinus.runtime.parallel.sockets import RankAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class RankModel:
    """What a rank loads; its place in the mesh says which part of it."""

    folder: str
    architecture: str
    spec: DecoderSpec
    dummy: bool  # whether weights are made up
    device: str
    dtype: str
    keeps: bool  # whether integers of the files stay so
    quantization: str | None
    adapters: tuple[tuple[str, str], ...]  # names and folders
    merge_lora: bool
    kv_cache_dtype: str
    attention: str
    cuda_graphs: bool
    limits: Limits
    block_size: int
    num_blocks: int  # as many on every rank


@dataclass(frozen=True, slots=True, kw_only=True)
class RankConfig:
    """One rank's part, where it finds the others, and what it is to load."""

    rank: int
    mesh: Mesh
    addresses: RankAddresses
    rendezvous: str  # where the ranks find each other, as `rendezvous_at` reads it
    timeout_s: float  # that a rank may wait for others in one collective
    threads: int  # of this rank
    load: dict[str, object]  # a `RankModel`; in tests, what a rank without a model needs

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
