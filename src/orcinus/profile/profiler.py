"""Runs iterations of the real engine, with and without timers.

Iterations are whole: planned, packed, computed, chosen, applied. Those without timers say how long an iteration takes; they
alternate with those with timers around every operator, which say where the time goes. So both see the same machine, and
their difference is the cost of the timers.

Contexts are not computed: an executor that only keeps books takes the prompts in, over keys and values that were filled
with numbers. Decodes at 32,768 tokens then start as fast as at 64.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean, median, quantiles
from typing import ClassVar

from orcinus.build import Built
from orcinus.core.batch import Batch, BatchResult
from orcinus.core.engine import Engine
from orcinus.core.policies.phases import by_phase
from orcinus.core.policies.stall_free import StallFree
from orcinus.core.ports import Observer
from orcinus.core.request import Failure, Overlap, Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Unserved
from orcinus.core.view import Grant, Selection, View
from orcinus.errors import ConfigError, EngineError, Stalled
from orcinus.machine_load import cpu_times, load_average, taken, usable_cores
from orcinus.profile.batches import WARM_UPS, ProfiledBatch, check_room
from orcinus.profile.result import BatchProfile, OperatorTime, Profile, doubts
from orcinus.runtime.device import machine_of
from orcinus.runtime.executor import TorchExecutor
from orcinus.runtime.operator_timers import OperatorTimers, Target, operator_targets
from orcinus.runtime.operator_work import MOST, MachineRates, OperatorKind, OperatorWork, measure_rates, operator_work, total
from orcinus.workload.arrival import Arrival
from orcinus.workload.prompts import prompt_ids

FILLER = 0.01  # of keys and values: any number costs the same, but pages that were never written cost nothing
GREEDY = SamplingParams(temperature=0)  # nothing but its length ends an output


def profile(
    built: Built, batches: Sequence[ProfiledBatch], repeats: int, watch: Callable[[int], None] | None = None
) -> Profile:
    """Profile an idle engine of a CPU, with `repeats` iterations of each batch without timers and as many with them.

    `watch` hears how many batches are done. Raises `ConfigError` if a batch does not fit the engine (all are checked before
    one runs), and `EngineError` if an iteration fails.
    """
    resolved, config = built.resolved, built.plan.config
    for batch in batches:
        check_room(batch, resolved, repeats)
    profiler, measured = _Profiler(built), list[_Measured]()
    load, before = load_average(), cpu_times()
    for batch in batches:
        measured.append(profiler.measure(batch, repeats))
        if watch is not None:
            watch(len(measured))
    others = taken(before, cpu_times(), usable_cores())
    found = tuple(_profile_of(each, _best_rates(each, measured)) for each in measured)
    return Profile(
        model=str(config.model or "the bundled model") + (f" at {resolved.revision}" if resolved.revision else ""),
        machine=machine_of(resolved.device),
        dtype=resolved.numbers,
        attention=resolved.attention,
        batches=found,
        doubts=tuple(doubts(load, others, found)),
    )


@dataclass(frozen=True, slots=True)
class _Contexts:
    """The policy that takes prompts in, whole or up to a token; it runs no decode."""

    holds_answers: ClassVar[bool] = False
    end: int | None = None

    def select(self, view: View) -> Selection:
        _, prompts = by_phase(view.running)
        return Selection(Grant(request, True, self._left(request)) for request in chain(prompts, view.waiting))

    def _left(self, request: Request) -> int | None:
        return None if self.end is None else self.end - request.computed


class _Bookkeeper:
    """An executor that runs nothing: the real one's requests get their blocks, and a token of no meaning."""

    depth, overlap = 1, Overlap(False, False)

    def __init__(self, executor: TorchExecutor) -> None:
        self._requests, self._batch = executor.requests, Batch(0, ())

    def submit(self, batch: Batch) -> None:
        self._requests.apply(batch)
        self._batch = batch

    def collect(self) -> BatchResult:
        batch = self._batch
        result = BatchResult(batch.id, tuple((0,) if chunk.samples else () for chunk in batch.chunks))
        self._requests.receive(batch, result)
        return result

    def close(self) -> None:
        """Nothing to close."""


class _LastBatch(Observer):
    """Keeps the batch launched last, and why an iteration failed."""

    batch = Batch(0, ())
    failure: Failure | None = None

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.batch = batch

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        self.failure = next(iter(result.errors.values()), self.failure)


@dataclass(frozen=True, slots=True)
class _TimedIteration:
    """One iteration with timers."""

    seconds: dict[OperatorKind, float]
    calls: dict[OperatorKind, int]

    @property
    def total(self) -> float:
        return sum(self.seconds.values())


@dataclass(frozen=True, slots=True)
class _Measured:
    """The iterations of one batch, in seconds; the work of a middle one; the rates of the machine meanwhile."""

    batch: ProfiledBatch
    whole: list[float]
    timed: list[_TimedIteration]
    work: dict[OperatorKind, OperatorWork]
    rates: MachineRates

    @property
    def num_bytes(self) -> int:
        return total(self.work.values()).num_bytes


