"""Products with plain and with packed weights: GB/s at several batch sizes.

    python benchmarks/packed_weights.py [--threads N] [--repeats 15]

Every shape is there so often that the weights do not fit in a cache, as those of a model. Both sides take turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from orcinus.runtime.onednn_weights import can_prepack, multiply, prepack

SHAPES = [(4096, 1024), (1024, 3072), (32000, 512)]  # outputs, inputs
ROWS = (1, 8, 32, 128)
BYTES = 128 * 2**20


def seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(shape: tuple[int, int], dtype: torch.dtype, rows: int, repeats: int) -> str:
    """One line: both bandwidths in GB/s, and the speed-up of packed weights."""
    weights = [torch.randn(shape).to(dtype) for _ in range(max(1, BYTES // (shape[0] * shape[1] * dtype.itemsize)))]
    packed, x = [prepack(weight) for weight in weights], torch.randn(rows, shape[1]).to(dtype)
    plain_s, packed_s = [], []
    for repeat in range(repeats + 2):
        one = seconds(lambda: [F.linear(x, weight) for weight in weights] and None)
        other = seconds(lambda: [multiply(x, weight, None) for weight in packed] and None)
        if repeat >= 2:
            plain_s.append(one)
            packed_s.append(other)
    size = sum(weight.nbytes for weight in weights) / 1e9
    ratio = statistics.median(one / other for one, other in zip(plain_s, packed_s, strict=True))
    name = f"{str(dtype).removeprefix('torch.'):<9}{shape[0]:>6} x {shape[1]:<5} {rows:>4} rows"
    return f"{name} {size / statistics.median(plain_s):>8.1f} {size / statistics.median(packed_s):>8.1f} {ratio:>7.2f}x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}; GB/s of weights: plain, packed, packed / plain")
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            for rows in ROWS:
                print(
                    measure(shape, dtype, rows, options.repeats) if can_prepack("cpu", dtype) else f"{dtype}: cannot be packed"
                )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
