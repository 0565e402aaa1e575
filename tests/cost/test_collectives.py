"""Sums and hand-overs: nothing for one, more for more bytes, as measured where it was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.cost.architecture import Parallel
from orcinus.cost.collectives import StageSend, all_reduce_seconds, send_recv_seconds, sends_between_stages
from orcinus.cost.constants import read
from orcinus.cost.network_file import find_network
from orcinus.cost.networks import NETWORKS, Network
from orcinus.errors import ConfigError
from tests.cost.measurements import flat, needs_data, script

DGX = find_network("a100-dgx")
MIB = 2**20
networks = st.sampled_from(list(NETWORKS.values()))
sizes = st.floats(1, 2**28)


@given(networks, sizes)
def test_one_worker_has_nothing_to_add(network: Network, size: float) -> None:
    assert all_reduce_seconds(network, size, 1) == 0


@given(networks, sizes, st.sampled_from([2, 4, 8, 16, 32]))
def test_no_sum_is_faster_than_the_links(network: Network, size: float, workers: int) -> None:
    """Every worker sends and receives 2 (w - 1) / w of the message; NCCL's latency comes on top."""
    fastest = max(network.pair.rate, network.inside.rate)
    assert all_reduce_seconds(network, size, workers) > 2 * (workers - 1) / workers * size / fastest


@given(networks, sizes, sizes, st.sampled_from([2, 4, 8]))
def test_larger_sums_take_longer_within_a_node(network: Network, size: float, more: float, workers: int) -> None:
    """But for a change of protocol, which may win a tenth."""
    if workers <= network.node_size:
        assert 0.9 * all_reduce_seconds(network, size, workers) < all_reduce_seconds(network, size + more, workers)


def test_changing_protocols_within_a_node_wins_a_tenth_at_most() -> None:
    for measured in (each for each in DGX.measured if each.nodes == 1):
        for regime in measured.regimes[:-1]:
            assert measured.seconds(regime.up_to + 1) > 0.9 * measured.seconds(regime.up_to)


@pytest.mark.parametrize("size", [16 * MIB, 64 * MIB])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_large_sums_take_longer_among_more_workers(network: Network, size: int) -> None:
    times = [all_reduce_seconds(network, size, workers) for workers in (2, 4, 8) if workers <= network.node_size]
    assert times == sorted(times)


def test_leaving_the_node_is_slower_than_staying() -> None:
    for network in NETWORKS.values():
        assert all_reduce_seconds(network, 16 * MIB, 4, nodes=2) > all_reduce_seconds(network, 16 * MIB, 4, nodes=1)
        assert send_recv_seconds(network, 16 * MIB) > send_recv_seconds(network, 16 * MIB, across=False)


@given(networks, sizes, st.integers(1, 4))
def test_senders_share_the_cards(network: Network, size: float, senders: int) -> None:
    alone, together = send_recv_seconds(network, size), send_recv_seconds(network, size, senders)
    assert together > alone if senders > network.cards else together == alone


def test_links_between_pairs_are_slower_than_in_them() -> None:
    network = find_network("a100-nc96ads")
    assert all_reduce_seconds(network, 16 * MIB, 4) > 4 * all_reduce_seconds(network, 16 * MIB, 2)


def test_regimes_follow_each_other() -> None:
    for measured in DGX.measured:
        ends = [regime.up_to for regime in measured.regimes]
        assert ends == sorted(set(ends))
        last = measured.regimes[-1]
        assert measured.seconds(8 * last.up_to) == last.latency + 8 * last.up_to / last.rate


@pytest.mark.parametrize(
    ("workers", "nodes"), [(0, None), (9, 1), (2, 3), (16, 1)], ids=["none", "too many", "too few", "one node too few"]
)
def test_workers_that_are_nowhere_are_refused(workers: int, nodes: int | None) -> None:
    with pytest.raises(ConfigError, match="do not fit on"):
        all_reduce_seconds(DGX, MIB, workers, nodes)


@pytest.mark.parametrize("senders", [0, 9])
def test_senders_that_are_not_in_the_node_are_refused(senders: int) -> None:
    with pytest.raises(ConfigError, match="give 1 to 8"):
        send_recv_seconds(DGX, MIB, senders)


def test_stages_hand_over_within_a_node_where_they_share_it() -> None:
    """Eight devices to a node: of four stages of four devices, the second and the third are in different nodes."""
    inside, across = StageSend(4, False, False), StageSend(4, True, False)
    assert sends_between_stages(Parallel(4, 4), DGX) == [inside, across, inside]
    assert sends_between_stages(Parallel(8, 2), DGX) == [StageSend(8, True, False)]
    assert sends_between_stages(Parallel(16, 2), DGX) == [StageSend(8, True, False)]
    assert [way.paired for way in sends_between_stages(Parallel(1, 4), DGX)] == [True, False, True]


def test_only_neighbours_have_the_bridge() -> None:
    network = find_network("a100-nc96ads")
    bridged, apart = (send_recv_seconds(network, 16 * MIB, across=False, paired=paired) for paired in (True, False))
    assert apart > 5 * bridged


def test_tensors_over_ethernet_are_slower_than_a_pipeline_over_it() -> None:
    """Falcon-180B, 32 decodes (Sarathi-Serve, figure 13a): eighty sums over two nodes against one hand-over."""
    network, size = find_network("a100-nc96ads"), 32 * 14848 * 2
    sums = 80 * all_reduce_seconds(network, size, 8)
    handed = 80 * all_reduce_seconds(network, size, 4) + send_recv_seconds(network, size / 4, 4)
    assert sums > 5 * handed


RESIDUALS = read("network")["residuals"]


def test_residuals_of_measured_collectives_are_small() -> None:
    assert len(RESIDUALS["regimes"]) == 20
    for name, columns in RESIDUALS["regimes"].items():
        rough = "send_recv, 2 workers on 2 nodes" in name  # through sockets, sends of a size differ by a third
        assert columns["all"][0] <= (0.12 if rough else 0.05), name
        assert columns["all"][1] <= (0.3 if rough else 0.2), name


def test_measured_times_go_on_beyond_what_was_measured() -> None:
    """At a gigabyte no sum is faster than its links, and none takes five times as long."""
    for network in NETWORKS.values():
        for each in (found for found in network.measured if found.collective == "all_reduce" and found.nodes == 1):
            rate = network.pair.rate if each.workers == 2 else network.inside.rate
            least = 2 * (each.workers - 1) / each.workers * 2**30 / rate
            assert least < each.seconds(2**30) < 5 * least, (network.name, each.workers)


def test_what_no_constant_has_seen_is_computed_within_a_half() -> None:
    """Of another cluster, another number of devices, or larger sizes."""
    checked = RESIDUALS["links, checked"]
    assert len(checked) == 8
    assert all(columns["all"][0] <= 0.5 for columns in checked.values())


@needs_data
def test_the_residuals_in_the_file_are_those_of_the_constants_in_it() -> None:
    fitting = script("fit_network")
    written = flat(fitting.network_file(fitting.data_folder(), read("network")))
    assert written == {key: pytest.approx(value, abs=2e-4) for key, value in flat(read("network")).items()}
