"""The options of a simulated server."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from orcinus.config import option
from orcinus.errors import ConfigError
from orcinus.sim.config import SimulationConfig

WORKLOAD = (  # clients decide these
    *("arrivals", "lengths", "requests", "max_total", "max_tokens"),
    *("tokenizer", "reject_bad_rows", "seeds", "price"),
)
SERVERS = ("replicas", "router")  # the server says these


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveConfig(SimulationConfig):
    """The options of a simulated replica that serves real clients.

    Fields and defaults are those of simulations, without the workload's. Raises `ConfigError` for values that are never valid;
    checks that depend on other fields come when it is built.
    """

    speed: float = option(1.0, "How fast simulated time passes: 10 = ten times as fast as real time.")
    answer_lengths: str = option(
        "sharegpt",
        "Lengths of answers to requests without max_tokens: a preset such as sharegpt, or a distribution such as "
        "fixed:tokens=100, lognormal:median=200:p90=600.",
    )

    def __post_init__(self) -> None:
        SimulationConfig.__post_init__(self)
        if not (self.speed > 0 and math.isfinite(self.speed)):
            raise ConfigError(f"speed must be a number above 0, not {self.speed!r}")
        for names, why in ((WORKLOAD, "its clients decide what comes when"), (SERVERS, "it is one of the server's replicas")):
            for name in names:
                if getattr(self, name) != SimulationConfig.__dataclass_fields__[name].default:
                    raise ConfigError(f"{name} has no place in a simulated engine that serves: {why}")

    @classmethod
    def options(cls) -> list[str]:
        """The names of the fields that a server uses."""
        return [f.name for f in fields(cls) if f.name not in WORKLOAD + SERVERS]
