"""The tensors that hold keys and values.

`core/kv` decides who owns which block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orcinus.runtime.cpu_kernels.elements import ZERO, KVArrays, array
from orcinus.runtime.cpu_kernels.quantized_rows import dequantize_rows, quantize_rows
from orcinus.runtime.huge_pages import zeros
from orcinus.runtime.pack import PackedBatch


@dataclass(frozen=True, slots=True)
class KVScales:
    """Scales of keys and values that are stored as 8-bit integers, each `[num_blocks, num_kv_heads, block_size]`, float32.

    There is one for each token and head, so what is stored depends on the token alone.
    """

    keys: Tensor
    values: Tensor
    dtype: torch.dtype  # the model's, in which a context is returned


@dataclass(frozen=True, slots=True)
class LayerKV:
    """Keys and values of one layer, each `[num_blocks, num_kv_heads, block_size, head_dim]`.

    Heads come before positions inside a block, so one head's part of a block is contiguous: measured on a CPU, that has twice
    the bandwidth of the other order (see docs/log.md). With scales they are bytes (`quantized_rows`).
    """

    keys: Tensor
    values: Tensor
    scales: KVScales | None = None

    def write(self, batch: PackedBatch, k: Tensor, v: Tensor) -> None:
        """Store `k` and `v` in the batch's slots.

        Each is `[num_tokens, num_kv_heads, head_dim]`.
        """
        if self.scales is not None:
            k, self.scales.keys[batch.slot_blocks, :, batch.slot_offsets] = quantize_rows(k)
            v, self.scales.values[batch.slot_blocks, :, batch.slot_offsets] = quantize_rows(v)
        self.keys[batch.slot_blocks, :, batch.slot_offsets] = k
        self.values[batch.slot_blocks, :, batch.slot_offsets] = v

    def context(self, blocks: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """A copy of a context's keys and values, each `[num_kv_heads, length, head_dim]`, in the model's dtype."""
        keys, values = _gather(self.keys, blocks, length), _gather(self.values, blocks, length)
        if self.scales is None:
            return keys, values
        scales = _gather(self.scales.keys, blocks, length), _gather(self.scales.values, blocks, length)
        return dequantize_rows(keys, scales[0], self.scales.dtype), dequantize_rows(values, scales[1], self.scales.dtype)

    def fill_(self, value: float) -> None:
        """Make every number `value` (not negative)."""
        for cache in (self.keys, self.values):
            cache.fill_(value if self.scales is None else 2 * ZERO - 1)
        for scales in () if self.scales is None else (self.scales.keys, self.scales.values):
            scales.fill_(value / (ZERO - 1))

    def tensors(self) -> list[Tensor]:
        """Keys, values, and their scales if there are some."""
        return [self.keys, self.values, *(() if self.scales is None else (self.scales.keys, self.scales.values))]

    def arrays(self) -> KVArrays:
        """Keys, values and their scales, for kernels of a CPU."""
        scales = (None, None) if self.scales is None else (array(self.scales.keys), array(self.scales.values))
        return array(self.keys), array(self.values), *scales


def _gather(cache: Tensor, blocks: Tensor, length: int) -> Tensor:
    """A context's part of a tensor of blocks, `[num_kv_heads, length, …]`."""
    heads, size, *dim = cache.shape[1:]
    used = blocks[: -(-length // size)]
    return cache[used].transpose(0, 1).reshape(heads, len(used) * size, *dim)[:, :length]


def allocate(
    num_layers: int,
    num_blocks: int,
    num_kv_heads: int,
    block_size: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
    kv_cache_dtype: str = "auto",
) -> tuple[LayerKV, ...]:
    """The K/V memory of a model of this dtype, zeroed. `kv_cache_dtype` is int8, or anything else for that dtype.

    The operating system provides its pages when they are written, or by `huge_pages.populate`.
    """
    shape = (num_layers, 2, num_blocks, num_kv_heads, block_size, head_dim)
    if kv_cache_dtype != "int8":
        memory = zeros(shape, dtype) if device.type == "cpu" else torch.zeros(shape, dtype=dtype, device=device)
        return tuple(LayerKV(layer[0], layer[1]) for layer in memory)
    memory, scales = zeros(shape, torch.uint8), zeros(shape[:-1], torch.float32)
    pairs = zip(memory, scales, strict=True)
    return tuple(LayerKV(layer[0], layer[1], KVScales(scale[0], scale[1], dtype)) for layer, scale in pairs)
