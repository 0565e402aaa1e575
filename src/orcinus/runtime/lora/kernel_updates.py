"""Updates of a linear layer in the form of the kernel `cpu_kernels/low_rank.py`: one call for all segments of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from orcinus.runtime.cpu_kernels.elements import array
from orcinus.runtime.cpu_kernels.low_rank import ROWS, WIDTH, add_low_rank
from orcinus.runtime.lora.product import LowRank, Segment


class Tasks:
    """The kernel's tasks of a batch, the same in all layers."""

    def __init__(self, adapters: Sequence[str]) -> None:
        self._places = {name: place for place, name in enumerate(adapters)}
        self._batch: Sequence[Segment] = ()
        self._tasks = np.empty((0, 3), np.int64)

    def of(self, batch: Sequence[Segment]) -> NDArray[np.int64]:
        """Adapter, first row and rows of each task; found once for a batch."""
        if batch is not self._batch:
            self._batch = batch
            found = [
                (self._places[adapter], row, min(ROWS, end - row))
                for adapter, first, end in batch
                for row in range(first, end, ROWS)
            ]
            self._tasks = np.array(found, np.int64).reshape(len(found), 3)
        return self._tasks


class KernelUpdates:
    """The numbers of all adapters of one layer, one after the other."""

    def __init__(self, adapters: Mapping[str, Sequence[LowRank]], tasks: Tasks, names: Sequence[str]) -> None:
        numbers, parts, firsts, begin = list[Tensor](), list[tuple[int, ...]](), [0], 0
        for name in names:
            for a, b, outputs in adapters.get(name, ()):
                rank, panels = len(a), _panels(b)
                parts.append((rank, outputs.start or 0, len(b), begin, begin + a.numel()))
                numbers += [a.flatten(), panels.flatten()]
                begin += a.numel() + panels.numel()
            firsts.append(len(parts))
        self._tasks, self._numbers = tasks, torch.cat(numbers)
        self._firsts, self._parts = np.array(firsts, np.int64), np.array(parts, np.int64)
        self._most_rank = max(rank for rank, *_ in parts)

    def add_to(self, out: Tensor, x: Tensor, batch: Sequence[Segment]) -> None:
        assert out.is_contiguous(), "a product is a new tensor"
        tasks = self._tasks.of(batch)
        add_low_rank(array(x), array(out), tasks, self._firsts, self._parts, array(self._numbers), self._most_rank)


def compile_kernel(dtype: torch.dtype) -> None:
    """Compile the kernel now, so that no request waits for it."""
    nothing = array(torch.empty(0, WIDTH, dtype=dtype))
    parts = np.empty((0, 5), np.int64)
    add_low_rank(nothing, nothing.copy(), np.empty((0, 3), np.int64), np.zeros(1, np.int64), parts, nothing.reshape(-1), 1)


def _panels(b: Tensor) -> Tensor:
    """B `[outputs, rank]` as `[outputs / WIDTH, rank, WIDTH]`, filled up with zeros."""
    padded = F.pad(b, (0, 0, 0, -len(b) % WIDTH))
    return padded.view(-1, WIDTH, b.shape[1]).transpose(1, 2).contiguous()
