"""Studies: small versions of papers' experiments on a real model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from orcinus.bench.measure import metrics
from orcinus.bench.offline import Engines, EngineSystem
from orcinus.bench.requests import BenchRequest, describe
from orcinus.bench.result import Result
from orcinus.bench.runner import Bar, Point, System, make_result, measure_points, no_bar
from orcinus.build import Progress as Loading
from orcinus.build import silent
from orcinus.config import EngineConfig
from orcinus.papers.findings import Finding
from orcinus.papers.measured.readings import whole
from orcinus.runtime.hub import model_name
from orcinus.workload.processes import AllAtOnce
from orcinus.workload.workload import Workload

SEED = 0


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """The measurements to make, with every request listed once."""

    points: Sequence[Point]
    requests: Sequence[BenchRequest]


class Study(Protocol):
    """A small version of an experiment; its fields are its settings."""

    name: ClassVar[str]
    paper: ClassVar[str]
    figure: ClassVar[str]  # of the paper
    expected: ClassVar[str]  # the shape that was published, in a sentence
    here: ClassVar[str]  # what is different with a small model on a CPU
    workload: ClassVar[str]  # how long requests are, in words
    arrivals: ClassVar[str]  # when they come

    def configs(self, model: str | None) -> Mapping[str, EngineConfig]:
        """The systems to compare, over the same weights and K/V memory."""
        ...

    def prepare(self, engines: Engines, bar: Bar) -> StudyPlan:
        """The measurements to make, at rates found by a short run."""
        ...

    def read(self, result: Result) -> Finding:
        """The finding. Every side of the result has a complete valid repeat."""
        ...


def run_study(study: Study, model: str | None, repeats: int, *, loading: Loading = silent, bar: Bar = no_bar) -> Result:
    """Load the model, find the rates, measure all systems in turn.

    Ctrl-C ends it and keeps the measurements so far. Raises `ConfigError` before anything runs.
    """
    configs = study.configs(model)
    engines = Engines(configs, loading)
    try:
        prepared = study.prepare(engines, bar)
    except KeyboardInterrupt:
        prepared = StudyPlan((), ())
    most = max((point.workload.requests or 0 for point in prepared.points), default=0)
    sides, complete = measure_points(prepared.points, repeats, most, bar) if prepared.points else ([], False)
    model_id = model_name(next(iter(configs.values())).model)
    work = describe(prepared.requests, workload=study.workload, arrivals=study.arrivals, seed=SEED, model=model_id)
    return make_result("papers", work, sides, complete=complete)


def run_studies(
    studies: Sequence[Study], model: str | None, repeats: int, *, loading: Callable[[], Loading], bar: Bar = no_bar
) -> Iterator[tuple[Study, Result]]:
    """Run studies one after another, until one is interrupted."""
    for study in studies:
        result = run_study(study, model, repeats, loading=loading(), bar=bar)
        yield study, result
        if not result.complete:
            return


def read_study(study: Study, result: Result) -> Finding | None:
    """The finding of a result; None if a side was not measured."""
    measured = result.sides and all(whole(side) for side in result.sides)
    return study.read(result) if measured else None


def points_of(engines: Engines, workload: Workload, requests: Sequence[BenchRequest]) -> list[Point]:
    """A point for every system, with the same workload."""
    systems = [EngineSystem(name, engines, requests) for name in engines.configs]
    return [Point(system.name, system, workload, system.settings) for system in systems]


def capacity(system: System, workload: Workload) -> float:
    """Requests per second when all requests arrive at the start.

    The better of two short runs, since disturbances only make a machine slower.
    """
    system.warm_up(workload)
    return max(metrics(system.measure(replace(workload, arrivals=AllAtOnce())))["request_throughput"] for _ in range(2))
