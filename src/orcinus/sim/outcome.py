"""A resolved config and the outcome of its simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orcinus.core.component_spec import make_policy
from orcinus.observe.distribution import Distribution
from orcinus.observe.interval import Interval
from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.config import SimulationConfig
from orcinus.sim.machine import SimulatedMachine


@dataclass(frozen=True, slots=True)
class Setup:
    """A config, and the machine that it resolves to."""

    config: SimulationConfig
    machine: SimulatedMachine


@dataclass(frozen=True, slots=True)
class SimulationOutcome:
    """The outcome of a simulation, in simulated seconds.

    `wall_seconds` are real ones. With several seeds the fields are those of the first seed; `runs` has all outcomes, and
    `intervals` the medians over them.
    """

    setup: Setup
    metrics: MetricsObserver
    kv_shares: dict[str, float]  # shares of K/V memory by kind
    stage_busy: list[float]  # share of time that each pipeline stage was busy, over all replicas
    bubbles: Distribution  # seconds of pipeline bubbles per request
    bubble_share: float  # share of all stages' time while a batch was in flight
    preemptions: int
    wall_seconds: float
    prefix_hit_rate: float | None = None  # prefix hit rate over tokens of admitted requests
    ended_early: bool = False  # `over` ended it before every request was served
    at_once: bool = False  # all requests arrived at the start
    notes: tuple[str, ...] = ()  # notes on requests from a file
    runs: tuple[SimulationOutcome, ...] = ()  # one for each seed, if there were several
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # metric, as `ttft.p99` -> its median over seeds

    @property
    def cost_per_million(self) -> float | None:
        """Price of a million output tokens: all devices, from first to last iteration; None without a price."""
        config, tokens = self.setup.config, self.metrics.output_tokens
        if config.price is None or not tokens:
            return None
        hours = config.replicas * self.setup.machine.devices * self.metrics.span / 3600
        return config.price * hours / tokens * 1e6

    @property
    def budget(self) -> int | None:
        """The policy's token budget per iteration; None without one."""
        policy = make_policy(self.setup.config.policy)
        found: int | None = getattr(policy, "token_budget", getattr(policy, "chunk_size", None))
        return found
