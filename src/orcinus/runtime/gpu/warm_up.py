"""Warm-up batches, so that no kernel is compiled while requests run.

Captured graphs do not run all kernels: batches larger than any graph run eagerly, as do all batches without graphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from orcinus.core.batch import Batch
from orcinus.core.view import Limits
from orcinus.runtime.executor import lone_batch

MOST_ROWS = 256  # more than any tile of queries holds
FEW = 16  # requests; kernels over all requests are compiled for powers of two from here on


def batches(limits: Limits, block_size: int) -> Iterator[Batch]:
    """Batches that launch every variant of every kernel.

    Chunks of 1, 2, 4 … rows at both ends of the longest context, a decode that follows, many requests. All block tables repeat
    the first block.
    """
    most, longest = min(limits.max_batch_tokens, limits.max_model_len), limits.max_model_len

    def lone(batch_id: int, rows: int, context: int) -> Batch:
        return lone_batch(batch_id, rows, context, (0,) * -(-context // block_size))

    for rows in _powers(1, min(MOST_ROWS, most)):
        yield lone(0, rows, rows)
        yield lone(1, rows, longest)
    yield lone(2, 1, 1)
    follower = lone(3, 1, min(2, longest))
    yield replace(follower, chunks=(follower.chunks[0]._replace(follows=2),))
    if most > 1:
        for requests in _powers(FEW, min(limits.max_batch_size, limits.max_batch_tokens // 2)):
            one = lone(4, 2, 2)
            yield replace(one, chunks=one.chunks * requests)


def _powers(least: int, most: int) -> Iterator[int]:
    """Powers of two from `least` that cover `most`."""
    size = least
    while size < most:
        yield size
        size *= 2
    if least <= most:
        yield most
