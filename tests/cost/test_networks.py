"""The table of networks, and networks of one's own: what a file may say, and how a wrong one is answered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orcinus.cost.collectives import all_reduce_seconds, send_recv_seconds
from orcinus.cost.network_file import find_network
from orcinus.cost.networks import NETWORKS, USUAL_NETWORKS, interpolated
from orcinus.errors import ConfigError

ETHERNET = {"link": "ethernet", "rate": 12.5e9}
WHOLE = {"node_size": 2, "inside": {"link": "pcie", "rate": 31.5e9}, "between": ETHERNET, "cards": 1}
POINTS = {"collective": "all_reduce", "workers": 2, "nodes": 1, "points": [[1024, 2e-5], [1048576, 1e-4]]}


def write(folder: Path, **content: Any) -> str:
    file = folder / "mine.json"
    file.write_text(json.dumps({"kind": "orcinus network", "version": 1} | content))
    return str(file)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_found_whatever_the_case(name: str) -> None:
    assert find_network(name.upper()) is NETWORKS[name]
    assert NETWORKS[name].name == name


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    assert set(USUAL_NETWORKS.values()) <= NETWORKS.keys()
    with pytest.raises(ConfigError, match="unknown network 'token-ring': choose one of a100-dgx, .* or give a .json file"):
        find_network("token-ring")


def test_networks_are_values() -> None:
    network = find_network("a100-dgx")
    assert replace(network) == network
    assert hash(replace(network)) == hash(network)


def test_a_network_like_another_takes_as_long_as_it(tmp_path: Path) -> None:
    mine, known = find_network(write(tmp_path, like="h100-dgx")), find_network("h100-dgx")
    assert (mine.name, replace(mine, name="h100-dgx")) == ("mine", known)


def test_a_changed_link_counts_instead_of_what_was_measured_over_the_old_one(tmp_path: Path) -> None:
    known = find_network("a100-dgx")
    mine = find_network(write(tmp_path, like="a100-dgx", between=ETHERNET, cards=1))
    size = 2.0**24
    assert all_reduce_seconds(mine, size, 8) == all_reduce_seconds(known, size, 8)
    assert all_reduce_seconds(mine, size, 16) > 5 * all_reduce_seconds(known, size, 16)
    assert send_recv_seconds(mine, size) > 2 * send_recv_seconds(known, size)


def test_twice_the_rate_halves_what_a_large_sum_takes(tmp_path: Path) -> None:
    slow = find_network(write(tmp_path, **WHOLE))
    fast = find_network(write(tmp_path, **WHOLE | {"inside": {"link": "pcie", "rate": 63e9}}))
    size = 2.0**30
    assert all_reduce_seconds(slow, size, 2) == pytest.approx(2 * all_reduce_seconds(fast, size, 2), rel=0.01)
    assert all_reduce_seconds(slow, 1, 2) == all_reduce_seconds(fast, 1, 2) == slow.skew


def test_measured_points_are_joined_by_lines(tmp_path: Path) -> None:
    mine = find_network(write(tmp_path, **WHOLE, measured=[POINTS]))
    times = [all_reduce_seconds(mine, size, 2) for size in (1, 1024, (1024 + 2**20) / 2, 2**20, 2**21)]
    assert times == pytest.approx([2e-5, 2e-5, 6e-5, 1e-4, 1e-4 + 8e-5 * 1024 / 1023])


def test_points_that_fall_are_no_rate_beyond_the_last() -> None:
    *_, last = interpolated([(1.0, 2.0), (2.0, 1.0)])
    assert last.latency + 4 / last.rate == 2.0
    (only, beyond) = interpolated([(8.0, 2.0)])
    assert (only.latency + 4 / only.rate, beyond.latency + 16 / beyond.rate) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kind": "network"}, "is no network: it begins with"),
        ({"like": "token-ring"}, "`like` must be one of a100-dgx, "),
        ({}, "give node_size, inside, between, cards, or name a known network"),
        (WHOLE | {"latency": 1}, "a network has no field 'latency': it has kind, "),
        (WHOLE | {"name": "pcie"}, "none of the known networks, not 'pcie'"),
        (WHOLE | {"node_size": 0}, "node_size of the network 'mine' must be a whole number of at least 1, not 0"),
        (WHOLE | {"cards": True}, "cards of the network 'mine' must be a whole number of at least 1, not True"),
        (WHOLE | {"skew": -1}, "skew of the network 'mine' must be at least 0 seconds, not -1"),
        (WHOLE | {"inside": 5}, "`inside` must be like .* not 5"),
        (WHOLE | {"inside": {"rate": 5}}, r"`inside` needs a link \(nvlink3, .*\) and a rate"),
        (WHOLE | {"inside": {"link": "rope", "rate": 5}}, "unknown kind of link 'rope': choose one of nvlink3, "),
        (WHOLE | {"inside": ETHERNET | {"rate": 0}}, "the rate of a link must be a positive number of bytes per second, not 0"),
        (WHOLE | {"inside": ETHERNET | {"rate": "fast"}}, "must be a positive number of bytes per second, not 'fast'"),
        (WHOLE | {"inside": ETHERNET | {"mtu": 9000}}, "`inside` has no field 'mtu'"),
        (WHOLE | {"inside": ETHERNET | {"long": {"hop": 1}}}, "`long` of `inside` must be like"),
        (
            WHOLE | {"inside": ETHERNET | {"long": {"hop": 1, "share": 2}}},
            "a share of its rate above 0 and up to 1, not 1 and 2",
        ),
        (WHOLE | {"measured": [{}]}, "each of `measured` needs collective, workers, nodes, points and nothing else"),
        (WHOLE | {"measured": 1}, "`measured` must be a list, not 1"),
        (WHOLE | {"measured": [POINTS | {"collective": "gather"}]}, "is all_reduce or send_recv, not 'gather'"),
        (WHOLE | {"measured": [POINTS | {"workers": 3}]}, "3 workers on 1 nodes of 2 devices were never measured"),
        (WHOLE | {"measured": [POINTS | {"points": [[1, 0]]}]}, "`points` are pairs of bytes and seconds, both above 0"),
        (WHOLE | {"measured": [POINTS | {"points": [[2, 1], [1, 1]]}]}, "the bytes of `points` must grow"),
    ],
)
def test_a_wrong_file_is_answered_with_what_is_wrong(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as told:
        find_network(write(tmp_path, **content))
    assert "\n" not in str(told.value)
    assert "mine.json" in str(told.value)


def test_what_is_no_json_or_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ConfigError, match="text.json is no JSON file, and so no network"):
        find_network(str(tmp_path / "text.json"))
    with pytest.raises(ConfigError, match="cannot read the network .*gone.json: No such file"):
        find_network(str(tmp_path / "gone.json"))


def test_the_example_in_the_documentation_is_a_network(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/simulator.md").read_text()
    (example,) = (block for block in text.split("```json\n")[1:] if "orcinus network" in block)
    (tmp_path / "rack.json").write_text(example.partition("```")[0])
    rack = find_network(str(tmp_path / "rack.json"))
    assert (rack.name, rack.node_size, rack.cards) == ("rack", 4, 2)
    assert all_reduce_seconds(rack, 2**20, 4) == pytest.approx(1.24e-4)
