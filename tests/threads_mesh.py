"""The ranks of a mesh as threads of one process, for tests of what is split over ranks.

    def work(place: MeshPlace, collectives: Collectives) -> Tensor:
        model = build_my_slice(place)
        return collectives.all_reduce(model(x))

    outputs = run_ranks(Mesh(tp=2, pp=2), work)  # outputs[rank]

`run_ranks` calls `work` in one thread per rank. An exception in one rank ends the waits of the others and is raised again here.
Sums are in float32 and in the order of the ranks, as they are between processes of one machine. Tensors cross from rank to
rank as copies. `torch.inference_mode` holds for one thread only: enter it in `work`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from orcinus.errors import EngineError
from orcinus.runtime.parallel.collectives import ALONE, Collectives
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from orcinus.runtime.parallel.torch_collectives import ordered_sum

T = TypeVar("T")
TIMEOUT_S = 60.0


class _Stage:
    """What the tensor ranks of one stage share."""

    def __init__(self, mesh: Mesh) -> None:
        self.barrier = threading.Barrier(mesh.tp)
        self.given: list[Tensor | None] = [None] * mesh.tp
        self.inboxes: list[queue.Queue[Tensor | None]] = [queue.Queue() for _ in range(mesh.tp)]  # None: the sender is gone

    def break_off(self) -> None:
        """End the waits of all ranks here."""
        self.barrier.abort()
        for inbox in self.inboxes:
            inbox.put(None)


class ThreadCollectives:
    """`Collectives` of one rank among threads."""

    def __init__(self, place: MeshPlace, stages: Sequence[_Stage], timeout_s: float) -> None:
        self._place, self._stages, self._timeout_s = place, stages, timeout_s
        self._stage = stages[place.stage]

    def all_reduce(self, x: Tensor) -> Tensor:
        parts = self._exchanged(x)
        for part in parts:
            assert (part.shape, part.dtype) == (x.shape, x.dtype), "the ranks sum tensors of different shapes"
        return ordered_sum(parts, x)

    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        parts = self._exchanged(x)
        assert [part.shape[1] for part in parts] == list(widths)
        return torch.cat(parts, dim=1)

    def send(self, x: Tensor) -> None:
        assert not self._place.last, "there is no next stage"
        self._stages[self._place.stage + 1].inboxes[self._place.tensor].put(x.clone())

    def recv(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        assert not self._place.first, "there is no stage before"
        try:
            found = self._stage.inboxes[self._place.tensor].get(timeout=self._timeout_s)
        except queue.Empty:
            raise EngineError(f"rank {self._place.rank} received nothing in {self._timeout_s:g} s") from None
        if found is None:
            raise EngineError(f"a peer of rank {self._place.rank} is gone")
        assert (tuple(found.shape), found.dtype) == (shape, dtype)
        return found

    def close(self) -> None:
        """Nothing to close."""

    def _exchanged(self, x: Tensor) -> list[Tensor]:
        """Copies of what each tensor rank of the stage gives."""
        try:
            self._stage.given[self._place.tensor] = x.clone()
            self._stage.barrier.wait(self._timeout_s)
            found = [part for part in self._stage.given if part is not None]
            self._stage.barrier.wait(self._timeout_s)  # only then may the next exchange overwrite them
        except threading.BrokenBarrierError:
            raise EngineError(f"a peer of rank {self._place.rank} is gone") from None
        return found


def run_ranks(mesh: Mesh, work: Callable[[MeshPlace, Collectives], T], timeout_s: float = TIMEOUT_S) -> list[T]:
    """`work(place, collectives)` in one thread per rank; the results by rank. Raises what the first failing rank raised."""
    if mesh.size == 1:
        return [work(mesh.at(0), ALONE)]
    stages = [_Stage(mesh) for _ in range(mesh.pp)]
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(place: MeshPlace) -> None:
        try:
            results[place.rank] = work(place, ThreadCollectives(place, stages, timeout_s))
        except BaseException as error:
            errors.append(error)
            for stage in stages:
                stage.break_off()

    threads = [threading.Thread(target=run, args=(mesh.at(rank),), daemon=True) for rank in range(mesh.size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[rank] for rank in range(mesh.size)]
