"""Attention on a CPU: the kernels of decodes and prompts, and torch.

    python benchmarks/cpu_attention.py [decodes | prompts | formats] [--threads 2] [--repeats 15]

Three ways to attend with one query per request over scattered K/V blocks, timed in turn on the same data:
  kernel   the `cpu` backend (orcinus.runtime.cpu_kernels), which reads blocks where they are
  gather   copy every context into one padded tensor, then one scaled-dot-product call
  loop     one scaled-dot-product call per request over a copy of its context (the `reference` backend)
Bandwidth counts the bytes of the keys and values once. Medians; the read of a large tensor is the ceiling.

Two ways to attend with chunks of prompts, in turn: the kernel, and one scaled-dot-product call per chunk, over a copy of its
context if it has one. The ratio is the median of the rounds' ratios; operations are those of the pairs that see each other.

Three formats of keys and values for decodes, in turn: milliseconds of the fastest call, medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numba
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from orcinus.core.batch import Batch, Chunk, NewRequest, pairs
from orcinus.core.executor_state import RequestStates
from orcinus.core.request import RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.attention import CpuAttention, Heads, ReferenceAttention
from orcinus.runtime.attention.reference import attend, fused, parts
from orcinus.runtime.cpu_kernels.elements import array
from orcinus.runtime.cpu_kernels.prompt_attention import prompt_attention
from orcinus.runtime.kv_cache import LayerKV, allocate
from orcinus.runtime.pack import PackedBatch, pack

BLOCK = 16
SHAPES = [  # requests, query heads, key/value heads, head size, context
    (1, 16, 8, 128, 4096),
    (8, 16, 8, 128, 2048),
    (32, 16, 8, 128, 1024),
    (32, 4, 2, 64, 512),
    (4, 32, 8, 128, 4096),
]
PROMPTS = [  # chunks, tokens before each, tokens of each, query heads, key/value heads, head size
    (1, 0, 512, 16, 8, 128),
    (1, 1024, 128, 16, 8, 128),
    (1, 0, 2048, 16, 8, 128),
    (8, 0, 60, 16, 8, 128),
    (1, 0, 64, 16, 8, 128),
    (1, 0, 4, 16, 8, 128),
    (1, 1024, 4, 16, 8, 128),
    (1, 0, 512, 4, 2, 64),
    (1, 1024, 128, 4, 2, 64),
    (1, 0, 8, 4, 2, 64),
]


FORMATS = {"float32": (torch.float32, "auto"), "bfloat16": (torch.bfloat16, "auto"), "int8": (torch.bfloat16, "int8")}
HEADS = [(16, 8, 128), (9, 3, 64)]  # query heads, key/value heads, head size
POOL = 32_768  # tokens in the K/V memory of `formats`, which all requests share: more than a cache holds


def seconds_in_turn(calls: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Times of each call, all of them run in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(repeats):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return times


def packed_chunks(requests: int, start: int, count: int) -> PackedBatch:
    """A chunk of `count` tokens per request, its blocks scattered over the pool."""
    context = start + count
    per_request = -(-context // BLOCK)
    blocks = torch.randperm(requests * per_request).view(requests, per_request).tolist()
    chunks = tuple(Chunk(f"r{i}", (0,) * count, start) for i in range(requests))
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
    batch = packed_chunks(requests, context - 1, 1)
    memory = torch.randn(2, requests * context // BLOCK, kv_heads, BLOCK, dim).to(dtype)
    kv = LayerKV(memory[0], memory[1])
    q, new = torch.randn(requests, heads, dim).to(dtype), torch.randn(requests, kv_heads, dim).to(dtype)
    qkv, numbers = torch.cat((q, new, new), dim=1).flatten(1), Heads(heads, kv_heads, dim, dim**-0.5)
    kernel, reference = CpuAttention(), ReferenceAttention()
    times = seconds_in_turn(
        [
            lambda: ceiling.sum(),
            lambda: kernel(qkv, None, kv, batch, numbers),
            lambda: gather(q, kv, batch, numbers.scale),
            lambda: reference(qkv, None, kv, batch, numbers),
        ],
        repeats,
    )
    seconds = [statistics.median(taken) for taken in times]
    read = ceiling.nbytes / seconds[0] / 1e9
    rates = [memory.nbytes / taken / 1e9 for taken in seconds[1:]]
    name = f"{requests:>3} x {context:<5} heads {heads}/{kv_heads} x {dim:<4} {str(dtype).removeprefix('torch.'):<9}"
    figures = " ".join(f"{rate:8.1f}" for rate in (read, *rates))
    print(f"{name} {figures} {seconds[2] / seconds[1]:9.1f}x {rates[0] / read:8.0%}")


def fused_per_chunk(qkv: Tensor, kv: LayerKV, batch: PackedBatch, heads: Heads) -> Tensor:
    """torch's fused attention, chunk by chunk."""
    q, k, v = torch.split(qkv.view(len(qkv), -1, heads.head_dim), [heads.num_heads, heads.num_kv_heads, heads.num_kv_heads], 1)
    out = torch.empty_like(q)
    for part in parts(batch.chunks, 0):
        rows = part.rows
        if part.start:
            out[rows] = attend(q[rows], kv, part, heads)
        else:
            out[rows] = fused(q[rows], k[rows].transpose(0, 1), v[rows].transpose(0, 1), heads.scale, mask=None)
    return out


