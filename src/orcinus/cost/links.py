"""The kinds of links between devices, and how much of their rates collectives reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orcinus.cost.constants import read
from orcinus.errors import ConfigError

SENDS = "its sends"  # what the sums of a kind were derived from that was measured for sends alone
CONSTANTS: dict[str, Any] = read("network")


@dataclass(frozen=True, slots=True)
class Protocol:
    """A way to move bytes over a link; NCCL has one for short messages and one for long ones.

    Raises `ConfigError` for a negative time, or a share outside (0, 1].
    """

    hop: float  # seconds from one device to the next
    share: float  # of the link's rate

    def __post_init__(self) -> None:
        if not _is_number(self.hop) or not _is_number(self.share) or not (self.hop >= 0 and 0 < self.share <= 1):
            raise ConfigError(
                f"a link needs at least 0 seconds a hop, and a share of its rate above 0 and up to 1, "
                f"not {self.hop!r} and {self.share!r}"
            )


@dataclass(frozen=True, slots=True)
class NetworkLink:
    """A link of a device, or of a node's network card. Raises `ConfigError` for a rate that is not positive."""

    kind: str
    rate: float  # bytes a second one way, by its data sheet
    short: Protocol  # of sums: few bytes soon, over one card
    long: Protocol  # of sums: many bytes fast, over all cards
    short_send: Protocol
    long_send: Protocol
    sums_from: str  # the network on which the protocols of sums were fitted; or the file that gives them, or `SENDS`
    sends_from: str

    def __post_init__(self) -> None:
        if not _is_number(self.rate) or not 0 < self.rate < float("inf"):
            raise ConfigError(f"the rate of a link must be a positive number of bytes per second, not {self.rate!r}")


KINDS: Mapping[str, Mapping[str, Any]] = CONSTANTS["links"]


def make_link(kind: str, rate: float, known: Mapping[str, Any] | None = None) -> NetworkLink:
    """A link of this kind, of `KINDS` unless others are `known`. Raises `ConfigError` for an unknown one."""
    constants = (KINDS if known is None else known).get(kind)
    if constants is None:
        raise ConfigError(f"unknown kind of link {kind!r}: choose one of {', '.join(KINDS)}")
    protocols = {name: Protocol(**constants[name]) for name in ("short", "long", "short_send", "long_send")}
    return NetworkLink(kind, rate, **protocols, sums_from=constants["sums_from"], sends_from=constants["sends_from"])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
