"""The hardware and software that one replica runs on."""

from __future__ import annotations

from dataclasses import dataclass

from orcinus.cost.architecture import Parallel
from orcinus.cost.device_file import find_device
from orcinus.cost.devices import DeviceSpec
from orcinus.cost.network_file import find_network
from orcinus.cost.networks import Network
from orcinus.cost.software import Software, find_software


@dataclass(frozen=True, slots=True)
class Cluster:
    """The devices, network, parallelism and software of a replica."""

    device: DeviceSpec
    network: Network
    parallel: Parallel = Parallel()
    software: Software = Software()


def find_cluster(device: str, network: str, software: str, parallel: Parallel) -> Cluster:
    """The cluster of these names. Raises `ConfigError` for an unknown name."""
    chosen = find_software(software)
    return Cluster(chosen.on(find_device(device)), find_network(network), parallel, chosen)
