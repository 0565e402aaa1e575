"""Offers requests to an engine at fixed moments (an open loop)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from orcinus import LLM, SamplingParams
from orcinus.bench.driver import EngineDriver
from orcinus.bench.requests import BenchRequest
from orcinus.core.ports import Observer
from orcinus.observe.latency import LatencyObserver
from orcinus.workload.arrival import Arrival as Coming
from orcinus.workload.source import OpenLoop

Arrival = tuple[float, tuple[int, ...], int]  # seconds after the start, prompt, tokens of the answer
GREEDY = SamplingParams(temperature=0, seed=0)


def offer(
    llm: LLM,
    arrivals: Sequence[Arrival],
    params: SamplingParams = GREEDY,
    pause: Callable[[float], None] = time.sleep,
    observers: Sequence[Observer] = (),
) -> LatencyObserver:
    """Serve all of them to their full length, sampling as `params` say; returns when things happened.

    `pause` lets some seconds pass on the engine's clock while there is nothing to do.
    """
    watch = LatencyObserver()
    llm.engine.observers[:] = [watch, *observers]
    source = OpenLoop(Coming(at, len(prompt), output) for at, prompt, output in arrivals)
    EngineDriver(llm.engine, source, [BenchRequest(prompt, output) for _, prompt, output in arrivals], params, pause).run()
    return watch
