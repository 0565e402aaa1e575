"""What the tests of the simulator share: small workloads, and everything that a run makes visible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from orcinus.core.batch import Batch, BatchResult, Event, Finished
from orcinus.core.ports import Observer
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.cost.work import CostModel, IterationWork
from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.clock import VirtualClock
from orcinus.sim.repeats import RepeatedBatch, RepeatedResult, RepeatMetrics
from orcinus.sim.replica import Replica
from orcinus.sim.simulation import Simulation, make_router
from orcinus.workload.arrival import Arrival
from orcinus.workload.source import OpenLoop, source_of
from orcinus.workload.workload import Workload


class LinearCost:
    """Seconds that tell tokens, requests and lengths apart, so that any difference between two runs is seen."""

    def __init__(self, num_stages: int = 1) -> None:
        self.num_stages = num_stages

    def stages(self, work: IterationWork) -> Sequence[float]:
        read = sum(tokens * (start + tokens) for start, tokens in work.prompts)
        seconds = 0.01 + 1e-4 * work.tokens + 1e-5 * work.requests + 1e-6 * (work.context + read)
        return (seconds / self.num_stages,) * self.num_stages


@dataclass
class Diary(Observer):
    """Every iteration and every event, as plain numbers; a repeated batch is written down as the iterations it stands for."""

    iterations: list[list[tuple[str, int, int]]] = field(default_factory=list)
    tokens: dict[str, list[float]] = field(default_factory=dict)
    ends: list[tuple[str, str, float]] = field(default_factory=list)
    started: list[float] = field(default_factory=list)  # when batches were launched
    held: Counter[str] = field(default_factory=Counter)  # tokens of repeated batches whose answer is held back

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.started.append(now)

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        earlier = result.earlier if isinstance(result, RepeatedResult) else ()
        for done in range(len(earlier) + 1):
            self.iterations.append(
                [(c.request_id, c.end + done - 1, 1) if done else (c.request_id, c.start, len(c.tokens)) for c in batch.chunks]
            )
        held = isinstance(batch, RepeatedBatch) and batch.held
        for chunk in batch.chunks:
            if held:
                self.held[chunk.request_id] += len(earlier)
            elif earlier:
                self.tokens.setdefault(chunk.request_id, []).extend(earlier)

    def on_events(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self.ends.append((event.request_id, event.reason, event.at))
            else:
                together = 1 + self.held.pop(event.request_id, 0)
                self.tokens.setdefault(event.request_id, []).extend([event.at] * together)


def run(
    workload: Workload | Sequence[Arrival],
    cost: CostModel | None = None,
    *,
    policy: str = "orca",
    order: str = "fcfs",
    kv: str = "paged",
    limits: Limits | None = None,
    num_blocks: int = 64,
    block_size: int = 16,
    depth: int | None = None,
    repeat: bool = True,
    replicas: int = 1,
    router: str = "round-robin",
    observers: Sequence[Observer] = (),
) -> tuple[Diary, MetricsObserver, list[Replica]]:
    """Simulate a workload on small engines."""
    limits = limits or Limits(max_batch_size=4, max_batch_tokens=4096, max_model_len=512)
    clock, diary, metrics = VirtualClock(), Diary(), RepeatMetrics(limits)
    made = [
        Replica(
            index,
            cost or LinearCost(),
            clock,
            policy=policy,
            order=order,
            kv=kv,
            limits=limits,
            num_blocks=num_blocks,
            block_size=block_size,
            depth=depth,
            observers=[diary, metrics, *observers],
            repeat=repeat,
        )
        for index in range(replicas)
    ]
    source = source_of(workload) if isinstance(workload, Workload) else OpenLoop(iter(workload))
    Simulation(made, make_router(router), clock).run(source)
    assert not [error for replica in made for error in replica.engine.dropped_observers]
    return diary, metrics, made
