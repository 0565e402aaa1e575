"""Attention on a CPU: all decodes of an iteration in one kernel that reads keys and values where they are."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.attention.cpu_kernel import decode_kernel
from orcinus.runtime.attention.reference import attend, fused
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch

EVERYTHING = np.int64(2**62)  # a reach that no sequence exceeds


class CpuAttention:
    """Decodes: one Numba kernel over (head, request), at memory bandwidth. Prompts: torch's fused attention, one by one.

    A prompt computed in one piece attends to its own fresh keys; only a later chunk of a prompt copies its context, once
    for all its tokens.
    """

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        torch.set_num_threads(threads)  # both use one OpenMP pool, and starting Numba's threads changed its size

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, kv: LayerKV, batch: PackedBatch, scale: float, window: int | None
    ) -> Tensor:
        kv.write(batch, k, v)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if len(batch.decode_rows):
            self._decodes(q, kv, batch, scale, window, out)
        for chunk in batch.prompts:
            rows = chunk.rows
            if chunk.start == 0 and (window is None or chunk.count <= window):
                out[rows] = fused(q[rows], k[rows].transpose(0, 1), v[rows].transpose(0, 1), scale, mask=None)
            else:
                out[rows] = attend(q[rows], kv, chunk, scale, window)
        return out

    @staticmethod
    def _decodes(q: Tensor, kv: LayerKV, batch: PackedBatch, scale: float, window: int | None, out: Tensor) -> None:
        _, num_kv_heads, block_size, head_dim = kv.keys.shape
        kernel = decode_kernel(head_dim, q.shape[1] // num_kv_heads, block_size)
        tables, lengths, rows = batch.decode_tables.numpy(), batch.decode_lengths.numpy(), batch.decode_rows.numpy()
        reach = EVERYTHING if window is None else np.int64(window)
        kernel(_array(q), _array(kv.keys), _array(kv.values), rows, tables, lengths, np.float32(scale), reach, _array(out))


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The same memory as a numpy array; bfloat16, which numpy lacks, as its 16 bits."""
    return tensor.contiguous().view(torch.uint16).numpy() if tensor.dtype is torch.bfloat16 else tensor.contiguous().numpy()
