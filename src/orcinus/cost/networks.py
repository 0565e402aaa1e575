"""The networks between devices: links inside and between nodes, and measured collectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orcinus.cost.links import CONSTANTS, NetworkLink, make_link
from orcinus.errors import ConfigError

Collective = Literal["all_reduce", "send_recv"]


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
    network: str  # on which it was measured

    def seconds(self, size: float) -> float:
        """Seconds of a message of `size` bytes.

        The last regime holds for everything larger.
        """
        regime = next((each for each in self.regimes if size <= each.up_to), self.regimes[-1])
        return regime.latency + size / regime.rate


@dataclass(frozen=True, slots=True)
class Network:
    """Links inside and between nodes.

    Raises `ConfigError` for a number that is not positive.
    """

    name: str
    node_size: int  # devices in a node
    inside: NetworkLink  # of one device, when more than two of a node take part
    pair: NetworkLink  # of one device, when it talks to its own neighbour alone
    between: NetworkLink  # of one network card
    cards: int  # of them in a node
    skew: float  # seconds: devices do not begin a sum together, and it takes the first of them at least this long
    measured: tuple[Measured, ...] = ()  # used as they are; missing ones are computed from the links

    def __post_init__(self) -> None:
        for name in ("node_size", "cards"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{name} of the network {self.name!r} must be a whole number of at least 1, not {value!r}")
        if not isinstance(self.skew, (int, float)) or not 0 <= self.skew < 60:
            raise ConfigError(f"skew of the network {self.name!r} must be at least 0 seconds, not {self.skew!r}")

    def find(self, collective: Collective, workers: int, nodes: int) -> Measured | None:
        """The measurement for exactly this many workers and nodes; else None."""
        wanted = (collective, workers, nodes)
        return next((each for each in self.measured if (each.collective, each.workers, each.nodes) == wanted), None)


def profiles(name: str, *, between: bool = True) -> tuple[Measured, ...]:
    """The collectives measured on this network; without those between nodes unless `between`."""
    return tuple(
        Measured(each["collective"], each["workers"], each["nodes"], tuple(Regime(**one) for one in each["regimes"]), name)
        for each in CONSTANTS["measured"][name]
        if between or each["nodes"] == 1
    )


SKEWS: dict[str, float] = CONSTANTS["skew"]  # of the networks whose sums were measured
DGX, DGX_H100, PAIRS, A40 = "a100-dgx", "h100-dgx", "a100-nc96ads", "a40-bridges"

# Rates are those of data sheets, one way. NVLink 3 and 4 carry 300 and 450 GB/s of an SXM module, a bridge between two cards
# of the A100 or H100 300 GB/s, PCIe 4.0 x16 31.5 GB/s. The cards of the DGX A100 nodes carry what was measured of one, 62
# Gb/s. Azure ND96asr v4 (Orca section 6.1) has 8 InfiniBand cards of 200 Gb/s, NC96ads v4 (Sarathi-Serve section 5) one
# Ethernet card of 100 Gb/s. Two neighbours of the measured A40 exchange 4 GB/s, as through the host's memory: their bridge
# (56 GB/s) was not used.
_PCIE, _ETHERNET = make_link("pcie", 31.5e9), make_link("ethernet", 12.5e9)
_NVLINK_3, _NVLINK_4, _HOST = make_link("nvlink3", 300e9), make_link("nvlink4", 450e9), make_link("pcie-host", 31.5e9)


def _infiniband(rate: float) -> NetworkLink:
    return make_link("infiniband", rate)


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        #       name        node  inside     pair       between        cards  skew
        Network(DGX, 8, _NVLINK_3, _NVLINK_3, _infiniband(7.8e9), 4, SKEWS[DGX], profiles(DGX)),
        Network("a100-nd96asr", 8, _NVLINK_3, _NVLINK_3, _infiniband(25e9), 8, SKEWS[DGX], profiles(DGX, between=False)),
        Network(PAIRS, 4, _PCIE, _NVLINK_3, _ETHERNET, 1, SKEWS[PAIRS], profiles(PAIRS)),
        Network(A40, 8, _HOST, _HOST, _ETHERNET, 1, SKEWS[PAIRS], profiles(A40)),
        Network(DGX_H100, 8, _NVLINK_4, _NVLINK_4, _infiniband(50e9), 8, SKEWS[DGX_H100], profiles(DGX_H100)),
        Network("h100-bridges", 4, make_link("pcie", 63e9), _NVLINK_3, _ETHERNET, 1, SKEWS[PAIRS]),
        Network("pcie", 8, _PCIE, _PCIE, _ETHERNET, 1, SKEWS[PAIRS]),
    )
}


USUAL_NETWORKS = {  # of the servers usual for a device; a100-dgx for all others
    "h100": DGX_H100,
    "h200": DGX_H100,
    "a40": A40,
    "a6000": "pcie",
    "a10": "pcie",
    "l4": "pcie",
}


def interpolated(points: Sequence[tuple[float, float]]) -> tuple[Regime, ...]:
    """Regimes through measured points (bytes, seconds) of growing size.

    Below the first point its time holds; beyond the last one the rate between the last two, or of the last alone if that is no
    rate.
    """
    (first, seconds), (last, longest) = points[0], points[-1]
    found = [Regime(first, seconds, float("inf"))]
    for (before, sooner), (size, later) in zip(points, points[1:], strict=False):
        slope = (later - sooner) / (size - before)
        found.append(Regime(size, sooner - slope * before, 1 / slope if slope else float("inf")))
    if not 0 < found[-1].rate < float("inf"):
        found.append(Regime(float("inf"), 0.0, last / longest))
    return tuple(found)
