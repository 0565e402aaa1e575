"""The tensors that hold keys and values.

`core/kv` decides who owns which block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.runtime.pack import PackedBatch


@dataclass(frozen=True, slots=True)
class LayerKV:
    """Keys and values of one layer, each `[num_blocks, num_kv_heads, block_size, head_dim]`.

    Heads come before positions inside a block, so one head's part of a block is contiguous: measured on a CPU, that has twice
    the bandwidth of the other order (see docs/log.md).
    """

    keys: Tensor
    values: Tensor

    def write(self, batch: PackedBatch, k: Tensor, v: Tensor) -> None:
        """Store `k` and `v` in the batch's slots.

        Each is `[num_tokens, num_kv_heads, head_dim]`.
        """
        self.keys[batch.slot_blocks, :, batch.slot_offsets] = k
        self.values[batch.slot_blocks, :, batch.slot_offsets] = v

    def context(self, blocks: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """A copy of a context's keys and values, each `[num_kv_heads, length, head_dim]`."""
        return self._gather(self.keys, blocks, length), self._gather(self.values, blocks, length)

    @staticmethod
    def _gather(cache: Tensor, blocks: Tensor, length: int) -> Tensor:
        heads, size, dim = cache.shape[1:]
        used = blocks[: -(-length // size)]
        return cache[used].transpose(0, 1).reshape(heads, len(used) * size, dim)[:, :length]


def allocate(
    num_layers: int,
    num_blocks: int,
    num_kv_heads: int,
    block_size: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[LayerKV, ...]:
    """The K/V memory of a model, zeroed.

    The operating system provides its pages only when they are written.
    """
    shape = (num_layers, 2, num_blocks, num_kv_heads, block_size, head_dim)
    memory = torch.zeros(shape, dtype=dtype, device=device)
    return tuple(LayerKV(layer[0], layer[1]) for layer in memory)
