"""Memory in huge pages, for what a CPU reads in every iteration.

A processor remembers where a thousand or so pages lie. In pages of 4 KiB that is less than a model's weights, and each new page
costs a walk through tables. Linux gives 2 MiB at a time to memory that asks for it (`transparent_hugepage`: madvise or always).
"""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Sequence
from threading import Lock

import torch
from torch import Tensor

PAGE = 2**21  # bytes, on x86 and on ARM with pages of 4 KiB
SMALL = 2**16  # bytes below which a tensor has plain memory
SHARED = 16 * PAGE  # bytes that tensors of less than a page share
LINE = 64  # bytes of a cache line, at which each tensor begins
log = logging.getLogger(__name__)


def _map(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError as error:  # a kernel without them
        log.info("no huge pages: %s", error.strerror)
    return memory


class _Shared:
    """A mapping that small tensors share, one behind the other; it ends with the last of them."""

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._used = SHARED
        self._lock = Lock()

    def take(self, size: int) -> tuple[mmap.mmap, int]:
        """Memory of zeros, and where in it so many unused bytes begin."""
        with self._lock:
            if self._memory is None or self._used + size > SHARED:
                self._memory, self._used = _map(SHARED), 0
            begin = self._used
            self._used = -(-(begin + size) // LINE) * LINE
            return self._memory, begin


_shared = _Shared()


def zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros of a CPU, in huge pages where it is large enough and the system has them."""
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < SMALL or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(tuple(shape), dtype=dtype)
    memory, begin = (_map(size), 0) if size >= PAGE else _shared.take(size)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=begin).view(tuple(shape))
