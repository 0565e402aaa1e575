"""Devices, how well software uses them, and the networks between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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


def _device(name: str, *data_sheet: Any, linear: str, elementwise: str) -> DeviceSpec:
    """A device with the constants that were fitted on these two."""
    reached, kernels = EFFICIENCIES[linear], ELEMENTWISE[elementwise]
    return DeviceSpec(name, *data_sheet, efficiency=reached, elementwise=kernels, chip=name.split("-")[0])


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


Collective = Literal["all_reduce", "send_recv"]
PROFILE = "a100-dgx"  # the one network that was measured


@dataclass(frozen=True, slots=True)
class Regime:
    """A collective's seconds as latency + size / rate.

    It holds up to `up_to` bytes.
    """

    up_to: float
    latency: float
    rate: float  # bytes of the message a second


@dataclass(frozen=True, slots=True)
class Measured:
    """Measured seconds of a collective, as regimes of growing size."""

    collective: Collective
    workers: int
    nodes: int
    regimes: tuple[Regime, ...]

    def seconds(self, size: float) -> float:
        """Seconds of a message of `size` bytes.

        The last regime holds for everything larger.
        """
        regime = next((each for each in self.regimes if size <= each.up_to), self.regimes[-1])
        return regime.latency + size / regime.rate


@dataclass(frozen=True, slots=True)
class Network:
    """Links inside and between nodes, in bytes per second one way.

    Raises `ConfigError` for a rate or a number that is not positive.
    """

    name: str
    node_size: int  # devices in a node
    inside: float  # of one device, when more than two of a node take part
    pair: float  # of one device, when it talks to its own neighbour alone
    between: float  # of one network card
    cards: int  # of them in a node
    measured: tuple[Measured, ...] = ()  # used as they are; missing ones are derived from the rates
    profile: str = PROFILE  # the network on which they were measured

    def __post_init__(self) -> None:
        if min(self.node_size, self.inside, self.pair, self.between, self.cards) <= 0:
            raise ConfigError(f"sizes and rates of the network {self.name!r} must be positive")

    def find(self, collective: Collective, workers: int, nodes: int) -> Measured | None:
        """The measurement for exactly this many workers and nodes; else None."""
        wanted = (collective, workers, nodes)
        return next((each for each in self.measured if (each.collective, each.workers, each.nodes) == wanted), None)


def _measured(*, inside: bool = True, pairs: bool = False, between: bool = False, faster: float = 1.0) -> tuple[Measured, ...]:
    """The DGX A100's measured collectives that hold on other systems too.

    Links that are `faster` times as fast carry that much more, with the same latency.
    """
    profile = (
        Measured(
            each["collective"],
            each["workers"],
            each["nodes"],
            tuple(Regime(one["up_to"], one["latency"], one["rate"] * faster) for one in each["regimes"]),
        )
        for each in read("network")[PROFILE]
    )
    return tuple(each for each in profile if (between if each.nodes > 1 else inside or (pairs and each.workers == 2)))


# The profile's own nodes are joined by what looks like four cards that carry 62 Gb/s each. NVLink 3 and 4 carry 300 and
# 450 GB/s each way in an SXM module, a bridge between two PCIe cards 300 GB/s (A100) or 56 GB/s (GA102), PCIe 4.0 x16
# 31.5 GB/s. Azure ND96asr v4 (Orca section 6.1) has 8 InfiniBand cards of 200 Gb/s, NC96ads v4 (Sarathi-Serve section 5)
# one Ethernet card of 100 Gb/s.
NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        #       name              node  inside   pair     between  cards
        Network(PROFILE, 8, 300e9, 300e9, 7.8e9, 4, _measured(between=True)),
        Network("a100-nd96asr", 8, 300e9, 300e9, 25e9, 8, _measured()),
        Network("a100-nc96ads", 4, 31.5e9, 300e9, 12.5e9, 1, _measured(inside=False, pairs=True)),
        Network("a40-bridges", 8, 31.5e9, 56.25e9, 12.5e9, 1),
        Network("h100-dgx", 8, 450e9, 450e9, 50e9, 8, _measured(faster=450 / 300)),
        Network("pcie", 8, 31.5e9, 31.5e9, 12.5e9, 1),
    )
}


USUAL_NETWORKS = {  # of the servers usual for a device; a100-dgx for all others
    "h100": "h100-dgx",
    "h200": "h100-dgx",
    "a40": "a40-bridges",
    "a6000": "pcie",
    "a10": "pcie",
    "l4": "pcie",
}


def find_network(name: str) -> Network:
    """The network of this name.

    Raises `ConfigError` that lists the names if there is none.
    """
    try:
        return NETWORKS[name.lower()]
    except KeyError:
        raise ConfigError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}") from None
