"""Attention on a CPU, with one paged kernel for all decodes."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from orcinus.runtime.attention.cpu_kernel import decode_kernel
from orcinus.runtime.attention.port import Angles, Heads, split
from orcinus.runtime.attention.reference import attend, fused, parts
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch, PagedBatch

EVERYTHING = np.int64(2**62)  # larger than any sequence


class CpuAttention:
    """Decodes in one Numba kernel; prompts in torch's fused attention.

    A prompt computed in one piece attends to its own fresh keys; only a later chunk of a prompt copies its context, once
    for all its tokens.
    """

    captures_decodes = captures_chunks = False

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        torch.set_num_threads(threads)  # both use one OpenMP pool, and starting Numba's threads changed its size

    def __call__(self, qkv: Tensor, angles: Angles | None, kv: LayerKV, batch: PackedBatch, heads: Heads) -> Tensor:
        q, k, v = split(qkv, angles, kv, batch, heads)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        if len(batch.sources):
            self._decodes(q, kv, batch.decodes, heads, out)
        for part in parts(batch.chunks, len(batch.sources)):
            rows = part.rows
            if part.start == 0 and (heads.window is None or part.end <= heads.window):
                out[rows] = fused(q[rows], k[rows].transpose(0, 1), v[rows].transpose(0, 1), heads.scale, mask=None)
            else:
                out[rows] = attend(q[rows], kv, part, heads)
        return out.flatten(1)

    @staticmethod
    def _decodes(q: Tensor, kv: LayerKV, batch: PagedBatch, heads: Heads, out: Tensor) -> None:
        """Rows [0, requests) of `q`."""
        kernel = decode_kernel(heads.head_dim, heads.num_heads // heads.num_kv_heads, kv.keys.shape[2])
        reach = EVERYTHING if heads.window is None else np.int64(heads.window)
        tables, lengths = batch.tables.numpy(), batch.ends.numpy()
        kernel(_array(q), _array(kv.keys), _array(kv.values), tables, lengths, np.float32(heads.scale), reach, _array(out))


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """The same memory as a numpy array; bfloat16 as its 16 bits."""
    return tensor.contiguous().view(torch.uint16).numpy() if tensor.dtype is torch.bfloat16 else tensor.contiguous().numpy()
