"""Microbenchmarks of papers: requests of chosen lengths on one replica of the real engine, all there from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orcinus.core.batch import Batch, BatchResult
from orcinus.core.ports import Observer
from orcinus.cost.fitted import Iteration
from orcinus.cost.work import work_of
from orcinus.sim.clock import VirtualClock
from orcinus.sim.config import SimulationConfig
from orcinus.sim.outcome import Setup
from orcinus.sim.run import make_replica, set_up, simulate
from orcinus.workload.arrival import Arrival


class Stopwatch(Observer):
    """Every iteration, of an engine with one batch in flight that is not repeated."""

    def __init__(self) -> None:
        self.found: list[Iteration] = []
        self._launched = 0.0

    def on_batch(self, batch: Batch, now: float) -> None:
        self._launched = now

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        self.found.append(Iteration(work_of(batch), now - self._launched))


def iterations(setup: Setup, policy: str, requests: Sequence[tuple[int, int]]) -> list[Iteration]:
    """Every iteration that serves these requests, which are (tokens of prompt, tokens of answer)."""
    watch = Stopwatch()
    chosen = replace(setup, config=replace(setup.config, policy=policy))
    replica = make_replica(chosen, VirtualClock(), observers=[watch], repeat=False)
    for number, (prompt, answer) in enumerate(requests):
        replica.submit(str(number), Arrival(0.0, prompt, answer))
    replica.dispatch()
    while replica.next_end is not None:
        replica.settle()
    return watch.found


def endings(config: SimulationConfig, prompt: int, answer: int, requests: int) -> list[float]:
    """When each of these requests, all alike, had its whole answer: seconds, in order."""
    ends: list[float] = []
    lengths = f"fixed:tokens={prompt},fixed:tokens={answer}"
    asked = replace(config, arrivals="all-at-once", lengths=lengths, requests=requests, max_model_len=prompt + answer)
    simulate(asked, on_served=lambda served: ends.append(served.finished))
    return ends


def seconds_each(config: SimulationConfig, prompt: int, answer: int) -> float:
    """Seconds per request when requests follow each other without end.

    Four batches of requests: the first one fills the replica, in the last one it empties, and those between count.
    """
    size = set_up(config).machine.limits.max_batch_size
    ends = endings(config, prompt, answer, 4 * size)
    return (ends[3 * size - 1] - ends[size - 1]) / (2 * size)
