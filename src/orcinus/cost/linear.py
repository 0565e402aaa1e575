"""Seconds of matrix multiplications and of elementwise operators.

A roofline with the steps of a real kernel. A product [m, k] x [k, n] is cut into tiles; every multiprocessor works on one
tile at a time, so the time is that of the busiest one (wave quantisation), and a partly empty tile costs as much as a full
one (tile quantisation: 257 tokens cost more than 256, SARATHI section 2.1). A small tile wastes less at the edges but loads
more operands per operation. Where tiles are too few to occupy the device, the inner dimension may be split and the parts
added afterwards. cuBLAS chooses by a heuristic of its own; here the fastest of a few choices is taken. Two tile shapes
explain the measurements as well as eight did. Up to Ampere, loading operands into registers costs a tile time of its own;
on Hopper tensor cores read shared memory, which is filled asynchronously, so that the longer of the two counts.
"""

from __future__ import annotations

from orcinus.cost.devices import DeviceSpec, ElementwiseKernel
from orcinus.errors import ConfigError

ACTIVATION_BYTES = 2
SUM_BYTES = 4  # partial sums are kept in 32 bits
TILES = ((128, 128), (64, 64))  # rows and columns of the result
SPLITS = (1, 2, 4, 8)
CORNER = 4  # the roofline's norm: 1 adds both times, infinity takes the longer; large for the A6000, any for the A100


def linear_seconds(device: DeviceSpec, m: int, k: int, n: int, bytes_per_weight: float = ACTIVATION_BYTES) -> float:
    """Seconds of one product [m, k] x [k, n] of m tokens.

    Activations and operations are in 16 bits even if weights are stored in another format. The time never falls as m grows.
    Raises `ConfigError` for sizes below 1.
    """
    if min(m, k, n) < 1 or bytes_per_weight <= 0:
        raise ConfigError(
            f"a product [{m}, {k}] x [{k}, {n}] of {bytes_per_weight} bytes a weight is none: give sizes of at least 1"
        )
    moved = bytes_per_weight * k * n + ACTIVATION_BYTES * m * (k + n)
    streaming = moved / (device.bandwidth * device.efficiency.bandwidth)
    cut = (_tiled_seconds(device, (m, k, n), tile, split, streaming) for tile in TILES for split in SPLITS)
    return device.efficiency.launch_seconds + min(cut)


def _tiled_seconds(
    device: DeviceSpec, sizes: tuple[int, int, int], tile: tuple[int, int], split: int, streaming: float
) -> float:
    """Seconds of the product in these tiles, with k in `split` parts."""
    (m, k, n), (rows, columns), reached = sizes, tile, device.efficiency
    tiles = -(-m // rows) * -(-n // columns) * split
    busiest = -(-tiles // device.sms)
    depth = k / split
    computing = 2 * rows * columns * depth / (device.peak_flops * reached.flops)
    loading = ACTIVATION_BYTES * (rows + columns) * depth / device.shared_bandwidth
    product = max(computing, loading) if reached.overlapped else computing + loading
    working = busiest * (device.sms * product + reached.tile_seconds)
    seconds: float = (working**CORNER + streaming**CORNER) ** (1 / CORNER)
    if split > 1:
        seconds += reached.split_seconds + (split + 1) * m * n * SUM_BYTES / device.shared_bandwidth
    return seconds


OPERATORS = ("norm", "add", "embedding", "rope", "activation")


def elementwise_seconds(device: DeviceSpec, size: float, operator: str) -> float:
    """Seconds of an operator that reads and writes `size` bytes in total.

    `operator` is one of `OPERATORS`. Count bytes as in its fit, with 16-bit numbers per element of the result: norm and
    embedding 2 (one read, one written), add 3, rope 2 for all queries and keys, activation 3 if gated, else 2. Raises
    `ConfigError` for an operator that is none of these.
    """
    if operator not in OPERATORS:
        raise ConfigError(f"unknown operator {operator!r}: choose one of {', '.join(OPERATORS)}")
    kernel: ElementwiseKernel = getattr(device.elementwise, operator)
    return kernel.seconds(device.bandwidth, size)
