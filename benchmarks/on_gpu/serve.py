"""Requests through an engine, and what its iterations had to read."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from on_gpu.sizes import Load
from orcinus.core.batch import Batch, Event, Finished, Token
from orcinus.core.engine import Engine
from orcinus.core.ports import Observer
from orcinus.core.request import Finish, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Unserved


@dataclass(frozen=True, slots=True)
class Job:
    """One request: its prompt, and how many tokens it is answered with."""

    prompt: tuple[int, ...]
    output_tokens: int


@dataclass(slots=True)
class Served:
    """What came of a run."""

    seconds: float = 0.0
    tokens: int = 0
    iterations: int = 0
    failures: list[str] = field(default_factory=list)

    def hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Token):
                self.tokens += 1
            elif isinstance(event, Finished) and event.reason is not Finish.LENGTH:
                self.failures.append(event.error or event.reason)


def uniform_jobs(load: Load, vocab: int) -> list[Job]:
    """Lengths and tokens drawn from `random.Random(0)`."""
    draw = random.Random(0)
    made = []
    for _ in range(load.requests):
        prompt = tuple(draw.randrange(vocab) for _ in range(draw.randint(*load.prompts)))
        made.append(Job(prompt, draw.randint(*load.outputs)))
    return made


def serve(engine: Engine, jobs: Sequence[Job], temperature: float = 0.0) -> Served:
    """Serve them all at once, to their end. Raises `RuntimeError` if some were not served as asked."""
    gc.collect()
    served, began = Served(), perf_counter()
    for number, job in enumerate(jobs):
        params = SamplingParams(temperature=temperature, max_tokens=job.output_tokens, seed=number, ignore_eos=True)
        served.hear(engine.submit(Request(f"r{number}", job.prompt, params, engine.clock.now())))
    while not engine.idle:
        served.hear(engine.step())
        served.iterations += 1
    served.seconds = perf_counter() - began
    if served.failures:
        raise RuntimeError(f"{len(served.failures)} requests were not served as asked: {served.failures[0]}")
    return served


@dataclass(slots=True)
class Reads(Observer):
    """Counts iterations and the context tokens they read."""

    iterations: int = 0
    context: int = 0  # tokens whose keys and values were read

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.iterations += 1
        self.context += sum(chunk.end for chunk in batch.chunks)
