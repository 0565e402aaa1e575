"""Sums and hand-overs: nothing for one, more for more bytes, as measured where it was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.cost.collectives import all_reduce_seconds, send_recv_seconds
from orcinus.cost.constants import read
from orcinus.cost.devices import NETWORKS, Network, find_network
from orcinus.errors import ConfigError
from tests.cost.measurements import assert_file_agrees_with_itself, needs_data

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
    fastest = max(network.pair, network.inside)
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


def test_residuals_of_collectives_are_small() -> None:
    residuals = read("network")["residuals"]["a100-dgx"]
    assert len(residuals) == 9
    for columns in residuals.values():
        assert columns["all"][0] <= 0.05
        assert columns["all"][1] <= 0.15


@needs_data
def test_the_residuals_in_the_file_are_those_of_the_constants_in_it() -> None:
    assert_file_agrees_with_itself("network")
