"""Several configurations of the engine in this process, in turn, with the same requests over the same weights."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orcinus.bench.drive import Drive
from orcinus.bench.iterations import IterationObserver
from orcinus.bench.machine import load_average
from orcinus.bench.record import Outcome, Repeat
from orcinus.bench.requests import Asked, check_lengths, make_requests
from orcinus.bench.result import Setting, Side
from orcinus.build import Built, build
from orcinus.build import Progress as Loading
from orcinus.config import EngineConfig
from orcinus.core.engine import Engine
from orcinus.core.kv import PrefixCache
from orcinus.core.spelled import spell
from orcinus.errors import ConfigError
from orcinus.workload.source import source_of
from orcinus.workload.workload import Workload

SETTINGS = ("policy", "order", "kv", "max_batch_size", "max_batch_tokens", "block_size", "num_blocks")
Watch = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the configurations, by the name that tells it apart."""

    name: str
    config: EngineConfig


class Engines:
    """A model that serves under several configurations, one at a time.

    The K/V memory is the same for all: what the largest batch needs, unless the configs say how much. Raises `ConfigError`.
    """

    def __init__(self, variants: Sequence[Variant], progress: Loading | None = None) -> None:
        self.variants = list(variants)
        largest = max((variant.config for variant in variants), key=lambda config: config.max_batch_size)
        self.built: Built = build(largest) if progress is None else build(largest, progress=progress)
        for variant in variants:
            self.engine(variant)  # whatever is wrong is said before anything runs

    def engine(self, variant: Variant) -> Engine:
        """An empty engine: nothing is left of a run before, nor in its prefix cache."""
        return self.built.another(variant.config)

    def requests(self, workload: Workload) -> list[Asked]:
        """The requests for this model. Raises `ConfigError` if it cannot serve some."""
        made = make_requests(workload, self.built.resolved.vocab_size)
        check_lengths(made, min(self.engine(each).scheduler.limits.max_model_len for each in self.variants))
        return made

    def settings(self, variant: Variant) -> dict[str, Setting]:
        """What a variant comes to."""
        engine, resolved = self.engine(variant), self.built.resolved
        scheduler = engine.scheduler
        return {
            "policy": spell(scheduler.policy),
            "order": variant.config.order,
            "kv": variant.config.kv,
            "max_batch_size": scheduler.limits.max_batch_size,
            "max_batch_tokens": scheduler.limits.max_batch_tokens,
            "max_model_len": scheduler.limits.max_model_len,
            "num_blocks": scheduler.kv.num_blocks,
            "block_size": scheduler.kv.block_size,
            "dtype": resolved.dtype,
            "device": resolved.device,
            "attention": resolved.attention,
        }


def measure(
    engines: Engines,
    variant: Variant,
    workload: Workload,
    requests: Sequence[Asked],
    round_: int = 0,
    watch: Watch | None = None,
) -> Repeat:
    """Serve the workload once with one variant, to its end."""
    engine = engines.engine(variant)
    load = load_average()
    gc.collect()
    drive = Drive(engine, source_of(workload), requests, watch=watch)
    iterations = IterationObserver()
    engine.observers.append(iterations)
    drive.run()
    if engine.dropped_observers:
        raise engine.dropped_observers[0][1]
    ended = tuple(sorted(drive.ended, key=lambda request: request.number))
    return Repeat(
        round=round_,
        seconds=max(request.ended for request in ended),
        requests=ended,
        iterations=iterations.since(drive.start),
        slots=engine.scheduler.limits.max_batch_size,
        problems=tuple(_problems(ended)),
        load=load,
        counters=_counters(engine),
    )


def turns(variants: Sequence[Any], rounds: int) -> Iterator[tuple[int, Any]]:
    """Who runs when: everybody once a round, and each round begins with another, so that none is always first."""
    for number in range(rounds):
        shift = number % len(variants)
        yield from ((number, variant) for variant in [*variants[shift:], *variants[:shift]])


def _problems(ended: Sequence[Any]) -> Iterator[str]:
    wrong = [request for request in ended if request.outcome is not Outcome.OK]
    if wrong:
        first = wrong[0]
        yield f"{len(wrong)} of {len(ended)} requests were not served as asked: {first.outcome}. {first.error}".strip()


def _counters(engine: Engine) -> dict[str, float]:
    """What only the engine knows."""
    found: dict[str, float] = {"preemptions": engine.scheduler.preemptions}
    manager = engine.scheduler.kv
    if isinstance(manager, PrefixCache) and manager.stats.queries:
        found["prefix_hit_rate"] = manager.stats.hits / manager.stats.queries
    return found
