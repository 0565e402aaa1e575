"""Compiles every kernel for an H100 or H200, without one: the launchers run, but each launch is only compiled.

A process of its own, because here triton must not interpret. Prints a line for each kernel: its name and the bytes of
stack that a thread has, which are registers spilled to memory.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from orcinus.runtime.kernels import (
    argmax,
    attention,
    follow,
    gather_kv,
    norm,
    penalties,
    philox,
    rope_kv,
    sample,
    silu_mul,
    token_bitmask,
)
from orcinus.runtime.pack import PagedBatch

HOPPER = GPUTarget("cuda", 90, 32)
TYPES = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.bfloat16: "*bf16", torch.int32: "*i32", torch.int64: "*i64"
}  # fmt: skip


def stack_of(cubin: bytes) -> str:
    """Bytes of stack a thread, as the disassembler that comes with triton reports them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        report = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return report.split("STACK:")[1].split()[0]


def compile_instead(kernel: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
    """What a launch would compile: types from the arguments, a 1 as a constant, multiples of 16 known as such."""
    signature, constants, aligned = {}, {}, {}
    given = dict(zip(kernel.arg_names, args, strict=False)) | {n: kwargs.pop(n) for n in kernel.arg_names if n in kwargs}
    for index, parameter in enumerate(kernel.params):
        value, plain = given[parameter.name], parameter.do_not_specialize
        if parameter.is_constexpr or (value is not None and not isinstance(value, Tensor | float) and value == 1 and not plain):
            signature[parameter.name], constants[index,] = "constexpr", value
        else:
            kind = TYPES[value.dtype] if isinstance(value, Tensor) else "fp32" if isinstance(value, float) else "i32"
            signature[parameter.name] = kind
            if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0 and not plain):
                aligned[index,] = [["tt.divisibility", 16]]
    options = {"num_warps": 4} | kwargs
    made = triton.compile(ASTSource(kernel, signature, constants, aligned), target=HOPPER, options=options)
    print(kernel.__name__, stack_of(made.asm["cubin"]), flush=True)


def run_attention(rows: int, requests: int, group: int, dim: int, dtype: torch.dtype, window: int | None = None) -> None:
    """A batch of equal requests with long contexts."""
    q, kv = torch.zeros(rows, 2 * group, dim, dtype=dtype), torch.zeros(9, 2, 16, dim, dtype=dtype)
    firsts = torch.arange(requests + 1, dtype=torch.int32) * (rows // requests)
    tables = torch.zeros(requests, 64, dtype=torch.int32)
    batch = PagedBatch(firsts, firsts[1:], tables, rows // requests, 1024)
    attention.paged_attention(q, kv, kv, batch, 1.0, window)


def main() -> None:
    JITFunction.run = compile_instead
    half, whole = torch.bfloat16, torch.float32
    run_attention(600, 2, 4, 128, half)
    run_attention(1, 1, 3, 80, half, window=300)
    run_attention(3, 3, 4, 128, whole)
    kv, firsts = torch.zeros(9, 2, 16, 128, dtype=half), torch.arange(5, dtype=torch.int32)
    gather_kv.gather_contexts(kv, kv, PagedBatch(firsts, firsts[1:], torch.zeros(4, 64, dtype=torch.int32), 1, 64), 99, 300)
    norm.add_rms_norm(torch.zeros(2, 4096, dtype=half), *torch.zeros(2, 2, 4096, dtype=half), 1e-5)
    silu_mul.act_mul(torch.zeros(2, 4096, dtype=half))
    kv, slots, angles = torch.zeros(9, 2, 16, 128, dtype=half), torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2, 3, 64)
    qkv, weight = torch.zeros(3, 12 * 128, dtype=half), torch.zeros(128, dtype=half)
    rope_kv.rope_and_write(qkv, (angles[0], angles[1]), (slots[0], slots[1]), kv, kv, (weight, weight, 1e-5))
    for size in (151_936, 500):
        ids, row = torch.zeros(2, 3, dtype=torch.int32), torch.zeros(2)
        logits, longs = torch.zeros(2, size), torch.zeros(2, dtype=torch.int64)
        sample.sample(logits, sample.Wishes(row, ids[:, 0], row, row, longs, longs), filtered=True)
    argmax.argmax(logits)
    penalties.penalise(logits, ids, ids, row, row, row)
    penalties.add_biases(logits, ids, torch.zeros(2, 3))
    token_bitmask.apply_token_bitmask(logits, ids[0, :2], torch.zeros(2, 16, dtype=torch.int32))
    philox.uniform(longs, longs)
    follow.follow(ids[0], ids[1], longs)


if __name__ == "__main__":
    main()
