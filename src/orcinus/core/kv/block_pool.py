"""A pool of equal K/V blocks and the block table of every request: what all K/V managers have in common."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from orcinus.core.ports import PrefixStats
from orcinus.core.request import Request
from orcinus.errors import ConfigError


class BlockPool:
    """Blocks of `block_size` tokens each, owned by at most one request (vLLM, section 4.2, without sharing)."""

    preallocates: ClassVar[bool] = False
    stats: PrefixStats | None = None

    def __init__(self, num_blocks: int, block_size: int) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ConfigError(f"a K/V pool needs at least 1 block of 1 token, not {num_blocks} of {block_size}")
        self.num_blocks, self.block_size = num_blocks, block_size
        self._free: deque[int] = deque(range(num_blocks))
        self._tables: dict[str, tuple[int, ...]] = {}  # tuples, so that a batch can carry them as they are

    @property
    def num_free(self) -> int:
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks so many tokens fill."""
        return -(-tokens // self.block_size)

    def can_ever_hold(self, request: Request) -> bool:
        return self.blocks_for(request.max_known) <= self.num_blocks

    def extend(self, request: Request, tokens: int) -> bool:
        """Let the request's table reach `tokens` tokens. False, and nothing taken, if blocks are short."""
        table = self._tables.get(request.id, ())
        if tokens <= len(table) * self.block_size:  # as in most iterations
            self._tables[request.id] = table
            return True
        short = self.blocks_for(tokens) - len(table)
        if short > self.num_free:
            return False
        self._tables[request.id] = table + tuple([self._take() for _ in range(short)])
        return True

    def _take(self) -> int:
        """A block that nobody needs; there is one."""
        return self._free.popleft()

    def ready(self, request: Request) -> bool:
        return True  # without a prefix cache nobody can use what another computes

    def release(self, request: Request) -> None:
        self._free.extend(self._tables.pop(request.id, ()))

    def blocks(self, request: Request) -> tuple[int, ...]:
        return self._tables.get(request.id, ())

    def commit(self, request: Request) -> None:
        """Nothing to note: without a prefix cache nobody else reads these blocks."""
