"""Tunes attention's launch configs for both models; the fastest are remembered."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from on_gpu.bench import Bench
from on_gpu.geometry import Geometry
from on_gpu.paged import BLOCK, alike, pool
from on_gpu.timing import ring_size, seconds
from orcinus.runtime.kernels.attention import paged_attention
from orcinus.runtime.kernels.launch_configs import LaunchConfig, ShapeClass, default
from orcinus.runtime.kernels.tune import candidates, tune


def run(bench: Bench) -> None:
    for decode in (True, False):
        for model in bench.sizes.models:
            shape = ShapeClass(model.head_dim, model.group, bench.dtype, decode)
            choose(bench, model, shape)


def choose(bench: Bench, model: Geometry, shape: ShapeClass) -> None:
    """A row for each candidate, and one with the winner."""
    made = MadeUp(bench, model, shape)
    times: dict[LaunchConfig, float] = {}

    def measure(launch: LaunchConfig) -> float:
        times[launch] = made.measure(launch)
        _row(bench, "candidates", shape, launch, times)
        return times[launch]

    best = tune(shape, bench.device, measure, candidates(shape))
    _row(bench, "remembered", shape, best, times)


def _row(bench: Bench, table: str, shape: ShapeClass, launch: LaunchConfig, times: dict[LaunchConfig, float]) -> None:
    usual = times.get(default(shape))  # None if the device has no room for it
    ratio = None if usual is None else times[launch] / usual
    cells = {"block_m": launch.block_m, "block_n": launch.block_n, "warps": launch.num_warps, "stages": launch.num_stages}
    bench.row(table, shape=str(shape), **cells, us=times[launch] * 1e6, of_default_time=ratio)


class MadeUp:
    """Batches of one shape class: many decodes, or two whole prompts."""

    def __init__(self, bench: Bench, model: Geometry, shape: ShapeClass) -> None:
        context = bench.sizes.tune_context
        requests, rows = (bench.sizes.tune_requests, 1) if shape.decode else (2, context // 2)
        blocks = -(-context // BLOCK) * requests
        num_bytes = 2 * blocks * BLOCK * model.kv_heads * model.head_dim * shape.dtype.itemsize
        self._bench, self._batches = bench, alike(requests, context, rows, ring_size(bench, num_bytes), bench.device)
        count = blocks * len(self._batches)
        self._keys, self._values = pool(count, model.kv_heads, model.head_dim, shape.dtype, bench.device)
        self._q = torch.randn((requests * rows, model.heads, model.head_dim), dtype=shape.dtype, device=bench.device)

    def measure(self, launch: LaunchConfig) -> float:
        """Median seconds of one launch."""

        def attend(each: int) -> Tensor:
            scale = float(self._q.shape[2] ** -0.5)
            return paged_attention(self._q, self._keys, self._values, self._batches[each], scale, launch=launch)

        return seconds(self._bench, [partial(attend, each) for each in range(len(self._batches))])
