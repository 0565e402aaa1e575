"""Fits the constants of networks to published measurements, and checks them on others.

    python benchmarks/fit_network.py [--data ../shared/data] [--check]

Writes src/orcinus/cost/constants/network.json; with --check it only prints the residuals of the constants that are there.
Source: the collectives that Vidur (Agrawal et al., MLSys 2024) publishes of DGX A100 and DGX H100 nodes, and of nodes whose
A100s or A40s are joined in pairs; medians in ms. Measured groups become regimes (latency and rate), by reweighted least
squares. The protocols of each kind of link, with which other groups and networks are computed, are searched by Nelder and
Mead's simplex, on the groups in FITTED alone; CHECKED names those that no constant of the kind has seen.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from fit_costs import CONSTANTS, data_folder, errors, median_of, rows_of, show, simplex

from orcinus.cost.collectives import all_reduce_seconds, send_recv_seconds
from orcinus.cost.links import NetworkLink, make_link
from orcinus.cost.networks import Measured, Network, Regime

GOOD_ENOUGH = 0.125  # a collective gets regimes until the 90th percentile of its errors is below this
GRID, SHORTEST = 40, 12  # where regimes may end, and the least number of points in one
LARGE = 2**20  # bytes: residuals are told apart below and from here
OCTAVES = 2  # parts of an octave of sizes that count alike in a fit, however many sizes were measured in each
FILES = {"a100-dgx": "a100_dgx", "h100-dgx": "h100_dgx", "a100-nc96ads": "a100_pairs", "a40-bridges": "a40_pairs"}
FITTED_UP_TO = 64 * 2**20  # bytes up to which PCIe is fitted; beyond it is checked
MOST_REGIMES = 4
LAST = 0.55  # the last regime, which holds for everything larger, begins at most at this share of the largest size
KEPT = ("a100-dgx",)  # networks whose regimes stay as they are in the file: Orca's constants were fitted over them

Group = tuple[str, str, int, int]  # network, collective, workers, nodes
Points = tuple[Any, Any]  # sizes in bytes, seconds
# Of each kind: what its sums and its sends are fitted on, and what they are checked on.
FITTED: dict[str, tuple[Group, ...]] = {
    "nvlink3": (
        ("a100-dgx", "all_reduce", 2, 1),
        ("a100-dgx", "all_reduce", 4, 1),
        ("a100-dgx", "all_reduce", 8, 1),
        ("a100-dgx", "send_recv", 2, 1),
    ),
    "nvlink4": (("h100-dgx", "all_reduce", 2, 1), ("h100-dgx", "all_reduce", 8, 1), ("h100-dgx", "send_recv", 2, 1)),
    "pcie": (("a100-nc96ads", "all_reduce", 4, 1),),
    "pcie-host": (("a40-bridges", "send_recv", 2, 1),),
    "infiniband": (("a100-dgx", "all_reduce", 2, 2), ("a100-dgx", "all_reduce", 8, 2), ("h100-dgx", "send_recv", 2, 2)),
    "ethernet": (("a40-bridges", "send_recv", 2, 2),),
}
CHECKED: dict[str, tuple[Group, ...]] = {
    "nvlink3": (("a100-nc96ads", "all_reduce", 2, 1), ("a100-nc96ads", "send_recv", 2, 1)),
    "nvlink4": (("h100-dgx", "all_reduce", 4, 1),),
    "pcie": (("a100-nc96ads", "all_reduce", 4, 1),),
    "pcie-host": (),
    "infiniband": (("a100-dgx", "all_reduce", 4, 2), ("a100-dgx", "all_reduce", 16, 2), ("a100-dgx", "send_recv", 2, 2)),
    "ethernet": (("a100-nc96ads", "send_recv", 2, 2),),
}


def measured_collectives(folder: Path) -> dict[Group, Points]:
    """Sizes in bytes and seconds of every group. The profile's `size` counts bytes: as 16-bit elements, two devices would
    exchange 460 GB/s over links of 300."""
    found: dict[Group, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for network, name in FILES.items():
        for collective in ("all_reduce", "send_recv"):
            file = folder / f"network/{name}_{collective}.csv"
            for row in rows_of(file) if file.is_file() else ():
                workers = int(row["num_workers"])
                group = (network, collective, workers, workers // int(row["devices_per_node"]))
                found[group][int(row["size"])].append(median_of(row, collective))
    return {
        group: (np.array(sorted(times)), np.array([float(np.mean(times[size])) for size in sorted(times)]))
        for group, times in sorted(found.items())
    }


# ---- regimes of measured groups ----


def line(sizes: Any, times: Any, counts: Any) -> tuple[float, float]:
    """Latency and rate with small logarithmic errors, by reweighted least squares; each point has a weight in `counts`.

    Of two modes (kernels that begin together, or not) relative errors would prefer the fast one, however rare it is.
    """
    weights = np.sqrt(counts) / times
    for _ in range(20):
        share = weights**2 / (weights**2).sum()
        middle, mean = share @ sizes, share @ times
        slope = (share * (sizes - middle)) @ (times - mean) / ((share * (sizes - middle)) @ (sizes - middle))
        latency = mean - slope * middle
        fitted = np.maximum(latency + slope * sizes, 0.01 * times)
        off = np.maximum(np.abs(np.log(fitted / times)), 1e-3)
        weights = np.sqrt(counts * off) / np.maximum(np.abs(fitted - times), 1e-3 * times)
    return float(f"{max(latency, 0.0):.4g}"), float(f"{1 / max(slope, 1e-15):.4g}")


def predicted(regimes: Sequence[Regime], sizes: Any) -> list[float]:
    measured = Measured("all_reduce", 2, 1, tuple(regimes), "")
    return [measured.seconds(size) for size in sizes]


def octaves(sizes: Any) -> Any:
    """Weights with which every part of an octave counts alike, however many sizes were measured in it."""
    parts = np.floor(np.log2(sizes) * OCTAVES).astype(int)
    return 1 / np.bincount(parts)[parts]


def high(off: Any, counts: Any) -> float:
    """The 90th percentile of weighted errors."""
    order = np.argsort(off)
    return float(off[order][np.searchsorted(np.cumsum(counts[order]), 0.9 * counts.sum())])


def fit_regimes(sizes: Any, times: Any, counts: Any) -> list[Regime]:
    """The fewest regimes that are good enough, by dynamic programming."""
    ends = np.unique(np.round(np.concatenate([np.linspace(0, len(sizes), GRID), np.linspace(0, len(sizes) * 0.15, 12)])))
    spans: dict[tuple[int, int], tuple[float, Regime]] = {}
    for end in map(int, ends):
        for begin in (int(other) for other in ends if other + SHORTEST <= end):
            part, taken = sizes[begin:end], times[begin:end]
            if end == len(sizes) and part[0] > LAST * part[-1]:
                continue
            regime = Regime(float(part[-1]), *line(part, taken, counts[begin:end]))
            off = np.abs(np.log((regime.latency + part / regime.rate) / taken))
            spans[begin, end] = float((counts[begin:end] * off).sum()), regime
    best: dict[int, tuple[float, list[Regime]]] = {0: (0.0, [])}
    for _ in range(MOST_REGIMES):
        longer: dict[int, tuple[float, list[Regime]]] = {}
        for (begin, end), (missed, regime) in spans.items():
            if begin in best and best[begin][0] + missed < longer.get(end, (math.inf,))[0]:
                longer[end] = (best[begin][0] + missed, [*best[begin][1], regime])
        best = longer
        regimes = best[len(sizes)][1]
        if high(np.abs(np.log(predicted(regimes, sizes) / times)), counts) <= GOOD_ENOUGH:
            break
    return regimes


# ---- protocols of links ----


def badness(points: Points, seconds: Callable[[float], float]) -> float:
    """Mean absolute logarithmic error, every part of an octave counting alike."""
    sizes, times = points
    counts = octaves(sizes)
    off = np.abs(np.log([seconds(size) for size in sizes] / times))
    return float(counts @ off / counts.sum())


def thinned(points: Points) -> Points:
    """Every measured size below a megabyte, and about twenty to an octave above: a search needs no more."""
    sizes, times = points
    step = np.maximum(1, (np.arange(len(sizes)) // 64) * 2)
    chosen = [place for place in range(len(sizes)) if place % step[place] == 0]
    return sizes[chosen], times[chosen]


def alone(network: str, node_size: int, link: NetworkLink, between: NetworkLink, cards: int, skew: float) -> Network:
    """A network of one kind of link inside, with nothing measured."""
    return Network(network, node_size, link, link, between, cards, skew)


def computed(network: Network, group: Group) -> Callable[[float], float]:
    """Seconds of a group by the links alone."""
    _, collective, workers, nodes = group
    if collective == "send_recv":
        return lambda size: send_recv_seconds(network, size, across=nodes == 2)
    return lambda size: all_reduce_seconds(network, size, workers, nodes)


def protocol(hop: float, share: float) -> dict[str, float]:
    return {"hop": float(f"{hop:.4g}"), "share": min(float(f"{share:.4g}"), 1.0)}


class Fit:
    """The search: constants of links and skews of networks, one kind after the other."""

    def __init__(self, points: dict[Group, Points]) -> None:
        self.points = points
        self.links: dict[str, dict[str, Any]] = {}
        self.skew: dict[str, float] = {}

    def search(
        self, groups: Sequence[Group], network: Callable[[Sequence[float]], Network], start: Sequence[float]
    ) -> list[float]:
        few = {group: thinned(self.points[group]) for group in groups}

        def off(numbers: Sequence[float]) -> float:
            try:
                tried = network(numbers)
            except ValueError:  # a share above 1
                return math.inf
            return sum(badness(points, computed(tried, group)) for group, points in few.items())

        return simplex(off, simplex(off, start, steps=150), steps=100)

    def kind(self, name: str, sums: Sequence[float], sends: Sequence[float], sums_from: str, sends_from: str) -> None:
        """Keeps a kind; `sums` and `sends` are the hop and the share of one protocol, or of the short and of the long one."""
        named = (("short", sums[:2]), ("long", sums[-2:]), ("short_send", sends[:2]), ("long_send", sends[-2:]))
        self.links[name] = {key: protocol(*numbers) for key, numbers in named}
        self.links[name] |= {"sums_from": sums_from, "sends_from": sends_from}

    def made(self, name: str, rate: float, sums: Sequence[float], sends: Sequence[float] = (1e-5, 0.5)) -> NetworkLink:
        self.kind(name, sums, sends, "", "")
        return make_link(name, rate, self.links)

    def run(self) -> None:
        other = make_link("ethernet", 12.5e9, {"ethernet": FILLER})
        for name, network, rate, start in (
            ("nvlink3", "a100-dgx", 300e9, [1.8e-6, 0.43, 1e-5, 0.6]),
            ("nvlink4", "h100-dgx", 450e9, [1e-6, 0.7]),
        ):
            groups = FITTED[name]

            def inside(numbers: Sequence[float], name: str = name, network: str = network, rate: float = rate) -> Network:
                return alone(network, 8, self.made(name, rate, numbers[:-1]), other, 1, numbers[-1])

            *sums, self.skew[network] = self.search(groups[:-1], inside, [*start, 4e-5])
            sends = self.search(
                groups[-1:],
                lambda numbers, name=name, network=network, rate=rate: alone(
                    network, 8, self.made(name, rate, (0, 1), numbers), other, 1, 0.0
                ),
                [1e-5, 0.8],
            )
            self.kind(name, sums, sends, network, network)
        self.pcie(other)
        self.infiniband()
        self.ethernet(other)

    def pcie(self, other: NetworkLink) -> None:
        (group,) = FITTED["pcie"]
        sizes, times = self.points[group]
        self.points = self.points | {group: (sizes[sizes < FITTED_UP_TO], times[sizes < FITTED_UP_TO])}
        *sums, self.skew[group[0]] = self.search(
            [group],
            lambda numbers: alone(group[0], 4, self.made("pcie", 31.5e9, numbers[:2]), other, 1, numbers[2]),
            [7e-6, 0.75, 6e-5],
        )
        self.points = self.points | {group: (sizes, times)}
        latency = self.links["nvlink3"]["long_send"]["hop"]  # of a send through a mapped memory, over whatever link
        self.kind("pcie", sums, (latency, sums[-1]), group[0], "its sums")
        sends = self.search(
            FITTED["pcie-host"],
            lambda numbers: alone("a40-bridges", 8, self.made("pcie-host", 31.5e9, (0, 1), numbers), other, 1, 0.0),
            [4e-6, 0.13],
        )
        self.kind("pcie-host", (sums[0], sends[1]), sends, "its sends", "a40-bridges")

    def infiniband(self) -> None:
        *groups, sends = FITTED["infiniband"]
        inside = make_link("nvlink3", 300e9, self.links)
        found = self.search(
            groups,
            lambda numbers: alone("a100-dgx", 8, inside, self.made("infiniband", 7.8e9, numbers), 4, self.skew["a100-dgx"]),
            [1e-5, 0.31, 3.6e-5, 0.76],
        )
        sent = self.search(
            [sends],
            lambda numbers: alone("h100-dgx", 8, inside, self.made("infiniband", 50e9, (0, 1), numbers), 8, 0.0),
            [2e-5, 0.7],
        )
        self.kind("infiniband", found, sent, "a100-dgx", "h100-dgx")

    def ethernet(self, other: NetworkLink) -> None:
        """Sockets: sends are measured. Sums reach the part of them that they reach over InfiniBand."""
        sends = self.search(
            FITTED["ethernet"],
            lambda numbers: alone("a40-bridges", 8, other, self.made("ethernet", 12.5e9, (0, 1), numbers), 1, 0.0),
            [2e-5, 0.09, 8e-5, 0.21],
        )
        short, long = (self.links["infiniband"][name]["share"] for name in ("short", "long"))
        self.kind("ethernet", (sends[0], sends[3] * short, sends[2], sends[3] * long), sends, "its sends", "a40-bridges")


FILLER = {name: {"hop": 1e-5, "share": 0.5} for name in ("short", "long", "short_send", "long_send")}
FILLER |= {"sums_from": "", "sends_from": ""}  # type: ignore[dict-item]


def link_network(group: Group, constants: dict[str, Any]) -> Network:
    """The network of a group, as it is known, with the constants given and nothing measured."""
    from orcinus.cost.networks import NETWORKS

    known = NETWORKS[group[0]]
    links = {
        place: make_link(link.kind, link.rate, constants["links"])
        for place, link in (("inside", known.inside), ("pair", known.pair), ("between", known.between))
    }
    return replace(known, measured=(), skew=constants["skew"].get(group[0], known.skew), **links)


def named(group: Group) -> str:
    network, collective, workers, nodes = group
    return f"{network}, {collective}, {workers} workers on {nodes} node{'s' * (nodes > 1)}"


def told_apart(points: Points, seconds: Callable[[float], float]) -> dict[str, list[float]]:
    """Errors over all sizes, below a megabyte, and above."""
    sizes, times = points
    computed_times = np.array([seconds(size) for size in sizes])
    parts = {"all": sizes > 0, "small": sizes < LARGE, "large": sizes >= LARGE}
    return {name: errors(zip(times[part], computed_times[part], strict=True)) for name, part in parts.items() if part.any()}


def residuals(points: dict[Group, Points], constants: dict[str, Any]) -> dict[str, Any]:
    """Errors of regimes, and of links on what they were fitted on and on what they were not."""
    found: dict[str, Any] = {"regimes": {}, "links, fitted": {}, "links, checked": {}}
    for network, profile in constants["measured"].items():
        for each in profile:
            group = (network, each["collective"], each["workers"], each["nodes"])
            regimes = Measured(*group[1:], tuple(Regime(**one) for one in each["regimes"]), network)
            found["regimes"][named(group)] = told_apart(points[group], regimes.seconds)
    for name, table in (("links, fitted", FITTED), ("links, checked", CHECKED)):
        for kind, groups in table.items():
            for group in groups:
                sizes, times = points[group]
                if kind == "pcie":
                    part = sizes < FITTED_UP_TO if table is FITTED else sizes >= FITTED_UP_TO
                    sizes, times = sizes[part], times[part]
                seconds = computed(link_network(group, constants), group)
                found[name][f"{kind}: {named(group)}"] = told_apart((sizes, times), seconds)
    return found


def network_file(folder: Path, found: dict[str, Any] | None = None) -> dict[str, Any]:
    """The contents of network.json, fitted anew or with the constants given."""
    points = measured_collectives(folder)
    if found is None:
        fit = Fit(points)
        fit.run()
        profiles: dict[str, list[dict[str, Any]]] = defaultdict(list)
        there = json.loads((CONSTANTS / "network.json").read_text(encoding="utf-8"))["measured"]
        profiles |= {network: there[network] for network in KEPT}
        for (network, collective, workers, nodes), group in points.items():
            if network not in KEPT:
                regimes = [asdict(each) for each in fit_regimes(*group, octaves(group[0]))]
                profiles[network].append({"collective": collective, "workers": workers, "nodes": nodes, "regimes": regimes})
        found = {"skew": fit.skew, "links": fit.links, "measured": dict(profiles)}
    constants = {name: found[name] for name in ("skew", "links", "measured")}
    names = {kind: [named(group) for group in groups] for kind, groups in FITTED.items()}
    return {"fitted_on": names, **constants, "residuals": residuals(points, constants)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder with network/")
    parser.add_argument("--check", action="store_true", help="print residuals, write nothing")
    options = parser.parse_args()
    file = CONSTANTS / "network.json"
    fitted = network_file(data_folder(options.data), json.loads(file.read_text(encoding="utf-8")) if options.check else None)
    if not options.check:
        file.write_text(json.dumps(fitted, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: fitted[name] for name in ("skew", "links")}, indent=1))
    show(fitted["residuals"], width=62)


if __name__ == "__main__":
    main()
