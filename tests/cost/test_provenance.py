"""Which constants of a machine are its own, and which were fitted on another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orcinus.cost.architecture import Parallel
from orcinus.cost.cluster import find_cluster
from orcinus.cost.devices import DEVICES
from orcinus.cost.networks import NETWORKS, USUAL_NETWORKS
from orcinus.cost.provenance import WEAK, OperatorProvenance, format_provenance, provenance_of
from orcinus.cost.software import find_software, known_software

LINEARS = {  # device -> where its linear layers were fitted
    "a100-40g": "a100",
    "a100-80g": "a100",
    "a6000": "a6000",
    "a40": "a40",
    "a10": "a40",
    "l4": "a40",
    "h100": "h100",
    "h200": "h100",
}
OTHERS = LINEARS | {"a6000": "a40"}  # and its norms and activations


def found(
    device: str, network: str, software: str, tp: int = 1, pp: int = 1, *, curve: bool = False
) -> dict[str, OperatorProvenance]:
    cluster = find_cluster(device, network, software, Parallel(tp, pp))
    return {each.operators: each for each in provenance_of(cluster, software, curve=curve)}


@pytest.mark.parametrize("device", DEVICES)
def test_kernels_are_borrowed_wherever_the_device_was_not_measured(device: str) -> None:
    origins = found(device, USUAL_NETWORKS.get(device, "a100-dgx"), "default")
    for operators, sources in (("linear layers", LINEARS), ("norms and activations", OTHERS)):
        source = sources[device]
        own = device.split("-")[0] == source
        assert origins[operators].basis == ("fitted" if own else "borrowed")
        assert origins[operators].source.split()[-1] == source


def test_the_default_software_says_that_it_is_fitted_on_nothing() -> None:
    origins = found("a100-80g", "a100-dgx", "default")
    for operators in ("attention", "scheduling and launching"):
        assert origins[operators].basis == "assumed"
        assert "fitted on nothing" in origins[operators].source


@pytest.mark.parametrize("software", known_software())
@pytest.mark.parametrize("device", DEVICES)
def test_software_is_borrowed_off_the_device_on_which_it_was_fitted(software: str, device: str) -> None:
    origin = found(device, "a100-dgx", f"{software}:iteration=0.001")["attention"]
    same = device.split("-")[0] == known_software()[software]["device"].split("-")[0]
    assert origin.basis == ("fitted" if same else "borrowed")
    assert found(device, "a100-dgx", "default")["attention"].basis == "assumed"


@pytest.mark.parametrize(
    ("network", "tp", "pp", "sums", "handed"),
    [
        ("a100-dgx", 1, 1, None, None),
        ("a100-dgx", 8, 1, "measured", None),
        ("a100-dgx", 8, 2, "measured", "measured"),
        ("a100-nd96asr", 8, 2, "borrowed", "borrowed"),
        ("a100-nc96ads", 2, 1, "measured", None),
        ("a100-nc96ads", 4, 2, "measured", "measured"),
        ("a100-nc96ads", 8, 1, "derived", None),
        ("h100-dgx", 4, 2, "measured", "measured"),
        ("h100-dgx", 16, 1, "borrowed", None),
        ("a100-dgx", 6, 1, "fitted", None),
        ("pcie", 2, 2, "borrowed", "derived"),
    ],
)
def test_what_a_network_takes_is_its_own_a_scaled_one_or_a_data_sheets(
    network: str, tp: int, pp: int, sums: str | None, handed: str | None
) -> None:
    known = found("a100-80g", network, "default", tp, pp)
    bases = [known[name].basis if name in known else None for name in ("sums over devices", "hand-over between stages")]
    assert bases == [sums, handed]


def test_sums_that_one_device_cannot_show_are_borrowed_and_say_so() -> None:
    name = "launching of sums over devices"
    assert name not in found("a100-80g", "a100-dgx", "vllm")
    assert found("a100-80g", "a100-dgx", "vllm", 2)[name] == OperatorProvenance(name, "borrowed", "from orca, a100-40g")
    assert name not in found("a100-80g", "a100-dgx", "orca", 2)
    assert find_software("vllm").reduce == find_software("orca").reduce


def test_a_measured_curve_is_told_from_a_fitted_formula() -> None:
    assert found("a6000", "pcie", "sarathi", curve=True)["linear layers"].basis == "measured"


def test_one_line_says_what_follows() -> None:
    own, other = OperatorProvenance("a", "fitted", "on x"), OperatorProvenance("b", "borrowed", "from y")
    assert format_provenance([own, OperatorProvenance("c", "fitted", "on x")]) == "costs: a, c fitted on x"
    assert format_provenance([own, other]) == "costs: a fitted on x; b borrowed from y: absolute times are estimates"
    assert set(WEAK) == {"borrowed", "derived", "assumed"}


def test_every_measurement_says_on_which_network_it_was_made() -> None:
    assert {each.network for network in NETWORKS.values() for each in network.measured} <= NETWORKS.keys()


def test_a_network_of_ones_own_says_what_it_gives_and_what_it_borrows(tmp_path: Path) -> None:
    file = tmp_path / "rack.json"
    mine = {"hop": 2e-5, "share": 0.5}
    between = {"link": "ethernet", "rate": 25e9, "short": mine, "long": mine}
    measured = [{"collective": "all_reduce", "workers": 2, "nodes": 1, "points": [[1024, 2e-5]]}]
    content = {
        "kind": "orcinus network",
        "version": 1,
        "like": "pcie",
        "node_size": 2,
        "between": between,
        "measured": measured,
    }
    file.write_text(json.dumps(content))
    assert found("a10", str(file), "default", 2)["sums over devices"].basis == "measured"
    assert found("a10", str(file), "default", 4)["sums over devices"] == OperatorProvenance(
        "sums over devices", "given", "in rack (ethernet)"
    )
    assert found("a10", str(file), "default", 2, 2)["hand-over between stages"].basis == "borrowed"
