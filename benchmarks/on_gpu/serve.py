"""Requests through an engine in real time, and what its iterations had to read."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from on_gpu.sizes import Load
from orcinus.core.batch import Batch, Event, Finished, Token
from orcinus.core.engine import Engine
from orcinus.core.ports import Observer
from orcinus.core.request import Finish, Request
from orcinus.core.sampling_params import SamplingParams

LONGEST_PAUSE_S = 0.0005  # while there is nothing to do: a longer sleep may wake up late


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it comes (seconds after the start), its prompt, and how many tokens it is answered with."""

    at: float
    prompt: tuple[int, ...]
    output_tokens: int


@dataclass(slots=True)
class Served:
    """What came of a run."""

    seconds: float = 0.0
    tokens: int = 0
    iterations: int = 0
    ended: int = 0
    cut: bool = False
    failures: list[str] = field(default_factory=list)

    def hear(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self.ended += 1
                if event.reason is not Finish.LENGTH and not self.cut:
                    self.failures.append(event.error or event.reason)
            elif isinstance(event, Token):
                self.tokens += 1


def uniform_requests(load: Load, vocab: int) -> list[Asked]:
    """All at once, lengths and tokens drawn from `random.Random(0)`."""
    draw = random.Random(0)
    made = []
    for _ in range(load.requests):
        prompt = tuple(draw.randrange(vocab) for _ in range(draw.randint(*load.prompts)))
        made.append(Asked(0.0, prompt, draw.randint(*load.outputs)))
    return made


def serve(engine: Engine, requests: Iterable[Asked], seconds: float = float("inf"), temperature: float = 0.0) -> Served:
    """Serve them to their end, or for so many seconds. Raises `RuntimeError` if some were not served as asked."""
    gc.collect()
    waiting, served = list(requests)[::-1], Served()
    start, began = engine.clock.now(), perf_counter()
    submitted = 0
    while (waiting or not engine.idle) and not served.cut:
        while waiting and start + waiting[-1].at <= engine.clock.now():
            asked = waiting.pop()
            served.hear(engine.submit(request_of(submitted, asked, temperature, start + asked.at)))
            submitted += 1
        if engine.idle:
            time.sleep(LONGEST_PAUSE_S)
        else:
            served.hear(engine.step())
            served.iterations += 1
        served.cut = perf_counter() - began > seconds
    served.seconds = perf_counter() - began
    if served.cut:
        drain(engine, submitted)
    if served.failures:
        raise RuntimeError(f"{len(served.failures)} requests were not served as asked: {served.failures[0]}")
    return served


def request_of(number: int, asked: Asked, temperature: float, arrival: float) -> Request:
    """The request with this number. Nothing ends its text but its length."""
    params = SamplingParams(temperature=temperature, max_tokens=asked.output_tokens, seed=number, ignore_eos=True)
    return Request(f"r{number}", asked.prompt, params, arrival)


def drain(engine: Engine, submitted: int) -> None:
    """Cancel whoever is left, so that nothing stays in flight."""
    for number in range(submitted):
        engine.cancel(f"r{number}")
    while not engine.idle:
        engine.step()


@dataclass(slots=True)
class Reads(Observer):
    """Counts what the iterations that really ran had to read: the weights once, and every chunk's context."""

    iterations: int = 0
    context: int = 0  # tokens whose keys and values were read

    def on_batch(self, batch: Batch, now: float) -> None:
        self.iterations += 1
        self.context += sum(chunk.end for chunk in batch.chunks)