class _Profiler:
    """Runs batches on an engine."""

    def __init__(self, built: Built) -> None:
        executor = built.engine.executor
        assert isinstance(executor, TorchExecutor), "one device, in this process"
        self._engine, self._executor, self._vocab_size = built.engine, executor, built.resolved.vocab_size
        self._kv_cache_dtype = built.resolved.kv_cache_dtype
        self._quantization = built.resolved.quantization
        self._numbers = itertools.count(time.time_ns())  # so that no prompt is in the prefix cache
        self._whole = StallFree(built.resolved.limits.max_batch_tokens)
        self._timers = OperatorTimers(targets_of(built.engine))
        self._step = self._timers.timed(built.engine.step, OperatorKind.BETWEEN)
        for layer in executor.kv:
            layer.fill_(FILLER)

    def measure(self, batch: ProfiledBatch, repeats: int) -> _Measured:
        """Measure one batch, from an idle engine to an idle engine.

        Raises `EngineError` if an iteration fails.
        """
        last, model = _LastBatch(), self._executor.model
        self._engine.observers.append(last)
        whole, timed, works = list[float](), list[_TimedIteration](), list[dict[OperatorKind, OperatorWork]]()
        try:
            self._take_in(batch, repeats)
            for _ in range(WARM_UPS):
                self._next(batch)
                self._engine.step()
            for _ in range(repeats):
                self._next(batch)
                began = time.perf_counter()
                self._engine.step()
                whole.append(time.perf_counter() - began)
                self._next(batch)
                with self._timers as timers:
                    self._step()
                timed.append(_TimedIteration(timers.seconds, timers.calls))
                works.append(operator_work(model, last.batch.chunks, self._kv_cache_dtype))
        finally:
            self._engine.observers.remove(last)
            for request in self._engine.scheduler.running:
                self._engine.cancel(request.id)
        if last.failure is not None:
            raise EngineError(f"a {batch.name} failed, so it was not measured: {last.failure.text}")
        work = works[repeats // 2]  # where decodes have the context that was asked for
        rates = measure_rates(model.dtype, total(work.values()).num_bytes, quantization=self._quantization)
        return _Measured(batch, whole, timed, work, rates)

    def _next(self, batch: ProfiledBatch) -> None:
        """Submit the next prompt, up to its chunk; decodes go on by themselves."""
        if batch.prompt:
            self._submit(1, *batch.prompt_lengths)
            if batch.start:
                self._keep_books(
                    batch, _Contexts(batch.start), lambda request: request.decoding or request.computed == batch.start
                )

    def _take_in(self, batch: ProfiledBatch, repeats: int) -> None:
        """Bring the requests that decode to their contexts."""
        if batch.decodes:
            self._submit(batch.decodes, *batch.decode_lengths(repeats))
            self._keep_books(batch, _Contexts(), lambda request: request.decoding)
        self._engine.use(self._whole)

    def _keep_books(self, batch: ProfiledBatch, policy: _Contexts, done: Callable[[Request], bool]) -> None:
        """Run iterations without computing them, until all requests are done.

        Raises `ConfigError` if some of them get no K/V memory.
        """
        engine, scheduler = self._engine, self._engine.scheduler
        engine.executor = _Bookkeeper(self._executor)
        engine.use(policy)
        try:
            while scheduler.num_waiting or not all(map(done, scheduler.running)):
                engine.step()
        except Stalled:
            for request in scheduler.order.first(scheduler.num_waiting):
                engine.cancel(request.id)
            raise ConfigError(
                f"this K/V manager has no room for a {batch.name}: lower --batch-size or --context, raise --num-blocks, or "
                "choose --kv paged"
            ) from None
        finally:
            engine.executor = self._executor
            engine.use(self._whole)

    def _submit(self, count: int, prompt: int, output: int) -> None:
        for number in itertools.islice(self._numbers, count):
            ids = prompt_ids(Arrival(0.0, prompt, output), number, self._vocab_size)
            self._engine.submit(Request(f"profile-{number}", ids, replace(GREEDY, max_tokens=output), 0.0))


def targets_of(engine: Engine) -> list[Target]:
    """Where the parts of an engine's iteration are called."""
    assert isinstance(engine.executor, TorchExecutor)
    planning = (engine.scheduler, "plan", OperatorKind.PLANNING), (engine.scheduler, "apply", OperatorKind.APPLYING)
    return [*planning, *operator_targets(engine.executor)]


def _best_rates(one: _Measured, all_of_them: Sequence[_Measured]) -> MachineRates:
    """The best rates seen: bandwidths over no fewer bytes are reached by fewer, too."""
    larger = [each.rates.bytes_per_s for each in all_of_them if each.num_bytes >= min(one.num_bytes, MOST)]
    return MachineRates(max(larger), max(each.rates.operations_per_s for each in all_of_them))


def _profile_of(measured: _Measured, rates: MachineRates) -> BatchProfile:
    low, middle, high = quantiles(measured.whole, n=4, method="inclusive")
    operators = _operators(measured, rates)
    return BatchProfile(
        batch=measured.batch,
        tokens=measured.batch.tokens,
        seconds=middle,
        quartiles=(low, high),
        timed_seconds=median(each.total for each in measured.timed),
        iterations=len(measured.whole),
        bytes_per_s=rates.bytes_per_s,
        operations_per_s=rates.operations_per_s,
        floor_seconds=sum(each.floor_seconds for each in operators),
        operators=operators,
    )


def _operators(measured: _Measured, rates: MachineRates) -> tuple[OperatorTime, ...]:
    """The division of an iteration: means over the middle half of the timed ones, so that the parts add up."""
    ranked, cut = sorted(measured.timed, key=lambda each: each.total), len(measured.timed) // 4
    middle = ranked[cut : len(ranked) - cut]
    whole, found = fmean(each.total for each in middle), []
    for kind in OperatorKind:
        calls, seconds = middle[0].calls[kind], fmean(each.seconds[kind] for each in middle)
        work = measured.work.get(kind, OperatorWork(calls))
        if calls:
            floor = rates.floor(work)
            found.append(OperatorTime(str(kind), calls, seconds, seconds / whole, work.num_bytes, work.operations, floor))
    return tuple(found)
