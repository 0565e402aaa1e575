"""Synthetic prompts as token ids, with the prefixes that arrivals share."""

from __future__ import annotations

import zlib
from functools import lru_cache

from numpy.random import SeedSequence, default_rng

from orcinus.workload.arrival import Arrival


def prompt_ids(arrival: Arrival, number: int, vocabulary: int, draw: int = 0) -> tuple[int, ...]:
    """A prompt of `arrival.prompt_tokens` ids below `vocabulary`.

    `number` makes the unshared tokens distinct. Prompts of one `draw` share the prefixes that their arrivals describe;
    prompts of two draws share nothing. The ids are the same on every machine: they depend only on the names of prefixes and
    blocks, the number and the draw.
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
    """Random ids; the first ones do not depend on the count."""
    key = (kind, draw) if draw else (kind,)
    shares = default_rng(SeedSequence(name, spawn_key=key)).random(tokens)
    return tuple((shares * vocabulary).astype(int).tolist())
