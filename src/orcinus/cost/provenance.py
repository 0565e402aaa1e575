"""The provenance of a cost model's constants: measured, fitted, given, borrowed, derived or assumed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from orcinus.cost.cluster import Cluster
from orcinus.cost.collectives import StageSend, link_of_sends, measured_send, sends_between_stages
from orcinus.cost.devices import EFFICIENCIES, DeviceSpec
from orcinus.cost.networks import NETWORKS, Measured, Network
from orcinus.cost.software import known_software

Basis = Literal["measured", "fitted", "given", "borrowed", "derived", "assumed"]  # given: by a file of the user's
WEAK: tuple[Basis, ...] = ("borrowed", "derived", "assumed")  # not of this machine


@dataclass(frozen=True, slots=True)
class OperatorProvenance:
    """The provenance of one family of operators; `source` is for people."""

    operators: str
    basis: Basis
    source: str


def provenance_of(cluster: Cluster, software: str, *, curve: bool) -> tuple[OperatorProvenance, ...]:
    """The provenance of each operator family of a cluster.

    `software` is spelled as on the command line; with `curve` its linear layers were measured.
    """
    name = software.partition(":")[0]
    device = cluster.device
    return (
        _linears(device, name, curve=curve),
        _of_device("norms and activations", device, device.elementwise.device),
        _of_software("attention", device, name),
        _of_software("scheduling and launching", device, name),
        *_launching_of_sums(cluster, name),
        *_collectives(cluster),
    )


def format_provenance(found: Sequence[OperatorProvenance]) -> str:
    """One line on how far the constants hold for this machine."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in found:
        groups.setdefault((each.basis, each.source), []).append(each.operators)
    said = "; ".join(f"{', '.join(names)} {basis} {source}" for (basis, source), names in groups.items())
    weak = any(each.basis in WEAK for each in found)
    return f"costs: {said}" + (": absolute times are estimates" if weak else "")


def _linears(device: DeviceSpec, software: str, *, curve: bool) -> OperatorProvenance:
    if curve:
        return OperatorProvenance(
            "linear layers", "measured", f"on {device.name} ({known_software()[software]['fitted_on'].split(',')[0]})"
        )
    return _of_device("linear layers", device, device.efficiency.device)


def _of_device(operators: str, device: DeviceSpec, source: str) -> OperatorProvenance:
    if source != device.chip:
        return OperatorProvenance(operators, "borrowed", f"from {source}")
    if source in EFFICIENCIES:
        return OperatorProvenance(operators, "fitted", f"on {source}")
    return OperatorProvenance(operators, "given", f"for {source}")


def _launching_of_sums(cluster: Cluster, software: str) -> Iterator[OperatorProvenance]:
    """What sums over devices take besides the network, if the software has it from another."""
    source = known_software().get(software, {}).get("borrowed", {}).get("reduce")
    if source is not None and cluster.parallel.tp > 1:
        yield OperatorProvenance("launching of sums over devices", "borrowed", f"from {source}")


def _of_software(operators: str, device: DeviceSpec, software: str) -> OperatorProvenance:
    if software not in known_software():
        return OperatorProvenance(operators, "assumed", "for software `default`, which is fitted on nothing")
    measured_on = known_software()[software]["device"]
    if device.chip == measured_on.split("-")[0]:
        return OperatorProvenance(operators, "fitted", f"on {software}, {measured_on}")
    return OperatorProvenance(operators, "borrowed", f"from {software}, {measured_on}")


def _collectives(cluster: Cluster) -> Iterator[OperatorProvenance]:
    parallel, network = cluster.parallel, cluster.network
    if parallel.tp > 1:
        nodes = -(-parallel.tp // network.node_size)
        yield provenance_of_sums(network, parallel.tp, nodes)
    if parallel.pp > 1:
        yield from {provenance_of_sends(network, each): None for each in sends_between_stages(parallel, network)}


def provenance_of_sums(network: Network, workers: int, nodes: int) -> OperatorProvenance:
    """The provenance of an all-reduce over `workers` devices on `nodes` nodes."""
    link = network.between if nodes > 1 else network.pair if workers == 2 else network.inside
    return _of_network("sums over devices", network, network.find("all_reduce", workers, nodes), link.sums_from, link.kind)


def provenance_of_sends(network: Network, send: StageSend) -> OperatorProvenance:
    """The provenance of a send."""
    link = link_of_sends(network, send.across, send.paired)
    return _of_network("hand-over between stages", network, measured_send(network, send), link.sends_from, link.kind)


def _of_network(operators: str, network: Network, measured: Measured | None, source: str, kind: str) -> OperatorProvenance:
    """Measured on this network or on another, or computed for a kind of link that was fitted on one, or given."""
    if measured is not None:
        own = measured.network == network.name
        text = f"on {network.name}" if own else f"from {measured.network}, for {network.name}"
        return OperatorProvenance(operators, "measured" if own else "borrowed", text)
    if source == network.name:
        known = source in NETWORKS
        return OperatorProvenance(operators, "fitted" if known else "given", f"{'on' if known else 'in'} {source} ({kind})")
    if source in NETWORKS:
        return OperatorProvenance(operators, "borrowed", f"from {source} ({kind}), for the rates of {network.name}")
    return OperatorProvenance(operators, "derived", f"for the {kind} of {network.name} from {source}")
