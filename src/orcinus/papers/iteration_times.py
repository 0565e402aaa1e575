"""How long single iterations take in the simulated engine: decodes alone, with a chunk, with a whole prompt."""

from __future__ import annotations

from orcinus.core.policies.orca import Orca
from orcinus.core.policies.stall_free import StallFree
from orcinus.core.view import Limits
from orcinus.cost.fitted import Iteration
from orcinus.cost.work import CostModel
from orcinus.papers.alike import Stopwatch
from orcinus.sim.clock import VirtualClock
from orcinus.sim.replica import Replica
from orcinus.workload.arrival import Arrival

BLOCK = 16


def iteration_seconds(cost: CostModel, decodes: int, context: int, budget: int) -> tuple[float, float, float]:
    """Seconds of an iteration of `decodes` decodes that attend to `context` tokens each, and of hybrid batches with them.

    (the decodes alone; with the last full chunk of a prompt, `budget` tokens in all; with a whole prompt). The prompt is
    `context` tokens long as well.
    """
    return (
        _hybrid(cost, decodes, context, None)[1].seconds,
        max(each.seconds for each in _hybrid(cost, decodes, context, budget) if each.work.tokens == budget),
        _hybrid(cost, decodes, context, decodes + context)[-1].seconds,
    )


def _hybrid(cost: CostModel, decodes: int, context: int, budget: int | None) -> list[Iteration]:
    """The iterations from all prompts at once to the last with one more prompt; without `budget` nobody comes later."""
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
    answer = context // 2  # more than anybody gets here
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
    """Whether the late request has been given its first token."""
    return any(request.id == "late" and request.output for request in replica.scheduler.running)
