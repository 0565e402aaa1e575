"""From a config to the outcome of a simulation. The only module of `sim` that knows every concrete class."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Observer
from orcinus.core.request import Request
from orcinus.core.spelled import make_order, make_policy
from orcinus.core.view import Limits
from orcinus.cost.architecture import Architecture, Parallel, find_architecture
from orcinus.cost.cluster import Cluster, find_cluster
from orcinus.cost.curve import find_linears
from orcinus.cost.memory import MemoryPlan, plan_memory
from orcinus.cost.transformer import TransformerCost
from orcinus.cost.work import CostModel
from orcinus.errors import ConfigError
from orcinus.observe.distribution import Distribution
from orcinus.observe.kv_use import KVUseObserver
from orcinus.observe.metrics import MetricsObserver, Served
from orcinus.observe.recorder import StepRecorder
from orcinus.sim.bubbles import BubbleObserver
from orcinus.sim.clock import VirtualClock
from orcinus.sim.config import SimulationConfig
from orcinus.sim.replica import Replica
from orcinus.sim.router import make_router
from orcinus.sim.simulation import Simulation, source_of
from orcinus.workload.workload import Workload, make_workload


@dataclass(frozen=True, slots=True)
class Setup:
    """What a config comes to: all that is decided before the first request."""

    config: SimulationConfig
    model: Architecture
    cluster: Cluster
    cost: CostModel
    memory: MemoryPlan
    limits: Limits
    num_blocks: int

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values one replica holds (Orca's n_slots)."""
        return self.num_blocks * self.config.block_size


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened in a simulation. Seconds are simulated ones, but for `wall_seconds`."""

    setup: Setup
    metrics: MetricsObserver
    kv_shares: dict[str, float]  # of K/V memory, by what it was used for
    stage_busy: list[float]  # share of the time that each pipeline stage worked, over all replicas
    bubbles: Distribution  # seconds of pipeline bubbles per request
    bubble_share: float  # of all stages' time while something was in flight
    preemptions: int
    wall_seconds: float
    ended_early: bool = False  # before every request was served, because `over` said so


def set_up(config: SimulationConfig) -> Setup:
    """Decide everything, and simulate nothing. Raises `ConfigError` if the model does not fit or cannot be cut so."""
    model = find_architecture(config.model)
    cluster = find_cluster(config.device, config.network, config.software, Parallel(config.tp, config.pp))
    longest = config.max_model_len or model.max_model_len
    most_tokens = config.max_batch_tokens or config.max_batch_size * longest
    limits = Limits(config.max_batch_size, most_tokens, longest)
    at_once = config.max_batch_tokens or longest  # tokens whose activations are in memory together
    memory = plan_memory(model, cluster.device, cluster.parallel, at_once, config.max_batch_size, config.gpu_memory_utilization)
    num_blocks = config.num_blocks or memory.kv_tokens // config.block_size
    if num_blocks < 1:
        raise ConfigError(f"not one K/V block of {config.block_size} tokens fits: lower block_size or raise tp or pp")
    make_policy(config.policy), make_order(config.order)  # misspelled ones are reported now
    if config.kv not in KV_MANAGERS:
        raise ConfigError(f"unknown K/V manager {config.kv!r}: choose {', '.join(KV_MANAGERS)}")
    linears = find_linears(config.software, model.name, cluster.device.name, config.tp)
    return Setup(config, model, cluster, TransformerCost(model, cluster, linears), memory, limits, num_blocks)


def workload_of(config: SimulationConfig) -> Workload:
    """The requests that a config asks for. Raises `ConfigError`."""
    arrivals = None if config.arrivals == "trace" else config.arrivals
    return make_workload(arrivals, config.lengths, config.requests, config.seed, config.max_total)


def simulate(
    config: SimulationConfig,
    *,
    on_served: Callable[[Served], None] | None = None,
    watch: Callable[[int], None] | None = None,
    over: Callable[[MetricsObserver], bool] | None = None,
    setup: Setup | None = None,
    workload: Workload | None = None,
) -> Outcome:
    """Serve the workload to its end under a virtual clock, and return what happened.

    `on_served` hears every request that was served, in the order of their endings; `watch` how many have ended. `over` is
    shown the metrics now and then and may end the simulation before its time (`Outcome.ended_early`). `setup` and
    `workload` replace what the config says. Raises `ConfigError` before anything runs, or `Stalled`.
    """
    setup = setup or set_up(config)
    workload = workload or workload_of(config)
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    began = time.perf_counter()
    clock, metrics, bubbles = VirtualClock(), MetricsObserver(setup.limits, on_served), Distribution()
    replicas = [_replica(index, setup, clock) for index in range(config.replicas)]
    uses = [KVUseObserver(each.scheduler, _final(each)) for each in replicas]
    for replica, use in zip(replicas, uses, strict=True):
        replica.engine.observers += [metrics, use, *_optional(replica, setup, bubbles)]
    ask = None if over is None else lambda: over(metrics)
    simulation = Simulation(replicas, make_router(config.router), clock, watch, ask)
    simulation.run(source_of(workload))
    for replica in replicas:
        if replica.engine.dropped_observers:
            raise replica.engine.dropped_observers[0][1]
    busy, idle = _sums([each.executor.busy for each in replicas]), _sums([each.executor.bubbles for each in replicas])
    return Outcome(
        setup,
        metrics,
        {kind: sum(use.shares[kind] for use in uses) / len(uses) for kind in uses[0].shares},
        [seconds / (metrics.span * len(replicas)) if metrics.span else 0.0 for seconds in busy],
        bubbles,
        sum(idle) / (sum(idle) + sum(busy)) if sum(busy) else 0.0,
        sum(each.scheduler.preemptions for each in replicas),
        time.perf_counter() - began,
        simulation.ended_early,
    )


def _replica(index: int, setup: Setup, clock: VirtualClock) -> Replica:
    config = setup.config
    return Replica(
        index,
        setup.cost,
        clock,
        policy=config.policy,
        order=config.order,
        kv=config.kv,
        limits=setup.limits,
        num_blocks=setup.num_blocks,
        block_size=config.block_size,
        depth=config.in_flight,
        repeat=config.record is None,
    )


def _optional(replica: Replica, setup: Setup, bubbles: Distribution) -> list[Observer]:
    """The onlookers that not every simulation needs."""
    found: list[Observer] = []
    if setup.cost.num_stages > 1:
        found.append(BubbleObserver(replica.executor, bubbles))
    if setup.config.record is not None and replica.index == 0:
        found.append(StepRecorder(setup.config.record, _header(replica, setup)))
    return found


def _header(replica: Replica, setup: Setup) -> dict[str, Any]:
    """What a replay has to build again."""
    config = setup.config
    named = {name: getattr(config, name) for name in ("policy", "order", "kv", "block_size")}
    return named | {"limits": asdict(setup.limits), "num_blocks": setup.num_blocks, "depth": replica.executor.depth}


def _final(replica: Replica) -> Callable[[Request], int]:
    """How many tokens a request will hold when it is done, which a simulation knows."""

    def final(request: Request) -> int:
        asked = request.max_known - len(request.prompt)
        return len(request.prompt) + replica.executor.answers.get(request.id, asked)

    return final


def _sums(rows: list[list[float]]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]
