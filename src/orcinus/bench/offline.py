"""Measures engine configurations in this process, sharing one model."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from orcinus.bench.config import LoadConfig, work_of
from orcinus.bench.driver import EngineDriver, IterationObserver, request_name
from orcinus.bench.measure import read_slo
from orcinus.bench.record import Repeat, RequestOutcome, RequestRecord
from orcinus.bench.requests import BenchRequest, check_lengths, make_requests
from orcinus.bench.result import Result, Setting, Work
from orcinus.bench.runner import Bar, Interrupted, make_result, measure_sides, no_bar
from orcinus.build import Progress as Loading
from orcinus.build import build, silent
from orcinus.config import EngineConfig
from orcinus.core.component_spec import spell
from orcinus.core.engine import Engine
from orcinus.machine_load import load_average
from orcinus.plan import make_plan
from orcinus.runtime.hub import model_name
from orcinus.workload.processes import AllAtOnce
from orcinus.workload.source import source_of
from orcinus.workload.workload import Workload

Watch = Callable[[int], None]


class Engines:
    """A model that serves under one of several named configurations.

    The K/V memory is the same for all: enough for the largest batch, unless the configs set it. Raises `ConfigError`.
    """

    def __init__(self, configs: Mapping[str, EngineConfig], progress: Loading = silent) -> None:
        self.configs = dict(configs)
        for config in configs.values():
            make_plan(config).check()  # report mistakes before the model is loaded
        self.built = build(max(configs.values(), key=lambda config: config.max_batch_size), progress=progress)
        self.settings = {name: self._settings(name) for name in configs}

    def engine(self, name: str) -> Engine:
        """An engine without requests, with an empty prefix cache."""
        return self.built.another(self.configs[name])

    def requests(self, workload: Workload) -> list[BenchRequest]:
        """The requests for this model. Raises `ConfigError` for an impossible one."""
        made = make_requests(workload, self.built.resolved.vocab_size)
        for name in self.configs:
            limits, kv = (engine := self.engine(name).scheduler).limits, engine.kv
            check_lengths(made, min(limits.max_model_len, kv.num_blocks * kv.block_size))
        return made

    def _settings(self, name: str) -> dict[str, Setting]:
        scheduler, resolved = self.engine(name).scheduler, self.built.resolved
        limits = scheduler.limits
        return {
            "policy": spell(scheduler.policy),
            "order": self.configs[name].order,
            "kv": self.configs[name].kv,
            "speculative": self.configs[name].speculative,
            "max_batch_size": limits.max_batch_size,
            "max_batch_tokens": limits.max_batch_tokens,
            "max_model_len": limits.max_model_len,
            "num_blocks": resolved.num_blocks,
            "block_size": resolved.block_size,
            "dtype": resolved.dtype,
            "quantization": resolved.quantization,
            "kv_cache_dtype": resolved.kv_cache_dtype,
            "deterministic": resolved.deterministic,
            "device": resolved.device,
            "attention": resolved.attention,
            "revision": resolved.revision,
            "load_format": self.built.plan.config.load_format,
        }


@dataclass(frozen=True, slots=True)
class EngineSystem:
    """A configuration of the engine, with the requests it will serve."""

    name: str
    engines: Engines
    requests: Sequence[BenchRequest]

    @property
    def settings(self) -> dict[str, Setting]:
        return self.engines.settings[self.name]

    def measure(self, workload: Workload, number: int = 0, watch: Watch | None = None) -> Repeat:
        return serve(self.engines.engine(self.name), workload, self.requests, number, watch)

    def warm_up(self, workload: Workload) -> None:
        """Serve one batch: the first product of each shape takes longer."""
        size = self.engines.configs[self.name].max_batch_size
        self.measure(replace(workload, arrivals=AllAtOnce(), requests=min(size, len(self.requests))))


def engine_systems(
    configs: Mapping[str, EngineConfig], load: LoadConfig, loading: Loading = silent
) -> tuple[list[EngineSystem], Work]:
    """A system per configuration, and their work. Raises `ConfigError`."""
    first = next(iter(configs.values()))
    workload = load.make(first.seed)
    engines = Engines(configs, loading)
    requests = engines.requests(workload)
    return [EngineSystem(name, engines, requests) for name in configs], work_of(
        load, first.seed, requests, model_name(first.model)
    )


def run_offline(
    configs: Mapping[str, EngineConfig], load: LoadConfig, *, loading: Loading = silent, bar: Bar = no_bar
) -> Result:
    """Serve the same requests with every configuration in turn.

    Ctrl-C ends it and keeps the measurements so far. Raises `ConfigError` before anything runs.
    """
    slo = read_slo(load.goodput)
    systems, work = engine_systems(configs, load, loading)
    sides, complete = measure_sides(systems, load.make(work.seed), load.repeats, work.requests, bar)
    return make_result("offline", work, sides, objectives=dict(slo.bounds), complete=complete)


def serve(
    engine: Engine, workload: Workload, requests: Sequence[BenchRequest], number: int = 0, watch: Watch | None = None
) -> Repeat:
    """Serve a whole workload with an empty engine, in round `number`.

    Raises `Interrupted` at Ctrl-C.
    """
    load = load_average()
    gc.collect()
    drive = EngineDriver(engine, source_of(workload), requests, watch=watch)
    iterations = IterationObserver()
    engine.observers.append(iterations)

    def repeat() -> Repeat:
        return _repeat(engine, drive, iterations, number, load)

    try:
        drive.run()
    except KeyboardInterrupt:
        raise Interrupted(repeat()) from None
    if engine.dropped_observers:
        raise engine.dropped_observers[0][1]
    return repeat()


def _repeat(engine: Engine, drive: EngineDriver, iterations: IterationObserver, number: int, load: float | None) -> Repeat:
    """The repeat up to now, from the requests that have ended."""
    cached, numbered = iterations.cached_tokens(), sorted(drive.ended, key=lambda request: request.number)
    if engine.scheduler.kv.stats is not None:
        numbered = [replace(each, cached_tokens=cached.get(request_name(each.number))) for each in numbered]
    ended = tuple(numbered)
    return Repeat(
        round=number,
        seconds=max((request.ended for request in ended), default=0.0),
        requests=ended,
        iterations=iterations.since(drive.start),
        slots=engine.scheduler.limits.max_batch_size,
        problems=tuple(_problems(ended)),
        load=load,
        counters=_counters(engine, iterations),
    )


def _counters(engine: Engine, iterations: IterationObserver) -> dict[str, float]:
    counted: dict[str, float] = {"preemptions": engine.scheduler.admission.preemptions}
    if engine.scheduler.drafter is not None:
        counted |= {"draft_tokens": iterations.draft_tokens, "accepted_draft_tokens": iterations.accepted_draft_tokens}
    return counted


def _problems(ended: Sequence[RequestRecord]) -> Iterator[str]:
    wrong = [request for request in ended if request.outcome is not RequestOutcome.OK]
    if wrong:
        first = wrong[0]
        yield f"{len(wrong)} of {len(ended)} requests were not served as asked: {first.outcome}. {first.error}".strip()
