"""Decode attention on a CPU: the paged kernel, torch, and the memory's bandwidth.

    python benchmarks/cpu_attention.py [--threads 2] [--repeats 15]

Three ways to attend with one query per request over scattered K/V blocks, timed in turn on the same data:
  kernel   the `cpu` backend (orcinus.runtime.cpu_kernels), which reads blocks where they are
  gather   copy every context into one padded tensor, then one scaled-dot-product call
  loop     one scaled-dot-product call per request over a copy of its context (the `reference` backend)
Bandwidth counts the bytes of the keys and values once. Medians; the read of a large tensor is the ceiling.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from orcinus.core.batch import Batch, Chunk, NewRequest
from orcinus.core.executor_state import RequestStates
from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.attention import CpuAttention, Heads, ReferenceAttention
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.pack import PackedBatch, pack

BLOCK = 16
SHAPES = [  # requests, query heads, key/value heads, head size, context
    (1, 16, 8, 128, 4096),
    (8, 16, 8, 128, 2048),
    (32, 16, 8, 128, 1024),
    (32, 4, 2, 64, 512),
    (4, 32, 8, 128, 4096),
]


def median_seconds(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """Median time of each call, all of them run in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def decodes(requests: int, context: int) -> PackedBatch:
    """One decode per request, its blocks scattered over the pool."""
    per_request = context // BLOCK
    blocks = torch.randperm(requests * per_request).view(requests, per_request).tolist()
    chunks = tuple(Chunk(f"r{i}", (0,), context - 1) for i in range(requests))
    prompt, params = (0,) * context, SamplingParams()
    new = tuple(NewRequest(f"r{i}", prompt, (), params, RequestContext(), (tuple(table),)) for i, table in enumerate(blocks))
    batch, states = Batch(1, chunks, new), RequestStates()
    states.apply(batch)
    (packed,) = pack(batch, states, BLOCK)
    return packed


def gather(q: Tensor, kv: LayerKV, batch: PackedBatch, scale: float) -> Tensor:
    """All contexts, of equal length here, copied into one tensor."""
    tables = batch.decodes.tables.long()
    requests, heads, dim = len(tables), kv.keys.shape[1], kv.keys.shape[3]
    keys, values = (cache[tables].transpose(1, 2).reshape(requests, heads, -1, dim) for cache in (kv.keys, kv.values))
    return scaled_dot_product_attention(q[:, :, None], keys, values, scale=scale, enable_gqa=True)[:, :, 0]


def measure(shape: tuple[int, int, int, int, int], dtype: torch.dtype, repeats: int, ceiling: Tensor) -> None:
    requests, heads, kv_heads, dim, context = shape
    batch = decodes(requests, context)
    memory = torch.randn(2, requests * context // BLOCK, kv_heads, BLOCK, dim).to(dtype)
    kv = LayerKV(memory[0], memory[1])
    q, new = torch.randn(requests, heads, dim).to(dtype), torch.randn(requests, kv_heads, dim).to(dtype)
    qkv, numbers = torch.cat((q, new, new), dim=1).flatten(1), Heads(heads, kv_heads, dim, dim**-0.5)
    kernel, reference = CpuAttention(), ReferenceAttention()
    seconds = median_seconds(
        [
            lambda: ceiling.sum(),
            lambda: kernel(qkv, None, kv, batch, numbers),
            lambda: gather(q, kv, batch, numbers.scale),
            lambda: reference(qkv, None, kv, batch, numbers),
        ],
        repeats,
    )
    read = ceiling.nbytes / seconds[0] / 1e9
    rates = [memory.nbytes / taken / 1e9 for taken in seconds[1:]]
    name = f"{requests:>3} x {context:<5} heads {heads}/{kv_heads} x {dim:<4} {str(dtype).removeprefix('torch.'):<9}"
    figures = " ".join(f"{rate:8.1f}" for rate in (read, *rates))
    print(f"{name} {figures} {seconds[2] / seconds[1]:9.1f}x {rates[0] / read:8.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    ceiling = torch.randn(2**26)
    print(f"{arguments.threads} threads, torch {torch.__version__}; GB/s")
    print(f"{'requests x context':<46} {'read':>8} {'kernel':>8} {'gather':>8} {'loop':>8} {'vs gather':>10} {'of read':>8}")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            measure(shape, dtype, arguments.repeats, ceiling)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
