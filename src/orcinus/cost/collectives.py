"""Seconds of all-reduces (tensor parallel) and of sends (pipeline parallel).

Where a network was measured, the measurement counts, in regimes: NCCL changes protocols and algorithms as messages grow, and
between nodes that changes the rate by a factor of two. Elsewhere a ring through all nodes is computed (Patarasuk and Yuan,
2009): every worker sends and receives 2 (w - 1) / w times the message, over the slowest link of its way, in 2 (w - 1) steps,
of which the ring's crossings between nodes take longer than the others. The better of two protocols counts, as in NCCL: one
hands short messages on soon, and one uses all cards. A hierarchy (reduce-scatter inside, all-reduce between, all-gather
inside) would send half as much between two nodes; the measured DGX A100 nodes are as fast as the ring.
"""

from __future__ import annotations

from typing import NamedTuple

from orcinus.cost.architecture import Parallel
from orcinus.cost.links import NetworkLink, Protocol
from orcinus.cost.networks import Measured, Network
from orcinus.errors import ConfigError

LAUNCH = 15e-6  # seconds: a collective's kernel on a device that waits for no other, as measured between two neighbours


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
    return max(network.skew, min(_ring(network, size, workers, nodes, short) for short in (True, False)))


def _ring(network: Network, size: float, workers: int, nodes: int, short: bool) -> float:
    """Seconds of the ring with the protocol for short or for long messages."""
    together = -(-workers // nodes)  # in a node
    traffic = 2 * (workers - 1) / workers
    steps, rate = 2.0 * (workers - 1), float("inf")
    seconds = LAUNCH
    if nodes > 1:
        used, link = _sums(network.between, short), network.between
        rate = link.rate * used.share * (1 if short else min(network.cards, together))
        crossings = traffic * nodes  # of every chunk, on its way around
        seconds += crossings * used.hop
        steps -= crossings
    if together > 1:
        link = network.pair if together == 2 else network.inside
        used = _sums(link, short)
        rate = min(rate, link.rate * used.share)
        seconds += steps * used.hop
    return seconds + traffic * size / rate


def _sums(link: NetworkLink, short: bool) -> Protocol:
    return link.short if short else link.long


class StageSend(NamedTuple):
    """How one stage sends to the next."""

    senders: int = 1  # devices of the node that send at the same time, and share its network cards
    across: bool = True  # the receiver is in another node
    paired: bool = True  # it is in the same node, a neighbour, which in some networks a bridge joins


def send_recv_seconds(network: Network, size: float, senders: int = 1, across: bool = True, paired: bool = True) -> float:
    """Seconds to send `size` bytes to one device.

    For the rest see `StageSend`. Raises `ConfigError` if there are fewer senders than one or more than the node has devices.
    """
    if not 1 <= senders <= network.node_size:
        raise ConfigError(f"{senders} senders are not in a node of {network.name}: give 1 to {network.node_size}")
    shared = size * max(1.0, senders / network.cards) if across else size
    measured = measured_send(network, StageSend(senders, across, paired))
    if measured is not None:
        return measured.seconds(shared)
    link = link_of_sends(network, across, paired)
    return min(used.hop + shared / (link.rate * used.share) for used in (link.short_send, link.long_send))


def measured_send(network: Network, send: StageSend) -> Measured | None:
    """The measurement of such sends: between nodes, or between neighbours; else None."""
    if send.across:
        return network.find("send_recv", 2, 2)
    like_neighbours = link_of_sends(network, False, send.paired) == network.pair
    return network.find("send_recv", 2, 1) if like_neighbours else None


def sends_between_stages(parallel: Parallel, network: Network) -> list[StageSend]:
    """The sends from each stage to the next.

    Stages fill one node after the other. Each device sends its part of the hidden states to its counterpart in the next stage.
    """
    tp, size = parallel.tp, network.node_size
    found = []
    for stage in range(parallel.pp - 1):
        sender = stage * tp
        receiver = sender + tp
        across = sender // size != receiver // size or tp > size
        found.append(StageSend(min(tp, size), across, tp == 1 and sender % 2 == 0))
    return found


def link_of_sends(network: Network, across: bool, paired: bool) -> NetworkLink:
    """The link over which one device sends to another."""
    if across:
        return network.between
    return network.pair if paired else network.inside
