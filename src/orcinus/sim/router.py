"""Which replica serves a request. One router a class, and one line in ROUTERS."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orcinus.core.component_spec import make
from orcinus.errors import ConfigError
from orcinus.sim.replica import Replica
from orcinus.workload.arrival import Arrival


class Router(Protocol):
    """Sees requests in order of arrival, and the replicas as they are at that moment."""

    def choose(self, arrival: Arrival, replicas: Sequence[Replica]) -> Replica: ...


class RoundRobin:
    """Everyone in turn, whatever they are doing."""

    def __init__(self) -> None:
        self._next = 0

    def choose(self, arrival: Arrival, replicas: Sequence[Replica]) -> Replica:
        chosen = replicas[self._next % len(replicas)]
        self._next += 1
        return chosen


class LeastOutstanding:
    """The replica with the fewest requests that are not done; the first of them if there are several."""

    def choose(self, arrival: Arrival, replicas: Sequence[Replica]) -> Replica:
        return min(replicas, key=lambda replica: len(replica.left))


class LeastWork:
    """The replica with the fewest tokens, prompts and answers, of requests that are not done.

    It knows how long answers will become, which only a simulation does: a bound for what better routing could gain.
    """

    def choose(self, arrival: Arrival, replicas: Sequence[Replica]) -> Replica:
        return min(replicas, key=lambda replica: replica.work)


@dataclass
class PrefixAffine:
    """The replica that served this prefix last, so that it may still have its keys and values.

    Unless it has `slack` times as many requests as the average and one more: then the one with the fewest, which is the
    prefix's home from then on. The `remembered` newest prefixes have a home.
    """

    slack: float = 1.5
    remembered: int = 100_000

    def __post_init__(self) -> None:
        if self.slack < 1 or self.remembered < 1:
            raise ConfigError("slack and remembered of the router 'prefix-affine' must be at least 1")
        self._homes: OrderedDict[str | int, Replica] = OrderedDict()
        self._spread = LeastOutstanding()

    def choose(self, arrival: Arrival, replicas: Sequence[Replica]) -> Replica:
        prefix = arrival.blocks[0] if arrival.blocks else arrival.prefix
        home = self._homes.get(prefix) if prefix != "" else None
        most = self.slack * sum(replica.outstanding for replica in replicas) / len(replicas) + 1
        if home is None or home.outstanding > most:
            home = self._spread.choose(arrival, replicas)
        if prefix != "":
            self._homes[prefix] = home
            self._homes.move_to_end(prefix)
            if len(self._homes) > self.remembered:
                self._homes.popitem(last=False)
        return home


ROUTERS: dict[str, type[Router]] = {
    "round-robin": RoundRobin,
    "least-outstanding": LeastOutstanding,
    "least-work": LeastWork,
    "prefix-affine": PrefixAffine,
}


def make_router(spelled: str) -> Router:
    """The router that `name` or `name:option=value` stands for. Raises `ConfigError` saying what there is."""
    return make("router", ROUTERS, spelled)
