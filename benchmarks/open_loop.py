"""Offers requests to an engine at fixed moments, as users do, however far it has fallen behind."""

from __future__ import annotations

import time
from collections.abc import Sequence

from orcinus import LLM, SamplingParams
from orcinus.core.request import Request
from orcinus.observe.latency import LatencyObserver

Arrival = tuple[float, tuple[int, ...], int]  # seconds after the start, prompt, tokens of the answer


def offer(llm: LLM, arrivals: Sequence[Arrival]) -> LatencyObserver:
    """Serve all of them, greedily and to their full length; returns when things happened."""
    watch, clock, place = LatencyObserver(), llm.engine.clock, 0
    llm.engine.observers[:] = [watch]
    start = clock.now()
    while place < len(arrivals) or not llm.engine.idle:
        while place < len(arrivals) and arrivals[place][0] <= clock.now() - start:
            at, prompt, output = arrivals[place]
            params = SamplingParams(max_tokens=output, temperature=0, seed=0)  # no stop ids: full length
            llm.engine.submit(Request(f"r{place}", prompt, params, start + at))
            place += 1
        if llm.engine.idle:
            time.sleep(0.0005)
        else:
            llm.engine.step()
    return watch
