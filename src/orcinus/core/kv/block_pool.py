"""A pool of equal K/V blocks, and every request's block tables."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from orcinus.core.batch import BlockTables
from orcinus.core.ports import PrefixStats
from orcinus.core.request import Request
from orcinus.errors import ConfigError


class BlockPool:
    """Blocks of `block_size` tokens, each owned by at most one request.

    This is vLLM, section 4.2, without sharing. A request has one block table per group of layers, because layers that keep
    different parts of a context need different tables.
    """

    preallocates: ClassVar[bool] = False
    stats: PrefixStats | None = None

    def __init__(self, num_blocks: int, block_size: int, groups: int = 1) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ConfigError(f"a K/V pool needs at least 1 block of 1 token, not {num_blocks} of {block_size}")
        self.num_blocks, self.block_size, self.groups = num_blocks, block_size, groups
        self._free: deque[int] = deque(range(num_blocks))
        self._none: BlockTables = ((),) * groups
        self._tables: dict[str, BlockTables] = {}

    @property
    def num_free(self) -> int:
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """Blocks needed for `tokens` tokens, over all groups of layers."""
        return -(-tokens // self.block_size) * self.groups

    @property
    def longest(self) -> int:
        return self.num_blocks // self.groups * self.block_size

    def extend(self, request: Request, tokens: int) -> bool:
        """Extend the request's tables to hold `tokens` tokens.

        False, and nothing taken, if blocks are short.
        """
        tables = self._tables.get(request.id, self._none)
        if tokens <= len(tables[0]) * self.block_size:  # the usual case
            return True
        short = -(-tokens // self.block_size) - len(tables[0])
        if short * self.groups > self.num_free:
            return False
        self._tables[request.id] = tuple([table + self._take(short) for table in tables])
        return True

    def _take(self, count: int) -> tuple[int, ...]:
        """Free blocks; the caller has checked that there are so many."""
        return tuple([self._free.popleft() for _ in range(count)])

    def ready(self, request: Request) -> bool:
        return True  # without a prefix cache requests share no blocks

    def cached(self, request: Request) -> int:
        return 0

    def release(self, request: Request) -> None:
        for table in self._tables.pop(request.id, ()):
            self._free.extend(table)

    def blocks(self, request: Request) -> BlockTables:
        return self._tables.get(request.id, self._none)

    def commit(self, request: Request) -> None:
        """Does nothing: without a prefix cache no other request reads these blocks."""
