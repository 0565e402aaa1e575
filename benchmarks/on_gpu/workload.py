"""One workload from end to end: tokens/s beside its byte floor, how busy the device is, and where the host's time goes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from on_gpu.bench import Bench
from on_gpu.ceilings import COPY, copy_rate
from on_gpu.engines import engine
from on_gpu.host import WatchedEngine, rows
from on_gpu.serve import Asked, Reads, Served, drain, request_of, serve, uniform_requests
from orcinus.build import Built
from orcinus.core.engine import Engine

WARM_UP = 16  # requests


def run(bench: Bench) -> None:
    bench.ceiling(COPY, copy_rate)
    model, load = bench.sizes.models[0], bench.sizes.workload
    requests = uniform_requests(load, model.vocab)
    bench.fact("requests", len(requests))
    bench.fact("prompt tokens", sum(len(asked.prompt) for asked in requests))
    bench.fact("output tokens", sum(asked.output_tokens for asked in requests))
    bench.fact("policy", load.policy)
    bench.fact("floor", "of each iteration that ran: weights once, K/V of each chunk's whole context, at the rate of a copy")
    with engine(bench, model, load) as built:
        serve(another(built), [Asked(0.0, asked.prompt, 8) for asked in requests[:WARM_UP]])
        row(bench, "as built, greedy", serve(another(built), requests))
        watched(bench, built, requests)
        one_at_a_time(bench, built, requests)
        profiled(bench, built, requests)
        row(bench, "as built, temperature 0.6", serve(another(built), requests, temperature=0.6))
        row(bench, "as built, greedy, again", serve(another(built), requests))


def another(built: Built) -> Engine:
    """An empty engine of the same config."""
    return built.another(built.plan.config)


def row(bench: Bench, run: str, served: Served, **cells: Any) -> None:
    """What came of a run. Iterations are steps of the engine."""
    rate, typical = served.tokens / served.seconds, served.seconds / max(1, served.iterations)
    figures = {"seconds": served.seconds, "tokens_per_s": rate, "iterations": served.iterations, "mean_ms": typical * 1e3}
    bench.row("runs", run=run, **figures, **cells)


def watched(bench: Bench, built: Built, requests: list[Asked]) -> None:
    """The same with onlookers: what was read, the device's own times, and the host's."""
    executor, model, reads = built.engine.executor, bench.sizes.models[0], Reads()
    looked_at = WatchedEngine(another(built))
    looked_at.observers.append(reads)
    before = times(executor, True)
    served = serve(looked_at, requests)
    after = times(executor, False)
    num_bytes = (reads.iterations * model.weights_read + reads.context * model.kv_numbers) * bench.dtype.itemsize
    floor = num_bytes / bench.ceiling(COPY, copy_rate) / 1e9
    busy, idle = after[0] - before[0], after[1] - before[1]
    share = busy / (busy + idle) if busy + idle > 0 else None
    row(bench, "watched", served, floor_s=floor, of_floor_share=floor / served.seconds, busy_share=share)
    bench.fact("output tokens/s at the floor", served.tokens / floor)
    rows(bench, looked_at.steps)


def times(executor: Any, on: bool) -> tuple[float, float]:
    """Switch the executor's own times on or off, and read them: seconds busy and idle. Zeros if it has none."""
    if hasattr(executor, "timed"):
        executor.timed = on
    return getattr(executor, "busy", 0.0), getattr(executor, "idle", 0.0)


def one_at_a_time(bench: Bench, built: Built, requests: list[Asked]) -> None:
    """The same without overlap: an iteration is planned when the one before it has come back."""
    executor: Any = built.engine.executor
    depth = executor.depth
    executor.depth = 1
    try:
        row(bench, "without overlap", serve(another(built), requests))
    finally:
        executor.depth = depth


def profiled(bench: Bench, built: Built, requests: list[Asked]) -> None:
    """Some iterations under torch's profiler: the share of their time in which a kernel, or a copy, runs on the device.

    The profiler takes time on the host, so that the share may be lower than without it.
    """
    cuda = bench.device.type == "cuda"
    looked_at, count = another(built), bench.sizes.profiled
    for number, asked in enumerate(requests):
        looked_at.submit(request_of(number, asked, 0.0, looked_at.clock.now()))
    for _ in range(2 * count):
        looked_at.step()
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        for _ in range(count):
            looked_at.step()
        if cuda:
            torch.cuda.synchronize()
    drain(looked_at, len(requests))
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    spans = [(event.time_range.start, event.time_range.end) for event in profiler.events() if event.device_type == kind]
    share = covered(spans)
    cells = {"iterations": count, "events": len(spans), "busy_share": share}
    bench.row("under the profiler", **cells)


def covered(spans: Iterable[tuple[float, float]]) -> float | None:
    """The share of the time from the first to the last that any of the spans covers; None without spans."""
    begin = reached = total = None
    for low, high in sorted(spans):
        if begin is None or reached is None or total is None:
            begin, reached, total = low, high, high - low
        elif high > reached:
            total += high - max(low, reached)
            reached = high
    if begin is None or reached is None or total is None or reached <= begin:
        return None
    return total / (reached - begin)
