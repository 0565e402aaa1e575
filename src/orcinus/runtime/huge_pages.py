"""Memory in huge pages, for what a CPU reads in every iteration.

A processor remembers where a thousand or so pages lie. In pages of 4 KiB that is less than a model's weights, and each new page
costs a walk through tables. Linux gives 2 MiB at a time to memory that asks for it (`transparent_hugepage`: madvise or always).
"""

from __future__ import annotations

import logging
import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

PAGE = 2**21  # bytes, on x86 and on ARM with pages of 4 KiB
log = logging.getLogger(__name__)


def zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros of a CPU, in huge pages where it is large enough and the system has them."""
    count = math.prod(shape)
    if count * dtype.itemsize < PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.zeros(tuple(shape), dtype=dtype)
    memory = mmap.mmap(-1, count * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError as error:  # a kernel without them
        log.info("no huge pages: %s", error.strerror)
    return torch.frombuffer(memory, dtype=dtype, count=count).view(tuple(shape))
