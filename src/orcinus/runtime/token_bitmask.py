"""Token bitmasks: the tokens a row may become."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orcinus.core.executor_state import Row

Bitmask = NDArray[np.int32]  # [ceil(vocab_size / 32)]: token t is bit t % 32 of word t // 32, 1 = allowed


def token_bitmask(row: Row, vocab_size: int) -> Bitmask | None:
    """The bitmask of a row, or None if every token is allowed."""
    params = row.params
    if params.allowed_token_ids is None and not params.bad_words_token_ids and not params.min_tokens:
        return None  # as for most rows
    banned = row.banned
    if params.allowed_token_ids is None and not banned:
        return None
    bits = np.ones(-(-vocab_size // 32) * 32, np.uint8)
    if params.allowed_token_ids is not None:
        bits &= _bits(params.allowed_token_ids, len(bits))
    bits[list(banned)] = 0
    return np.packbits(bits, bitorder="little").view(np.int32)


@lru_cache(maxsize=64)  # a request forbids the same tokens every time, perhaps thousands
def _bits(ids: tuple[int, ...], size: int) -> NDArray[np.uint8]:
    bits = np.zeros(size, np.uint8)
    bits[list(ids)] = 1
    return bits


def apply_token_bitmask(logits: Tensor, bitmask: Bitmask) -> None:
    """Set the logits of forbidden tokens to -inf, in place.

    `logits` are `[vocab_size]`, on a CPU.
    """
    bits = np.unpackbits(bitmask.view(np.uint8), count=len(logits), bitorder="little")
    logits.masked_fill_(torch.from_numpy(bits) == 0, -torch.inf)
