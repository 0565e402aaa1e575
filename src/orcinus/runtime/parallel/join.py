"""A rank's entry into the mesh: which collectives it gets, and the meeting of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from orcinus.runtime.parallel.collectives import ALONE, Alone, Collectives
from orcinus.runtime.parallel.mesh import MeshPlace
from orcinus.runtime.parallel.rendezvous import Rendezvous, meet
from orcinus.runtime.parallel.shared_memory import compile_kernels, share_memory
from orcinus.runtime.parallel.torch_collectives import GroupOptions, StageLink, TorchGroup


def join(
    place: MeshPlace, device: torch.device, rendezvous: Rendezvous, timeout_s: float, start_timeout_s: float | None = None
) -> Collectives:
    """The collectives of this rank. All ranks of the mesh call it, each once, with the same rendezvous and bounds.

    No later call waits longer than `timeout_s`. `start_timeout_s` bounds each step of joining, for ranks that start at
    different times; it is `timeout_s` if not given. Raises `EngineError` if not all ranks come.

    Tensor ranks on CPUs share memory if they are processes of one machine, and use gloo if not. GPUs use NCCL. A mesh of one
    rank needs nothing and meets no other.
    """
    mesh, start = place.mesh, timeout_s if start_timeout_s is None else start_timeout_s
    if mesh.size == 1:
        return ALONE
    if device.type == "cpu" and mesh.tp > 1:
        compile_kernels()
    store = rendezvous.store(place, start)
    meet(store, place, start)
    options = GroupOptions(device, store, rendezvous.own_host(), timeout_s)
    ranks: TensorRanks = ALONE
    if mesh.tp > 1:
        shared = share_memory(place, store, timeout_s) if device.type == "cpu" else None
        ranks = shared or TorchGroup(place, options)
    return MeshCollectives(ranks, StageLink(place, options) if mesh.pp > 1 else ALONE)


class TensorRanks(Protocol):
    """What the tensor ranks of one stage do together; see `Collectives`."""

    def all_reduce(self, x: Tensor) -> Tensor: ...
    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MeshCollectives:
    """The collectives of one rank: those inside its stage, and the link between stages."""

    ranks: TensorRanks
    link: StageLink | Alone

    def all_reduce(self, x: Tensor) -> Tensor:
        return self.ranks.all_reduce(x)

    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        return self.ranks.all_gather(x, widths)

    def send(self, x: Tensor) -> None:
        self.link.send(x)

    def recv(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return self.link.recv(shape, dtype)

    def close(self) -> None:
        """Close both."""
        self.ranks.close()
        self.link.close()