def measure_prompts(shape: tuple[int, int, int, int, int, int], dtype: torch.dtype, repeats: int) -> None:
    requests, start, count, heads, kv_heads, dim = shape
    batch = packed_chunks(requests, start, count)
    memory = torch.randn(2, requests * -(-(start + count) // BLOCK), kv_heads, BLOCK, dim).to(dtype)
    kv, numbers = LayerKV(memory[0], memory[1]), Heads(heads, kv_heads, dim, dim**-0.5)
    qkv = torch.randn(requests * count, (heads + 2 * kv_heads) * dim).to(dtype)
    chunks, out = batch.chunks, torch.empty(len(qkv), heads * dim, dtype=dtype)
    rows, target = array(qkv), array(out)
    tables = chunks.firsts.numpy(), chunks.ends.numpy(), chunks.tables.numpy()
    ours, theirs = seconds_in_turn(
        [
            lambda: prompt_attention(rows, kv.arrays(), *tables, numbers.scale, None, target),
            lambda: fused_per_chunk(qkv, kv, batch, numbers),
        ],
        repeats,
    )
    rates = [4 * requests * pairs(start, count) * heads * dim / statistics.median(taken) / 1e9 for taken in (ours, theirs)]
    ratio = statistics.median(old / new for old, new in zip(theirs, ours, strict=True))
    name = f"{requests} x {count} after {start:<5} heads {heads}/{kv_heads} x {dim:<4} {str(dtype).removeprefix('torch.'):<9}"
    milliseconds = " ".join(f"{1e3 * statistics.median(taken):9.3f}" for taken in (ours, theirs))
    print(f"{name:<52} {milliseconds} {rates[0]:9.1f} {rates[1]:9.1f} {ratio:8.2f}x")


def compare_formats(sizes: tuple[int, int, int], repeats: int) -> None:
    """Milliseconds of the decode kernel for each format of keys and values, and how many times as fast int8 is."""
    heads, kv_heads, dim = sizes
    numbers, attend = Heads(heads, kv_heads, dim, dim**-0.5), CpuAttention()
    print(f"\n{heads}/{kv_heads} heads of {dim}\n\n| decodes | context | {' | '.join(FORMATS)} | to bfloat16 | to float32 |")
    print(f"|{'---|' * 7}")
    for context in (512, 2048, 8192):
        for requests in (1, 8, 32):
            packed = packed_chunks(requests, context - 1, 1)
            packed.decodes.tables.remainder_(POOL // BLOCK)
            packed.slot_blocks.remainder_(POOL // BLOCK)
            calls = []
            for dtype, kv_cache_dtype in FORMATS.values():
                (kv,) = allocate(1, POOL // BLOCK, kv_heads, BLOCK, dim, dtype, torch.device("cpu"), kv_cache_dtype)
                kv.fill_(0.01)
                qkv = torch.randn(requests, (heads + 2 * kv_heads) * dim).to(dtype)
                calls.append(partial(attend, qkv, None, kv, packed, numbers))
            seconds = seconds_in_turn(calls, repeats)
            cells = [f"{1e3 * min(each):.3f}" for each in seconds]
            for other in (seconds[1], seconds[0]):
                ratio = statistics.median(theirs / ours for theirs, ours in zip(other, seconds[2], strict=True))
                cells.append(f"{ratio:.2f}x")
            print(f"| {requests} | {context} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("decodes", "prompts", "formats"), help="only these")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"{arguments.threads} threads, torch {torch.__version__}")
    for sizes in HEADS if arguments.what in (None, "formats") else ():
        compare_formats(sizes, arguments.repeats)
    if arguments.what in (None, "decodes"):
        ceiling = torch.randn(2**26)
        print(
            f"{'GB/s: requests x context':<46} {'read':>8} {'kernel':>8} {'gather':>8} {'loop':>8} "
            f"{'vs gather':>10} {'of read':>8}"
        )
        for dtype in (torch.float32, torch.bfloat16):
            for shape in SHAPES:
                measure(shape, dtype, arguments.repeats, ceiling)
    if arguments.what in (None, "prompts"):
        print(f"{'chunks':<52} {'kernel ms':>9} {'torch ms':>9} {'GFLOP/s':>9} {'torch':>9} {'ratio':>9}")
        for dtype in (torch.float32, torch.bfloat16):
            for chunk in PROMPTS:
                measure_prompts(chunk, dtype, arguments.repeats)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
