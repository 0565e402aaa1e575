"""The cost of planning an iteration, with 256 running and 10,000 waiting requests.

    python benchmarks/planning.py [--profile POLICY]

Times `Scheduler.plan` and `Scheduler.apply` alone; no model runs. Medians in microseconds over all iterations, at answers
of about 100 and of about 3,000 tokens. `--profile` prints where the time of one policy goes.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import pstats
import random
import statistics
import time
from collections.abc import Callable

from orcinus.core.batch import Batch, BatchResult
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.kv import PrefixCache
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.core.request import Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.view import Limits

RUNNING, WAITING = 256, 10_000
LIMITS = Limits(RUNNING, max_batch_tokens=RUNNING * 64, max_model_len=8192)


def result(batch: Batch) -> BatchResult:
    """One token for every request at the end of its known tokens."""
    return BatchResult(batch.id, tuple((7,) if chunk.samples else () for chunk in batch.chunks))


def filled(order: str, answers: int) -> Scheduler:
    """A scheduler with 256 running requests, mid-answer, and 10,000 waiting ones."""
    rng, ids = random.Random(0), itertools.count()
    num_blocks = (RUNNING + 1) * LIMITS.max_model_len // 16
    scheduler = Scheduler(make_policy("orca"), PrefixCache(num_blocks, 16), LIMITS, make_order(order))

    def arrive(count: int) -> None:
        for number in itertools.islice(ids, count):
            prompt = tuple(rng.randrange(1000) for _ in range(rng.randint(8, 64)))
            params = SamplingParams(max_tokens=7000, seed=0)
            context = RequestContext(rng.randint(0, 3), f"client {number % 50}")
            request = Request(f"r{number}", prompt, params, float(number), context)
            scheduler.add(request, 0.0)

    arrive(RUNNING)
    for step in range(answers):
        planned = scheduler.plan(float(step))
        assert planned is not None
        batch, _ = planned
        scheduler.apply(batch, result(batch), float(step))
    arrive(WAITING)
    return scheduler


def microseconds(scheduler: Scheduler, iterations: int) -> tuple[float, float]:
    """Medians of plan and apply."""
    plans, applies = [], []
    for step in range(iterations):
        began = time.perf_counter()
        planned = scheduler.plan(float(step))
        ended = time.perf_counter()
        assert planned is not None
        batch, _ = planned
        scheduler.apply(batch, result(batch), float(step))
        plans.append(ended - began)
        applies.append(time.perf_counter() - ended)
    return statistics.median(plans) * 1e6, statistics.median(applies) * 1e6


def table(label: str, names: list[str], make: Callable[[str, int], Scheduler], iterations: int) -> None:
    print(f"{label:16} {'plan, 100':>10} {'plan, 3000':>11} {'apply, 100':>11} {'apply, 3000':>12}")
    for name in names:
        short, long = (microseconds(make(name, answers), iterations) for answers in (100, 3000))
        print(f"{name:16} {short[0]:10.0f} {long[0]:11.0f} {short[1]:11.0f} {long[1]:12.0f}", flush=True)


def with_policy(policy: str, answers: int) -> Scheduler:
    scheduler = filled("fcfs", answers)
    scheduler.use(make_policy(policy))
    return scheduler


def main() -> None:
    parser = argparse.ArgumentParser(description="What it costs to plan an iteration.")
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--profile", metavar="POLICY", help="print where the time of this policy goes")
    options = parser.parse_args()
    if options.profile:
        scheduler = with_policy(options.profile, 100)
        profile = cProfile.Profile()
        profile.runcall(microseconds, scheduler, options.iterations)
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)
        return
    print(f"{RUNNING} running, {WAITING} waiting; microseconds, medians of {options.iterations} iterations\n")
    table("policy", list(POLICIES), with_policy, options.iterations)
    print()
    table("order", list(ORDERS), filled, options.iterations)


if __name__ == "__main__":
    main()
