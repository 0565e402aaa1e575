"""Memory in huge pages, for what a CPU reads in every iteration.

A processor remembers where a thousand or so pages lie. In pages of 4 KiB that is less than a model's weights, and each new page
costs a walk through tables. Linux gives 2 MiB at a time to memory that asks for it (`transparent_hugepage`: madvise or always).
"""

from __future__ import annotations

import ctypes
import logging
import math
import mmap
import os
import sys
from collections.abc import Sequence
from threading import Lock, Thread

import torch
from torch import Tensor

PAGE = 2**21  # bytes, on x86 and on ARM with pages of 4 KiB
SMALL = 2**16  # bytes below which a tensor has plain memory
SHARED = 16 * PAGE  # bytes that tensors of less than a page share
LINE = 64  # bytes of a cache line, at which each tensor begins
POPULATE_WRITE = 23  # Linux's number, since 5.14
AT_ONCE = 8 * PAGE  # bytes of a tensor that are populated before those of the next one
log = logging.getLogger(__name__)


def _map(size: int) -> mmap.mmap:
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"out of memory: the system gives no {size} bytes: {error.strerror}") from error
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
    """A tensor of zeros of a CPU, in huge pages where it is large enough and the system has them.

    Raises `MemoryError`.
    """
    count = math.prod(shape)
    size = count * dtype.itemsize
    if size < SMALL or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(tuple(shape), dtype=dtype)
    memory, begin = (_map(size), 0) if size >= PAGE else _shared.take(size)
    return torch.frombuffer(memory, dtype=dtype, count=count, offset=begin).view(tuple(shape))


def populate(tensors: Sequence[Tensor]) -> Thread | None:
    """Have the system provide the memory of tensors now, in a thread; None where it does so only as they are written.

    The system clears a page before it is first written, which takes several times as long as the write itself. Contents stay
    as they are, so the tensors can be used meanwhile. All are provided from their beginnings on, where the first blocks lie.
    """
    large = [tensor for tensor in tensors if tensor.nbytes >= PAGE]
    if not large or not sys.platform.startswith("linux"):
        return None
    thread = Thread(target=_populate, args=(_pieces(large),), name="populate", daemon=True)
    thread.start()
    return thread


def _pieces(tensors: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Addresses and bytes of parts that cover the tensors: the first ones of all of them, then the second ones, and so on."""
    found = []
    for tensor in tensors:
        begin, end = tensor.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE, tensor.data_ptr() + tensor.nbytes
        found += [(at - begin, at, min(AT_ONCE, end - at)) for at in range(begin, end, AT_ONCE)]
    return [(at, size) for _, at, size in sorted(found)]


def _populate(pieces: Sequence[tuple[int, int]]) -> None:
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    for at, size in pieces:
        if madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), POPULATE_WRITE):  # ctypes lets other threads run meanwhile
            log.info("memory is provided as it is written: %s", os.strerror(ctypes.get_errno()))
            return
