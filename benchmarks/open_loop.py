"""Offers requests to an engine at fixed moments, as users do, however far it has fallen behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from orcinus import LLM, SamplingParams
from orcinus.core.ports import Observer
from orcinus.core.request import Request
from orcinus.observe.latency import LatencyObserver

Arrival = tuple[float, tuple[int, ...], int]  # seconds after the start, prompt, tokens of the answer


GREEDY = SamplingParams(temperature=0)


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
    watch, clock, place = LatencyObserver(), llm.engine.clock, 0
    llm.engine.observers[:] = [watch, *observers]
    start = clock.now()
    while place < len(arrivals) or not llm.engine.idle:
        while place < len(arrivals) and arrivals[place][0] <= clock.now() - start:
            at, prompt, output = arrivals[place]
            full = replace(params, max_tokens=output, seed=0, stop_token_ids=())
            llm.engine.submit(Request(f"r{place}", prompt, full, start + at))
            place += 1
        if llm.engine.idle:
            pause(0.0005)
        else:
            llm.engine.step()
    return watch
