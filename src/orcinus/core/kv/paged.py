"""K/V memory on demand, block by block (vLLM, SOSP 2023, section 4)."""

from __future__ import annotations

from orcinus.core.kv.block_pool import BlockPool
from orcinus.core.request import Request
from orcinus.errors import ConfigError


class Paged(BlockPool):
    """Takes blocks for the known tokens at admission, then one by one.

    The scheduler preempts when the pool is empty. `watermark` is the share of blocks that an admission leaves free, so that
    the running requests can grow for a while before one must be preempted. A request that is alone may use the whole pool.
    """

    def __init__(self, num_blocks: int, block_size: int, watermark: float = 0.01, groups: int = 1) -> None:
        super().__init__(num_blocks, block_size, groups)
        if not 0 <= watermark < 1:
            raise ConfigError(f"the watermark of the paged K/V manager must be at least 0 and below 1, not {watermark}")
        self.watermark_blocks = round(watermark * num_blocks)

    def can_admit(self, request: Request) -> bool:
        spare = self.watermark_blocks if self._tables else 0
        return self.blocks_for(request.known) + spare <= self.num_free

    def admit(self, request: Request) -> int:
        taken = self.extend(request, request.known)
        assert taken, "admit without can_admit"
        return 0

    def grow(self, request: Request, tokens: int) -> bool:
        return self.extend(request, request.launched + tokens)
