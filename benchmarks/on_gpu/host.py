"""Where the host's time goes: an engine that times the parts of its own steps."""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple

from on_gpu.bench import Bench
from orcinus.core.batch import Batch, BatchResult, Event
from orcinus.core.engine import Engine
from orcinus.observe.latency import mean, percentile


class Step(NamedTuple):
    """Seconds of the host in one step."""

    planning: float  # from the view to a batch: policy, limits, K/V blocks
    launching: float  # packing it into tensors, and launching what computes it
    waiting: float  # for the device
    reading: float  # the sampled tokens of the oldest batch
    hearing: float  # applying them: outputs, endings, events

    @property
    def working(self) -> float:
        return sum(self) - self.waiting


class WatchedExecutor:
    """An executor, and how long the host was in it. Everything else is the executor's own."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self.submitting = self.collecting = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    def submit(self, batch: Batch) -> None:
        began = perf_counter()
        self._executor.submit(batch)
        self.submitting += perf_counter() - began

    def collect(self) -> BatchResult:
        began = perf_counter()
        result: BatchResult = self._executor.collect()
        self.collecting += perf_counter() - began
        return result

    def totals(self) -> tuple[float, float, float]:
        """Seconds submitting, collecting, and waiting inside of collecting; 0 of an executor that does not say."""
        return self.submitting, self.collecting, getattr(self._executor, "waited", 0.0)


class WatchedEngine(Engine):
    """The same engine over the same scheduler; `steps` has one entry for each of its steps."""

    def __init__(self, engine: Engine) -> None:
        self.spy = WatchedExecutor(engine.executor)
        super().__init__(engine.scheduler, self.spy, engine.clock, engine.observers)
        self.steps: list[Step] = []

    def step(self) -> list[Event]:
        before, began = self.spy.totals(), perf_counter()
        self.dispatch()
        between = perf_counter()
        events = self.settle()
        ended = perf_counter()
        submitted, collected, waited = (b - a for a, b in zip(before, self.spy.totals(), strict=True))
        first, second = between - began - submitted, ended - between - collected
        self.steps.append(Step(first, submitted, waited, collected - waited, second))
        return events


def rows(bench: Bench, steps: list[Step]) -> None:
    """Microseconds of the host for each iteration, by what it did."""
    for name in (*Step._fields, "working"):
        values = [getattr(step, name) * 1e6 for step in steps]
        what = "all but waiting" if name == "working" else name
        bench.row(
            "host time of an iteration, microseconds",
            what=what,
            mean=mean(values),
            median=percentile(values, 50),
            p99=percentile(values, 99),
        )
