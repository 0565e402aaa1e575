"""Token bitmasks: the tokens a row may become."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orcinus.core.executor_state import Row

Bitmask = NDArray[np.int32]  # [ceil(vocab_size / 32)]: token t is bit t % 32 of word t // 32, 1 = allowed


def token_bitmask(row: Row, vocab_size: int) -> Bitmask | None:
    """The bitmask of a row, or None if every token is allowed.

    Stop tokens that only `min_tokens` forbids are allowed where a finished grammar allows nothing else.
    """
    params = row.params
    if not params.masked:
        return None  # as for most rows
    words = -(-vocab_size // 32)
    matcher = row.request.matcher
    found = None if matcher is None else matcher.bitmask(row.request.output)
    banned = row.banned
    if found is None and params.allowed_token_ids is None and not banned:
        return None
    allowed = np.full(words, -1, np.int32) if found is None else np.frombuffer(found, np.int32)
    if params.allowed_token_ids is not None:
        allowed = allowed & _allowed(params.allowed_token_ids, words)
    if banned:
        left = allowed & ~_words_of(banned, words)
        ended = found is not None and not left.any() and not banned.isdisjoint(params.stop_token_ids)
        allowed = allowed if ended else left
    return allowed


def token_bitmasks(rows: Sequence[Row], vocab_size: int) -> tuple[list[int], NDArray[np.int32]]:
    """Places of the rows that may not become every token, and their bitmasks `[n, words]`."""
    found = [token_bitmask(row, vocab_size) for row in rows]
    places = [place for place, bitmask in enumerate(found) if bitmask is not None]
    if not places:
        return [], np.empty((0, 0), np.int32)
    return places, np.stack([bitmask for bitmask in found if bitmask is not None])


@lru_cache(maxsize=64)  # a request allows the same tokens every time, perhaps thousands
def _allowed(ids: tuple[int, ...], words: int) -> Bitmask:
    return _words_of(ids, words)


def _words_of(ids: Iterable[int], words: int) -> Bitmask:
    bits = np.zeros(32 * words, np.uint8)
    bits[list(ids)] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)


def apply_token_bitmask(logits: Tensor, rows: Sequence[int], bitmasks: NDArray[np.int32]) -> None:
    """Set the logits of forbidden tokens to -inf, in place, in one operation.

    `logits` are `[S, vocab_size]` on a CPU; `bitmasks` `[len(rows), words]` are those of its `rows`.
    """
    bits = np.unpackbits(bitmasks.view(np.uint8), axis=1, count=logits.shape[1], bitorder="little")
    forbidden = torch.from_numpy(bits) == 0
    if len(rows) == len(logits):
        logits.masked_fill_(forbidden, -torch.inf)
    else:
        logits[rows] = logits[rows].masked_fill_(forbidden, -torch.inf)
