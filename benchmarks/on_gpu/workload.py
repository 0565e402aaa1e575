"""One workload end to end: tokens/s beside its floor, and device utilisation."""

from __future__ import annotations

from typing import Any

from on_gpu.bench import Bench
from on_gpu.ceilings import COPY, copy_rate
from on_gpu.engines import engine
from on_gpu.serve import Job, Reads, Served, serve, uniform_jobs
from orcinus.build import Built
from orcinus.core.engine import Engine

WARM_UP = 16  # requests


def run(bench: Bench) -> None:
    bench.ceiling(COPY, copy_rate)
    model, load = bench.sizes.models[0], bench.sizes.workload
    jobs = uniform_jobs(load, model.vocab)
    bench.fact("requests", len(jobs))
    bench.fact("prompt tokens", sum(len(job.prompt) for job in jobs))
    bench.fact("output tokens", sum(job.output_tokens for job in jobs))
    bench.fact("policy", load.policy)
    bench.fact("floor", "of each iteration that ran: weights once, K/V of each chunk's whole context, at the rate of a copy")
    with engine(bench, model, load) as built:
        serve(another(built), [Job(job.prompt, 8) for job in jobs[:WARM_UP]])
        row(bench, "as built, greedy", serve(another(built), jobs))
        watched(bench, built, jobs)
        one_at_a_time(bench, built, jobs)
        row(bench, "as built, temperature 0.6", serve(another(built), jobs, temperature=0.6))
        row(bench, "as built, greedy, again", serve(another(built), jobs))


def another(built: Built) -> Engine:
    """An empty engine of the same config."""
    return built.another(built.plan.config)


def row(bench: Bench, run: str, served: Served, **cells: Any) -> None:
    """What came of a run. Iterations are steps of the engine."""
    rate, typical = served.tokens / served.seconds, served.seconds / max(1, served.iterations)
    figures = {"seconds": served.seconds, "tokens_per_s": rate, "iterations": served.iterations, "mean_ms": typical * 1e3}
    bench.row("runs", run=run, **figures, **cells)


def watched(bench: Bench, built: Built, jobs: list[Job]) -> None:
    """The same, with what was read and the device's own times."""
    executor, model, reads = built.engine.executor, bench.sizes.models[0], Reads()
    observed = another(built)
    observed.observers.append(reads)
    before = times(executor, True)
    served = serve(observed, jobs)
    after = times(executor, False)
    num_bytes = (reads.iterations * model.weights_read + reads.context * model.kv_numbers) * bench.dtype.itemsize
    floor = num_bytes / bench.ceiling(COPY, copy_rate) / 1e9
    busy, idle = after[0] - before[0], after[1] - before[1]
    share = busy / (busy + idle) if busy + idle > 0 else None
    row(bench, "watched", served, floor_s=floor, of_floor_share=floor / served.seconds, busy_share=share)
    bench.fact("output tokens/s at the floor", served.tokens / floor)


def times(executor: Any, on: bool) -> tuple[float, float]:
    """The executor's busy and idle seconds (0 without), switched on or off."""
    if hasattr(executor, "timed"):
        executor.timed = on
    return getattr(executor, "busy", 0.0), getattr(executor, "idle", 0.0)


def one_at_a_time(bench: Bench, built: Built, jobs: list[Job]) -> None:
    """The same without overlap: one batch in flight."""
    executor: Any = built.engine.executor
    depth = executor.depth
    executor.depth = 1
    try:
        row(bench, "without overlap", serve(another(built), jobs))
    finally:
        executor.depth = depth
