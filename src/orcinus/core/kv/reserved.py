"""K/V memory reserved at admission for a request's whole life: no preemption."""

from __future__ import annotations

from typing import ClassVar

from orcinus.core.kv.block_pool import BlockPool
from orcinus.core.request import Request


class _Reserved(BlockPool):
    preallocates: ClassVar[bool] = True

    def reservation(self, request: Request) -> int:
        """The number of tokens to reserve for a request."""
        raise NotImplementedError

    def can_admit(self, request: Request) -> bool:
        return self.blocks_for(self.reservation(request)) <= self.num_free

    def admit(self, request: Request) -> int:
        taken = self.extend(request, self.reservation(request))
        assert taken, "admit without can_admit"
        return 0

    def grow(self, request: Request, tokens: int) -> bool:
        return True  # its blocks were reserved at admission


class Reservation(_Reserved):
    """Orca's manager: reserves the request's prompt + max_tokens (Orca, section 4.2).

    With blocks of 1 token these are exactly Orca's slots.
    """

    def reservation(self, request: Request) -> int:
        return request.max_known


class MaxLength(_Reserved):
    """FasterTransformer's manager: reserves the model's whole length (Orca, section 6.2)."""

    def __init__(self, num_blocks: int, block_size: int, max_model_len: int, groups: int = 1) -> None:
        super().__init__(num_blocks, block_size, groups)
        self.max_model_len = max_model_len

    def reservation(self, request: Request) -> int:
        return self.max_model_len

    @property
    def longest(self) -> int:
        held = super().longest
        return held if held >= self.max_model_len else 0
