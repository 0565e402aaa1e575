"""Microbenchmarks of papers on one replica of the real engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orcinus.core.batch import Batch, BatchResult
from orcinus.core.policies.orca import Orca
from orcinus.core.policies.stall_free import StallFree
from orcinus.core.ports import Observer
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.cost.fitted import IterationSample
from orcinus.cost.work import CostModel, work_of
from orcinus.sim.clock import VirtualClock
from orcinus.sim.config import SimulationConfig
from orcinus.sim.outcome import Setup
from orcinus.sim.replica import Replica
from orcinus.sim.simulate import make_replica, set_up, simulate
from orcinus.workload.arrival import Arrival

BLOCK = 16  # tokens of K/V


class Stopwatch(Observer):
    """Records every iteration of an engine with one batch in flight."""

    def __init__(self) -> None:
        self.found: list[IterationSample] = []
        self._launched = 0.0

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self._launched = now

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        self.found.append(IterationSample(work_of(batch), now - self._launched))


def iterations(setup: Setup, policy: str, requests: Sequence[tuple[int, int]]) -> list[IterationSample]:
    """Every iteration that serves requests of (prompt, answer) tokens."""
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
    """The sorted ends of equal requests, in seconds."""
    ends: list[float] = []
    lengths = f"fixed:tokens={prompt},fixed:tokens={answer}"
    asked = replace(config, arrivals="all-at-once", lengths=lengths, requests=requests, max_model_len=prompt + answer)
    simulate(asked, on_served=lambda served: ends.append(served.finished))
    return ends


def seconds_each(config: SimulationConfig, prompt: int, answer: int) -> float:
    """Seconds per request when requests follow each other without end.

    There are four batches of requests: the replica fills during the first one and empties during the last one, so those
    between count.
    """
    size = set_up(config).machine.limits.max_batch_size
    ends = endings(config, prompt, answer, 4 * size)
    return (ends[3 * size - 1] - ends[size - 1]) / (2 * size)


def iteration_seconds(cost: CostModel, decodes: int, context: int, budget: int) -> tuple[float, float, float]:
    """Seconds of three iterations: decodes alone, with a chunk, with a prompt.

    `decodes` decodes attend to `context` tokens each. The chunk is the last full one of a prompt, with `budget` tokens in
    the whole batch. The prompt has `context` tokens too.
    """
    return (
        _hybrid(cost, decodes, context, None)[1].seconds,
        max(each.seconds for each in _hybrid(cost, decodes, context, budget) if each.work.tokens == budget),
        _hybrid(cost, decodes, context, decodes + context)[-1].seconds,
    )


def _hybrid(cost: CostModel, decodes: int, context: int, budget: int | None) -> list[IterationSample]:
    """The iterations of prompts sent at once and of one later prompt.

    The later prompt comes only with a `budget`. The list ends with its last iteration.
    """
    limits = Limits(decodes + 1, decodes * context + context, 2 * context)
    blocks = (decodes + 1) * (2 * context // BLOCK)
    replica = Replica(
        0,
        cost,
        VirtualClock(),
        policy="orca",
        order="fcfs",
        kv="reservation",
        limits=limits,
        num_blocks=blocks,
        block_size=BLOCK,
        observers=[watch := Stopwatch()],
        repeat=False,
    )
    answer = context // 2  # more than any request gets here
    for number in range(decodes):
        replica.submit(str(number), Arrival(0.0, context - 1, answer))
    replica.dispatch()
    replica.settle()
    if budget is None:
        replica.settle()
        return watch.found
    replica.engine.use(StallFree(budget) if budget < context else Orca())
    replica.submit("late", Arrival(0.0, context, answer))
    replica.settle()  # launched before the prompt came
    while not _begun(replica):
        replica.settle()
    return watch.found[2:]


def _begun(replica: Replica) -> bool:
    """Whether the late request has its first token."""
    return any(request.id == "late" and request.output for request in replica.scheduler.running)
