"""Synthetic prompts as token ids, with the prefixes that arrivals share."""

from __future__ import annotations

import zlib
from functools import lru_cache

from numpy.random import SeedSequence, default_rng

from orcinus.workload.arrival import Arrival


def prompt_ids(arrival: Arrival, number: int, vocabulary: int, draw: int = 0) -> tuple[int, ...]:
    """`arrival.prompt_tokens` ids from 0 to vocabulary - 1; `number` tells unshared tokens apart.

    Prompts of one `draw` share what their arrivals say; prompts of two draws share nothing. Equal on every machine: ids
    follow from the names of prefixes and blocks, the number and the draw alone.
    """
    ids: tuple[int, ...] = ()
    if arrival.prefix:
        name = zlib.crc32(arrival.prefix.encode())
        ids = _drawn(name, 0, arrival.prefix_tokens, vocabulary, draw)
    for block in arrival.blocks:
        ids += _block(block, arrival.block_tokens, vocabulary, draw)
    own = arrival.prompt_tokens - len(ids)
    return ids[: arrival.prompt_tokens] if own <= 0 else ids + _drawn(number, 1, own, vocabulary, draw)


@lru_cache(maxsize=10_000)
def _block(name: int, tokens: int, vocabulary: int, draw: int) -> tuple[int, ...]:
    return _drawn(name % 2**64, 2, tokens, vocabulary, draw)


def _drawn(name: int, kind: int, tokens: int, vocabulary: int, draw: int) -> tuple[int, ...]:
    """Random ids whose beginning does not depend on how many are drawn."""
    key = (kind, draw) if draw else (kind,)
    shares = default_rng(SeedSequence(name, spawn_key=key)).random(tokens)
    return tuple((shares * vocabulary).astype(int).tolist())
