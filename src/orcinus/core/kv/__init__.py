"""K/V block managers. One manager a class, and one line here."""

from __future__ import annotations

from collections.abc import Callable

from orcinus.core.kv.buddy import Buddy
from orcinus.core.kv.paged import Paged
from orcinus.core.kv.prefix_cache import PrefixCache
from orcinus.core.kv.reserved import MaxLength, Reservation
from orcinus.core.ports import KVManager
from orcinus.core.view import Limits

KV_MANAGERS: dict[str, Callable[[int, int, Limits], KVManager]] = {
    "max-length": lambda num_blocks, block_size, limits: MaxLength(num_blocks, block_size, limits.max_model_len),
    "reservation": lambda num_blocks, block_size, limits: Reservation(num_blocks, block_size),
    "buddy": lambda num_blocks, block_size, limits: Buddy(num_blocks, block_size),
    "paged": lambda num_blocks, block_size, limits: Paged(num_blocks, block_size),
    "prefix-cache": lambda num_blocks, block_size, limits: PrefixCache(num_blocks, block_size),
}

__all__ = ["KV_MANAGERS", "Buddy", "MaxLength", "Paged", "PrefixCache", "Reservation"]
