"""Composition root: from a config to the outcome of its simulation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Observer
from orcinus.core.request import Request
from orcinus.errors import ConfigError
from orcinus.observe.distribution import Distribution
from orcinus.observe.kv_use import KVUseObserver
from orcinus.observe.metrics import MetricsObserver, Served
from orcinus.observe.recorder import StepRecorder
from orcinus.sim.clock import VirtualClock
from orcinus.sim.config import SimulationConfig
from orcinus.sim.executor import BubbleObserver
from orcinus.sim.machine import find_machine
from orcinus.sim.outcome import Setup, SimulationOutcome
from orcinus.sim.record import over_seeds
from orcinus.sim.repeats import RepeatMetrics
from orcinus.sim.replica import Replica
from orcinus.sim.simulation import Simulation, make_router
from orcinus.workload.processes import AllAtOnce
from orcinus.workload.source import source_of
from orcinus.workload.workload import Workload, make_workload


def set_up(config: SimulationConfig) -> Setup:
    """The config, resolved. Raises `ConfigError` if the model does not fit."""
    machine = find_machine(config)
    make_policy(config.policy), make_order(config.order)  # misspelled ones are reported now
    if config.kv not in KV_MANAGERS:
        raise ConfigError(f"unknown K/V manager {config.kv!r}: choose {', '.join(KV_MANAGERS)}")
    return Setup(config, machine)


def workload_of(config: SimulationConfig) -> Workload:
    """The requests of a config. Raises `ConfigError`."""
    asked = config.max_tokens
    try:
        most: Any = asked if asked is None or asked == "pow2" else int(asked)
    except ValueError:
        raise ConfigError(f"max_tokens must be a whole number of at least 1, or pow2, not {asked!r}") from None
    return make_workload(config.process, config.read_lengths, config.requests, config.seed, config.max_total, most)


def simulate(
    config: SimulationConfig,
    *,
    on_served: Callable[[Served], None] | None = None,
    watch: Callable[[int], None] | None = None,
    over: Callable[[MetricsObserver], bool] | None = None,
    setup: Setup | None = None,
    workload: Workload | None = None,
) -> SimulationOutcome:
    """The outcome of serving a config's workload under a virtual clock.

    With several `seeds` it is served once with each: the outcome has `runs` and, over them, `intervals`. `on_served` is
    called with every served request, in the order of their ends; `watch` with how many have ended. `over` sees the metrics
    now and then and may end a simulation early (`ended_early`). `setup` and, with a single seed, `workload` replace the
    config's own. Raises `ConfigError` before anything runs, or `Stalled`.
    """
    if config.seeds > 1 and workload is not None:
        raise ConfigError("several seeds draw workloads of their own: give one seed, or no workload")
    decided = setup or set_up(config)
    runs = []
    for one in by_seed(config):
        setup = replace(decided, config=replace(decided.config, seed=one.seed, seeds=1))
        runs.append(_simulate(one, on_served, watch, over, setup, workload or workload_of(one)))
    return together(runs)


def by_seed(config: SimulationConfig) -> list[SimulationConfig]:
    """One config per seed.

    Raises `ConfigError` for several seeds with a record.
    """
    if config.seeds > 1 and config.record is not None:
        raise ConfigError("--record takes the iterations of one run: simulate a single seed")
    return [replace(config, seed=config.seed + number, seeds=1) for number in range(config.seeds)]


def together(runs: Sequence[SimulationOutcome]) -> SimulationOutcome:
    """The outcomes of several seeds as one."""
    return runs[0] if len(runs) == 1 else replace(runs[0], runs=tuple(runs), intervals=over_seeds(runs))


def _simulate(
    config: SimulationConfig,
    on_served: Callable[[Served], None] | None,
    watch: Callable[[int], None] | None,
    over: Callable[[MetricsObserver], bool] | None,
    setup: Setup,
    workload: Workload,
) -> SimulationOutcome:
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    began = time.perf_counter()
    clock, metrics, bubbles = VirtualClock(), RepeatMetrics(setup.machine.limits, on_served), Distribution()
    replicas = [make_replica(setup, clock, index, repeat=config.record is None) for index in range(config.replicas)]
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
    return SimulationOutcome(
        setup,
        metrics,
        {kind: sum(use.shares[kind] for use in uses) / len(uses) for kind in uses[0].shares},
        [seconds / (metrics.span * len(replicas)) if metrics.span else 0.0 for seconds in busy],
        bubbles,
        sum(idle) / (sum(idle) + sum(busy)) if sum(busy) else 0.0,
        sum(each.scheduler.admission.preemptions for each in replicas),
        time.perf_counter() - began,
        _hit_rate(replicas),
        simulation.ended_early,
        isinstance(workload.arrivals, AllAtOnce),
        tuple(workload.notes()),
    )


def make_replica(
    setup: Setup, clock: VirtualClock, index: int = 0, observers: Sequence[Observer] = (), *, repeat: bool = True
) -> Replica:
    """A setup's replica; with `repeat` it decides equal iterations at once."""
    config, machine = setup.config, setup.machine
    return Replica(
        index,
        machine.cost,
        clock,
        policy=config.policy,
        order=config.order,
        kv=config.kv,
        limits=machine.limits,
        num_blocks=machine.num_blocks,
        block_size=machine.block_size,
        depth=config.in_flight,
        observers=observers,
        repeat=repeat,
        jitter=machine.jitter(f"seed {config.seed}, replica {index}"),
    )


def _optional(replica: Replica, setup: Setup, bubbles: Distribution) -> list[Observer]:
    """Observers that only some simulations need."""
    found: list[Observer] = []
    if setup.machine.cost.num_stages > 1:
        found.append(BubbleObserver(replica.executor, bubbles))
    if setup.config.record is not None and replica.index == 0:
        found.append(StepRecorder(setup.config.record, record_header(setup, replica.executor.depth)))
    return found


def record_header(setup: Setup, depth: int) -> dict[str, Any]:
    """A record's first line: what a replay builds."""
    machine = setup.machine
    named = {name: getattr(setup.config, name) for name in ("policy", "order", "kv")}
    memory = {"block_size": machine.block_size, "num_blocks": machine.num_blocks}
    return named | memory | {"limits": asdict(machine.limits), "depth": depth}


def _final(replica: Replica) -> Callable[[Request], int]:
    """A function that tells how many tokens a request will have."""

    def final(request: Request) -> int:
        asked = request.max_known - len(request.prompt)
        return len(request.prompt) + replica.executor.answers.get(request.id, asked)

    return final


def _hit_rate(replicas: Sequence[Replica]) -> float | None:
    stats = [each.kv.stats for each in replicas if each.kv.stats is not None]
    asked = sum(each.queries for each in stats)
    return sum(each.hits for each in stats) / asked if asked else None


def _sums(rows: list[list[float]]) -> list[float]:
    return [sum(column) for column in zip(*rows, strict=True)]
