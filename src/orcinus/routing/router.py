"""Routers: one a class, and one line in ROUTERS."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from orcinus.errors import ConfigError


class Load(Protocol):
    """An engine's load, as its server can count it."""

    @property
    def outstanding(self) -> int:
        """Requests that have not ended."""
        ...

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens of requests that have no token of their answer yet."""
        ...

    @property
    def answer_tokens(self) -> int:
        """Most tokens that its requests may still generate, by their `max_tokens`."""
        ...


L_contra = TypeVar("L_contra", bound=Load, contravariant=True)


class Router(Protocol[L_contra]):
    """Chooses an engine for each request.

    It sees requests in order of arrival, and every engine's load at that moment.
    """

    def choose(self, prefix: Hashable | None, loads: Sequence[L_contra]) -> int:
        """The index of the engine that serves a request.

        Requests with an equal `prefix` begin alike; None: like no other.
        """
        ...


def _first_least(loads: Sequence[int]) -> int:
    return loads.index(min(loads))


class RoundRobin:
    """Every engine in turn."""

    def __init__(self) -> None:
        self._next = 0

    def choose(self, prefix: Hashable | None, loads: Sequence[Load]) -> int:
        chosen = self._next % len(loads)
        self._next += 1
        return chosen


class LeastOutstanding:
    """The engine with the fewest requests; the first of equals."""

    def choose(self, prefix: Hashable | None, loads: Sequence[Load]) -> int:
        return _first_least([load.outstanding for load in loads])


@dataclass
class LeastWork:
    """The engine with the fewest tokens to compute.

    These are tokens of queued prompts, and those that its requests may still generate. Answer lengths are unknown: by default
    they count as what `max_tokens` leaves, with `answer` as that many tokens per request.
    """

    answer: int | None = None

    def __post_init__(self) -> None:
        if self.answer is not None and self.answer < 0:
            raise ConfigError("answer of the router 'least-work' must be at least 0")

    def choose(self, prefix: Hashable | None, loads: Sequence[Load]) -> int:
        return _first_least([self._tokens(load) for load in loads])

    def _tokens(self, load: Load) -> int:
        return load.queued_tokens + (load.answer_tokens if self.answer is None else self.answer * load.outstanding)


@dataclass
class PrefixAffine:
    """The engine that served this prefix last.

    It may still have the prefix's keys and values. If it has more than `slack` times the average number of requests plus one,
    the engine with the fewest requests becomes the prefix's home. The `remembered` newest prefixes have a home.
    """

    slack: float = 1.5
    remembered: int = 100_000

    def __post_init__(self) -> None:
        if self.slack < 1 or self.remembered < 1:
            raise ConfigError("slack and remembered of the router 'prefix-affine' must be at least 1")
        self._homes: OrderedDict[Hashable, int] = OrderedDict()
        self._spread = LeastOutstanding()

    def choose(self, prefix: Hashable | None, loads: Sequence[Load]) -> int:
        home = None if prefix is None else self._homes.get(prefix)
        most = self.slack * sum(load.outstanding for load in loads) / len(loads) + 1
        if home is None or loads[home].outstanding > most:
            home = self._spread.choose(prefix, loads)
        if prefix is not None:
            self._homes[prefix] = home
            self._homes.move_to_end(prefix)
            if len(self._homes) > self.remembered:
                self._homes.popitem(last=False)
        return home


ROUTERS: dict[str, type[Router[Load]]] = {
    "round-robin": RoundRobin,
    "least-outstanding": LeastOutstanding,
    "least-work": LeastWork,
    "prefix-affine": PrefixAffine,
}
