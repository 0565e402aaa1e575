"""Warm-up batches, so that no kernel is compiled while requests run.

Captured graphs do not meet all of them: what is too large for a graph runs eagerly, and so do all batches without graphs.
"""

from __future__ import annotations

from collections.abc import Iterator

from orcinus.core.batch import Batch, Chunk
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits

PARAMS = SamplingParams(temperature=0)
MOST_ROWS = 256  # more than any tile of queries holds
FEW = 16  # requests; kernels that look at all of them are compiled for powers of two from here on


def batches(limits: Limits, block_size: int) -> Iterator[Batch]:
    """Batches that launch every variant of every kernel.

    Chunks of 1, 2, 4 … rows at both ends of the longest context, a decode that follows, many requests.

    All block tables name the first block alone, again and again.
    """
    most = min(limits.max_batch_tokens, limits.max_model_len)
    for rows in _powers(1, min(MOST_ROWS, most)):
        yield Batch(0, (_chunk(rows, rows, block_size),))
        yield Batch(1, (_chunk(rows, limits.max_model_len, block_size),))
    yield Batch(2, (_chunk(1, 1, block_size),))
    yield Batch(3, (_chunk(1, min(2, limits.max_model_len), block_size)._replace(follows=2),))
    if most > 1:
        for requests in _powers(FEW, min(limits.max_batch_size, limits.max_batch_tokens // 2)):
            yield Batch(4, (_chunk(2, 2, block_size),) * requests)


def _chunk(rows: int, context: int, block_size: int) -> Chunk:
    """The last rows of a context."""
    return Chunk("warm-up", (0,) * rows, context - rows, (0,) * -(-context // block_size), True, PARAMS)


def _powers(least: int, most: int) -> Iterator[int]:
    """Powers of two from `least` that cover `most`."""
    size = least
    while size < most:
        yield size
        size *= 2
    if least <= most:
        yield most
