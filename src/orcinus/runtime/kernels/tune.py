"""Tunes attention's launch configs on this device, and remembers the fastest.

Tune before serving begins, never while a graph is captured: measuring waits for the device, which a capture may not.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import torch
import triton.testing
from triton.runtime.errors import OutOfResources

from orcinus.errors import ConfigError
from orcinus.runtime.kernels.attention import paged_attention
from orcinus.runtime.kernels.launch_configs import LaunchConfig, ShapeClass, choose, default, key, padded, remember, remembered
from orcinus.runtime.pack import PagedBatch

log = logging.getLogger(__name__)

KV_HEADS, BLOCK_SIZE = 8, 16
DECODES, CHUNKS = (64, 1, 2048), (2, 1024, 2048)  # requests, rows of each, tokens of context: what is measured


def candidates(shape: ShapeClass) -> tuple[LaunchConfig, ...]:
    """Launches worth measuring, the default first."""
    least = padded(shape.group)
    if shape.dtype is torch.float32:
        tiles = [(16, 16, 4, 2), (16, 32, 8, 2), (16, 16, 4, 3), (32, 32, 8, 2)]
    elif shape.decode:
        tiles = [(16, 32, 4, 5), (16, 64, 4, 3), (16, 64, 4, 5), (16, 128, 4, 3), (16, 128, 8, 3), (16, 128, 8, 5)]
    else:
        tiles = [
            (64, 32, 4, 3),
            (64, 64, 4, 3),
            (64, 64, 8, 3),
            (128, 32, 8, 3),
            (128, 64, 4, 3),
            (128, 64, 8, 3),
            (128, 128, 8, 2),
        ]
    found = [default(shape), *(LaunchConfig(max(m, least), n, warps, stages) for m, n, warps, stages in tiles)]
    return tuple(dict.fromkeys(found))


def tune(
    shape: ShapeClass,
    device: torch.device,
    measure: Callable[[LaunchConfig], float] | None = None,
    launches: Sequence[LaunchConfig] | None = None,
) -> LaunchConfig:
    """The fastest of `launches` (default: `candidates`) for a class; it is remembered.

    `measure` returns the seconds of a launch; by default it runs the kernel on a made-up batch of the class. Launches that
    exceed the device's resources are skipped. Raises `ConfigError` during the capture of a graph, without a device to measure
    on, or if no launch runs.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        raise ConfigError("a launch cannot be tuned while a graph is captured: tune before the capture")
    if device.type != "cuda" and measure is None:
        raise ConfigError("launches are tuned on a CUDA device: there is nothing to measure on a CPU")
    times: dict[LaunchConfig, float] = {}
    for launch in launches or candidates(shape):
        try:
            times[launch] = (measure or partial(seconds, shape, device))(launch)
        except OutOfResources as error:
            log.debug("%s does not fit the device: %s", launch, error)
    if not times:
        raise ConfigError(f"no launch for {shape} runs on this device: give smaller ones")
    best = min(times, key=times.__getitem__)
    log.info("%s: %s, %.1f us instead of %.1f", shape, best, 1e6 * times[best], 1e6 * times.get(choose(shape, device), 0))
    remember(shape, device, best)
    return best


def tune_unknown(shapes: Sequence[ShapeClass], device: torch.device) -> None:
    """Tune the classes without a remembered launch, about half a minute each.

    If the result cannot be cached, warn and keep the defaults.
    """
    for shape in shapes:
        if key(shape, device) not in remembered():
            log.info("attention is tuned for this device, once: %s", shape)
            try:
                tune(shape, device)
            except ConfigError as error:
                log.warning("attention runs with defaults: %s", error)


def seconds(shape: ShapeClass, device: torch.device, launch: LaunchConfig) -> float:
    """Median seconds of the kernel on a synthetic batch of the class."""
    requests, rows, context = DECODES if shape.decode else CHUNKS
    blocks = -(-context // BLOCK_SIZE)
    pool = (requests * blocks, KV_HEADS, BLOCK_SIZE, shape.head_dim)
    keys, values = (torch.randn(pool, dtype=shape.dtype, device=device) for _ in range(2))
    q = torch.randn((requests * rows, KV_HEADS * shape.group, shape.head_dim), dtype=shape.dtype, device=device)
    batch = PagedBatch(
        torch.arange(requests + 1, dtype=torch.int32, device=device) * rows,
        torch.full((requests,), context, dtype=torch.int32, device=device),
        torch.randperm(requests * blocks, device=device).int().view(requests, blocks),
        rows,
        context,
    )
    milliseconds = triton.testing.do_bench(
        lambda: paged_attention(q, keys, values, batch, shape.head_dim**-0.5, launch=launch), return_mode="median"
    )
    return float(milliseconds) / 1000
