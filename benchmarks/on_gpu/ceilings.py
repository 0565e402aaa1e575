"""Ceilings of the device, by which the other sections are measured."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from on_gpu.bench import Bench
from on_gpu.geometry import Geometry
from on_gpu.timing import ring_size, seconds

COPY, READ, GEMM = "copy_gb_per_s", "read_gb_per_s", "gemm_tflop_per_s"


def run(bench: Bench) -> None:
    bench.fact(GEMM, gemm_rate(bench))  # first: the device wakes up
    bench.fact(COPY, copy_rate(bench))
    bench.fact(READ, read_rate(bench))
    for model in bench.sizes.models:
        for rows in bench.sizes.gemm_rows:
            layer_products(bench, model, rows)


def copy_rate(bench: Bench) -> float:
    """GB/s of a copy on the device, reads and writes together."""
    source, target = (_numbers(bench, bench.sizes.copy_bytes // 4, torch.float32) for _ in range(2))
    return 2 * source.nbytes / seconds(bench, [lambda: target.copy_(source)]) / 1e9


def read_rate(bench: Bench) -> float:
    """GB/s of a sum over a large tensor."""
    source = _numbers(bench, bench.sizes.copy_bytes // 4, torch.float32)
    return source.nbytes / seconds(bench, [lambda: source.sum()]) / 1e9


def gemm_rate(bench: Bench) -> float:
    """TFLOP/s of a large square product of random matrices.

    Zeros would take less power, and so be faster.
    """
    side = bench.sizes.gemm_side
    a, b = (_numbers(bench, side * side, bench.dtype).view(side, side) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / seconds(bench, [lambda: torch.mm(a, b, out=out)]) / 1e12


def layer_products(bench: Bench, model: Geometry, rows: int) -> None:
    """A row for each product of a layer, and one for the layer.

    Weights come from memory, as in a model.
    """
    whole_s, whole_flops, whole_bytes = 0.0, 0, 0
    for name, (outputs, inputs) in model.linears.items():
        count = ring_size(bench, outputs * inputs * bench.dtype.itemsize)
        weights = [_numbers(bench, outputs * inputs, bench.dtype).view(outputs, inputs) for _ in range(count)]
        x = _numbers(bench, rows * inputs, bench.dtype).view(rows, inputs)
        took = seconds(bench, [partial(F.linear, x, weight) for weight in weights])
        flops, num_bytes = 2 * rows * outputs * inputs, outputs * inputs * bench.dtype.itemsize
        _row(bench, model, name, rows, took, flops, num_bytes)
        if name != "head":
            whole_s, whole_flops, whole_bytes = whole_s + took, whole_flops + flops, whole_bytes + num_bytes
    _row(bench, model, "layer", rows, whole_s, whole_flops, whole_bytes)


def _row(bench: Bench, model: Geometry, name: str, rows: int, took: float, flops: int, num_bytes: int) -> None:
    bench.row(
        "products of the models",
        model=model.name,
        product=name,
        rows=rows,
        us=took * 1e6,
        tflop_per_s=flops / took / 1e12,
        weights_gb_per_s=num_bytes / took / 1e9,
    )


def _numbers(bench: Bench, count: int, dtype: torch.dtype) -> Tensor:
    """Random ones."""
    return torch.empty(count, dtype=dtype, device=bench.device).normal_()
