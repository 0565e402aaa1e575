"""Finds a network by its name, or reads one of one's own from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orcinus.cost.links import KINDS, NetworkLink, Protocol, make_link
from orcinus.cost.networks import NETWORKS, Measured, Network, interpolated
from orcinus.cost.own_file import find_base, only_fields
from orcinus.errors import ConfigError

KIND, VERSION = "orcinus network", 1
LINKS = ("inside", "pair", "between")
FIELDS = ("kind", "version", "name", "like", "node_size", *LINKS, "cards", "skew", "measured")
OF_A_LINK = ("link", "rate", "short", "long", "short_send", "long_send")
OF_A_MEASUREMENT = ("collective", "workers", "nodes", "points")
MOST_POINTS = 100_000


def find_network(name: str) -> Network:
    """The network of this name, or in this .json file.

    Raises `ConfigError` that lists the names if there is none.
    """
    if name.endswith(".json"):
        return read_network(Path(name))
    try:
        return NETWORKS[name.lower()]
    except KeyError:
        raise ConfigError(f"unknown network {name!r}: choose one of {', '.join(NETWORKS)}, or give a .json file") from None


def read_network(path: Path) -> Network:
    """The network in a file.

    Raises `ConfigError` if it holds none, with the field that is wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the network {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is no JSON file, and so no network: docs/simulator.md shows one") from None
    if not isinstance(content, dict) or (content.get("kind"), content.get("version")) != (KIND, VERSION):
        raise ConfigError(f'{path} is no network: it begins with {{"kind": "{KIND}", "version": {VERSION}, …')
    try:
        return _network(content, path)
    except ConfigError as error:
        raise ConfigError(f"the network {path}: {error}") from None


def _network(content: Mapping[str, Any], path: Path) -> Network:
    only_fields(content, FIELDS, "a network")
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not name or name in NETWORKS:
        raise ConfigError(f"its name must be a text, and none of the known networks, not {name!r}")
    base = find_base(content, NETWORKS)
    links: dict[str, Any] = {each: _link(content[each], each, name) for each in LINKS if each in content}
    if "inside" in links:
        links.setdefault("pair", links["inside"])
    kept: tuple[Measured, ...] = ()
    if base is None:
        missing = [each for each in ("node_size", "inside", "between", "cards") if each not in content]
        if missing:
            raise ConfigError(f"give {', '.join(missing)}, or name a known network that it is like")
        base = Network(name, 1, links["inside"], links["pair"], links["between"], 1, NETWORKS["pcie"].skew)  # sizes follow
    else:
        within, beyond = {"inside", "pair", "skew"} & content.keys(), {"inside", "between", "cards", "skew"} & content.keys()
        kept = tuple(each for each in base.measured if not (within if each.nodes == 1 else beyond))
    sizes = {each: content[each] for each in ("node_size", "cards", "skew") if each in content}
    network = replace(base, name=name, **links, **sizes, measured=kept)
    own = tuple(_measured(each, network) for each in _list(content.get("measured", []), "measured"))
    return replace(network, measured=own + kept)


def _link(content: object, place: str, source: str) -> NetworkLink:
    """A link of a known kind, whose protocols the file may give."""
    if not isinstance(content, dict):
        raise ConfigError(f'`{place}` must be like {{"link": "ethernet", "rate": 12.5e9}}, not {content!r}')
    only_fields(content, OF_A_LINK, f"`{place}`")
    if "rate" not in content or not isinstance(content.get("link"), str):
        raise ConfigError(f"`{place}` needs a link ({', '.join(KINDS)}) and a rate in bytes per second, one way")
    link = make_link(content["link"], content["rate"])
    for name in (each for each in OF_A_LINK[2:] if each in content):
        given = content[name]
        if not isinstance(given, dict) or set(given) != {"hop", "share"}:
            raise ConfigError(f'`{name}` of `{place}` must be like {{"hop": 2e-05, "share": 0.8}}, not {given!r}')
        changed: dict[str, Any] = {name: Protocol(**given), "sends_from" if name.endswith("send") else "sums_from": source}
        link = replace(link, **changed)
    return link


def _measured(content: object, network: Network) -> Measured:
    """A measured collective: its points (bytes, seconds) are joined by straight lines."""
    if not isinstance(content, dict) or set(content) != set(OF_A_MEASUREMENT):
        raise ConfigError(f"each of `measured` needs {', '.join(OF_A_MEASUREMENT)} and nothing else")
    collective, workers, nodes = (content[name] for name in OF_A_MEASUREMENT[:3])
    if collective not in ("all_reduce", "send_recv"):
        raise ConfigError(f"a measured collective is all_reduce or send_recv, not {collective!r}")
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (workers, nodes))
    if not whole or not (workers >= 2 and 1 <= nodes <= workers <= nodes * network.node_size):
        raise ConfigError(f"{workers!r} workers on {nodes!r} nodes of {network.node_size} devices were never measured")
    if collective == "send_recv" and (workers != 2 or nodes > 2):
        raise ConfigError("a measured send_recv has 2 workers, on 1 node or on 2")
    points = _list(content["points"], "points")
    if not 1 <= len(points) <= MOST_POINTS or not all(_is_point(each) for each in points):
        raise ConfigError("`points` are pairs of bytes and seconds, both above 0, such as [[1024, 2e-05], [1048576, 6e-05]]")
    pairs = [(float(size), float(seconds)) for size, seconds in points]
    if any(after[0] <= before[0] for before, after in zip(pairs, pairs[1:], strict=False)):
        raise ConfigError("the bytes of `points` must grow")
    return Measured(collective, workers, nodes, interpolated(pairs), network.name)


def _is_point(point: object) -> bool:
    if not isinstance(point, list) or len(point) != 2:
        return False
    return all(isinstance(each, (int, float)) and not isinstance(each, bool) and 0 < each < 1e18 for each in point)


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"`{name}` must be a list, not {value!r}")
    return value
