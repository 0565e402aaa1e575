"""Devices, and how well software uses them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orcinus.cost.constants import read
from orcinus.errors import ConfigError

MIB = 2**20
SHARED_BYTES_PER_CYCLE = 128  # per multiprocessor through shared memory, in every generation listed


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The fractions of a device's peaks that matrix multiplications reach.

    Raises `ConfigError` for a fraction outside (0, 1] or a negative time.
    """

    flops: float  # fraction of peak_flops inside a tile
    bandwidth: float  # fraction of bandwidth at which weights and activations stream
    launch_seconds: float  # of every kernel: filling and draining the device
    tile_seconds: float  # of every tile: prologue and epilogue
    split_seconds: float  # of cutting the inner dimension: one more kernel that adds the parts
    overlapped: bool = False  # operands are loaded while others are multiplied (Hopper's TMA and wgmma)
    device: str = ""  # on which it was fitted

    def __post_init__(self) -> None:
        if not (0 < self.flops <= 1 and 0 < self.bandwidth <= 1):
            raise ConfigError(f"a device reaches a fraction of its peaks: give numbers above 0 and up to 1, not {self}")
        if min(self.launch_seconds, self.tile_seconds, self.split_seconds) < 0:
            raise ConfigError(f"a device cannot save time by launching kernels: give seconds of at least 0, not {self}")


@dataclass(frozen=True, slots=True)
class ElementwiseKernel:
    """A kernel that only moves numbers: seconds = hypot(latency, bytes / rate).

    Raises `ConfigError` for a negative latency or a fraction outside (0, 1].
    """

    latency: float  # seconds of the smallest
    bandwidth: float  # fraction of the device's that large ones reach

    def __post_init__(self) -> None:
        if not (self.latency >= 0 and 0 < self.bandwidth <= 1):
            raise ConfigError(
                f"an elementwise kernel has a latency of at least 0 s and a fraction of the bandwidth, not {self.latency!r} s "
                f"and {self.bandwidth!r}: give numbers above 0 and up to 1 for the latter"
            )

    def seconds(self, bandwidth: float, size: float) -> float:
        """Seconds to read and write `size` bytes in total, on a device of this bandwidth in bytes per second."""
        return math.hypot(self.latency, size / (bandwidth * self.bandwidth))


@dataclass(frozen=True, slots=True)
class ElementwiseKernels:
    """The elementwise kernels of a layer, and of the embedding."""

    norm: ElementwiseKernel
    add: ElementwiseKernel
    embedding: ElementwiseKernel
    rope: ElementwiseKernel
    activation: ElementwiseKernel
    device: str = ""  # on which they were fitted


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One accelerator. Raises `ConfigError` for sizes and rates that are not positive."""

    name: str
    memory_bytes: int  # all of it, as the driver reports it
    peak_flops: float  # operations a second, dense, 16-bit numbers, sums in 32 bits
    bandwidth: float  # bytes a second of its memory
    sms: int  # streaming multiprocessors
    clock_hz: float  # at which the peak is stated
    efficiency: Efficiency
    elementwise: ElementwiseKernels
    chip: str  # devices of one chip have their kernels' constants in common

    def __post_init__(self) -> None:
        if min(self.memory_bytes, self.peak_flops, self.bandwidth, self.sms, self.clock_hz) <= 0:
            raise ConfigError(f"sizes and rates of the device {self.name!r} must be positive")

    @property
    def shared_bandwidth(self) -> float:
        """Bytes a second through the shared memories of all multiprocessors together."""
        return SHARED_BYTES_PER_CYCLE * self.sms * self.clock_hz


def elementwise_kernels(constants: Mapping[str, Mapping[str, float]], device: str = "") -> ElementwiseKernels:
    """Kernels from their constants by name, as in `constants/elementwise.json`.

    Raises `TypeError` for missing or unknown names.
    """
    return ElementwiseKernels(**{name: ElementwiseKernel(**each) for name, each in constants.items()}, device=device)


# What was measured: linear layers on four chips, elementwise kernels on three.
EFFICIENCIES = {name: Efficiency(**fitted, device=name) for name, fitted in read("linear")["efficiency"].items()}
ELEMENTWISE = {name: elementwise_kernels(fitted, name) for name, fitted in read("elementwise")["operators"].items()}


def _device(
    name: str, memory: int, flops: float, bandwidth: float, sms: int, clock: float, *, linear: str, elementwise: str
) -> DeviceSpec:
    """A device with the constants that were fitted on these two."""
    reached, kernels = EFFICIENCIES[linear], ELEMENTWISE[elementwise]
    return DeviceSpec(name, memory, flops, bandwidth, sms, clock, reached, kernels, chip=name.split("-")[0])


# NVIDIA's data sheets and architecture white papers; memory as nvidia-smi reports it. Peak = multiprocessors x clock x
# operations per cycle (2048 in GA100, 4096 in GH100, 1024 in GA102 and AD104). Devices that were not measured borrow from
# the one that is most like them: same memory, and if possible the same generation.
DEVICES: dict[str, DeviceSpec] = {
    device.name: device
    for device in (
        #       name        memory       FLOP/s    bytes/s   SMs  clock
        _device("a100-40g", 40536 * MIB, 312e12, 1.555e12, 108, 1.410e9, linear="a100", elementwise="a100"),
        _device("a100-80g", 81920 * MIB, 312e12, 2.039e12, 108, 1.410e9, linear="a100", elementwise="a100"),
        _device("a6000", 49140 * MIB, 154.8e12, 768e9, 84, 1.800e9, linear="a6000", elementwise="a40"),
        _device("a40", 46068 * MIB, 149.7e12, 696e9, 84, 1.740e9, linear="a40", elementwise="a40"),
        _device("a10", 23028 * MIB, 125e12, 600e9, 72, 1.695e9, linear="a40", elementwise="a40"),
        _device("l4", 23034 * MIB, 121e12, 300e9, 58, 2.040e9, linear="a40", elementwise="a40"),
        _device("h100", 81559 * MIB, 989.4e12, 3.35e12, 132, 1.830e9, linear="h100", elementwise="h100"),
        _device("h200", 143771 * MIB, 989.4e12, 4.8e12, 132, 1.830e9, linear="h100", elementwise="h100"),
    )
}
