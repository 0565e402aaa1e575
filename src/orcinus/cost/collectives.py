"""Seconds of all-reduces (tensor parallel) and of sends (pipeline parallel).

Where a network was measured, the measurement counts, in regimes: NCCL changes protocols and algorithms as messages grow,
and between nodes that changes the rate by a factor of two. Elsewhere a ring is assumed (Patarasuk and Yuan, 2009): every
worker sends and receives 2 (w - 1) / w times the message, over the slowest link. Measured times are medians of kernels
on devices that do not start at the same moment, so that small messages cost tens of microseconds even over NVLink.
"""

from __future__ import annotations

from orcinus.cost.constants import read
from orcinus.cost.devices import Network
from orcinus.errors import ConfigError

# Over NVLink: fixed seconds, and the fraction of a link's rate that arrives.
SHARES: dict[str, dict[str, float]] = read("network")["shares"]


def all_reduce_seconds(network: Network, size: float, workers: int, nodes: int | None = None) -> float:
    """Seconds of an all-reduce of `size` bytes over `workers` devices.

    `nodes` is how many nodes they are spread over, evenly; default: as few as possible. One worker takes no time. Raises
    `ConfigError` for fewer than one worker, or more than the nodes have devices.
    """
    nodes = -(-workers // network.node_size) if nodes is None else nodes
    if not (workers >= 1 and 1 <= nodes <= workers and workers <= nodes * network.node_size):
        raise ConfigError(
            f"{workers} workers do not fit on {nodes} nodes of {network.name}: give each node 1 to {network.node_size} of them"
        )
    if workers == 1:
        return 0.0
    measured = network.find("all_reduce", workers, nodes)
    if measured is not None:
        return measured.seconds(size)
    rate = network.pair if workers == 2 else network.inside
    if nodes > 1:
        rate = min(rate, network.between * min(network.cards, workers // nodes))
    share = SHARES["all_reduce"]
    return share["latency"] + 2 * (workers - 1) / workers * size / (rate * share["fraction"])


def send_recv_seconds(network: Network, size: float, senders: int = 1, across: bool = True) -> float:
    """Seconds to send `size` bytes to one device.

    `across`: it is in another node. `senders` devices of the node send at the same time and share its network cards. Raises
    `ConfigError` if there are fewer than one or more than the node has devices.
    """
    if not 1 <= senders <= network.node_size:
        raise ConfigError(f"{senders} senders are not in a node of {network.name}: give 1 to {network.node_size}")
    waiting = max(1.0, senders / network.cards) if across else 1.0  # how many share a card
    measured = network.find("send_recv", 2, 2 if across else 1)
    if measured is not None:
        return measured.seconds(size * waiting)
    share = SHARES["send_recv"]
    rate = network.between if across else network.inside
    return share["latency"] + size * waiting / (rate * share["fraction"])
