"""Tensor ranks against threads, and a pipeline's bubbles against the simulator's.

    python benchmarks/parallel.py [tp] [pp] [--rounds 7] [--iterations 8] [--quick]

tp: two ranks of one thread each against one process of two threads, in turn, on Qwen3-0.6B's geometry with made-up weights.
pp: two stages of one thread each serve the same requests with whole prompts (`orca`) and with chunks (`sarathi`), in turn.
Busy times and bubbles are from the ranks' own clocks. Beside them stands what the simulator says for stage costs fitted to
these times. `--quick` runs both with toy models, to see that everything works.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numba
import torch
from on_gpu.geometry import QWEN, TOY_QWEN, Geometry

from orcinus import LLM, SamplingParams
from orcinus.core.batch import Batch
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Observer
from orcinus.core.request import Request
from orcinus.core.scheduler import Scheduler
from orcinus.core.unserved import Unserved
from orcinus.cost.fitted import FittedCost, IterationSample, fit
from orcinus.cost.work import IterationWork, work_of
from orcinus.machine_load import cpu_times, load_average, taken, usable_cores
from orcinus.observe.interval import median_interval
from orcinus.runtime.parallel.executor import ParallelExecutor
from orcinus.runtime.parallel.messages import BatchTime
from orcinus.sim.clock import VirtualClock
from orcinus.sim.executor import SimulatedExecutor

RANKS = 2  # tensor ranks, threads and stages
SMALL = replace(
    TOY_QWEN, name="8 layers of 512", layers=8, hidden=512, heads=8, kv_heads=4, head_dim=64, ffn=1536, vocab=32_000
)
NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is measured."""

    tensor: Geometry
    decodes: int
    iterations: int  # of each turn
    pipeline: Geometry
    requests: int
    prompts: tuple[int, int]  # shortest and longest
    answers: tuple[int, int]
    chunk: int
    batch: int  # requests


FULL = Sizes(
    tensor=QWEN, decodes=8, iterations=8, pipeline=SMALL, requests=16, prompts=(64, 384), answers=(8, 32), chunk=64, batch=4
)
QUICK = replace(FULL, tensor=TOY_QWEN, pipeline=TOY_QWEN, prompts=(8, 48), chunk=16)


@contextmanager
def model(geometry: Geometry, **options: Any) -> Iterator[LLM]:
    """An engine of this geometry with made-up weights; each rank has one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of ranks, which start now
    with (
        tempfile.TemporaryDirectory() as folder,
        LLM(geometry.write(Path(folder), 1024, "float32"), load_format="dummy", kv="paged", block_size=16, **options) as llm,
    ):
        yield llm


def requests(count: int, prompts: tuple[int, int], answers: tuple[int, int], vocab: int, seed: int) -> list[Request]:
    """Requests with lengths of these ranges, the same for the same seed but for their ids."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        prompt = tuple(rng.randrange(vocab) for _ in range(rng.randint(*prompts)))
        params = SamplingParams(temperature=0, max_tokens=rng.randint(*answers))
        made.append(Request(f"request-{next(NUMBERS)}", prompt, params, 0.0))
    return made


def told(values: Sequence[float], shape: str = ".2f") -> str:
    """The median and its interval."""
    found = median_interval(values)
    return f"{found.median:{shape}} ({found.low:{shape}} to {found.high:{shape}})"


def tell(line: str) -> None:
    """Progress, apart from the results; round 0 warms up."""
    print(line, file=sys.stderr, flush=True)


# ---- tensor parallel


def decoding_ms(llm: LLM, sizes: Sizes) -> list[float]:
    """Milliseconds of each iteration of decodes alone."""
    engine = llm.engine
    length = sizes.iterations + 2
    for request in requests(sizes.decodes, (16, 16), (length, length), sizes.tensor.vocab, 0):
        engine.submit(request)
    times = []
    while engine.scheduler.num_waiting or not all(request.decoding for request in engine.scheduler.running):
        engine.step()
    while not engine.idle:
        began = time.perf_counter()
        engine.step()
        times.append(1e3 * (time.perf_counter() - began))
    return times


def compare_tensor(sizes: Sizes, rounds: int, dtype: str) -> None:
    """Print both sides, and where the ranks' time goes."""
    torch.set_num_threads(RANKS)
    numba.set_num_threads(min(RANKS, numba.get_num_threads()))
    options: dict[str, Any] = {"dtype": dtype, "max_batch_size": sizes.decodes, "num_blocks": 8 * sizes.decodes}
    with model(sizes.tensor, **options) as alone, model(sizes.tensor, tp=RANKS, **options) as ranks:
        sides = {"threads": alone, "ranks": ranks}
        medians: dict[str, list[float]] = {name: [] for name in sides}
        parts: list[tuple[float, float, float]] = []
        batch_times = mesh_of(ranks).time_batches()
        for turn in range(-1, rounds):  # the first warms up
            for name in list(sides)[:: 1 if turn % 2 else -1]:
                batch_times.clear()
                found = median(decoding_ms(sides[name], sizes))
                tell(f"round {turn + 1}, {name}: {found:.1f} ms an iteration")
                reports = settled(ranks.engine, batch_times, RANKS) if name == "ranks" else []
                if turn >= 0:
                    medians[name].append(found)
                    if reports:
                        parts.append(where_time_goes(reports, found))
        print(f"tensor parallel: {sizes.tensor.name}, {alone.resolved.dtype}, {sizes.decodes} decodes, {rounds} rounds")
        print(f"  one process, {RANKS} threads:        {told(medians['threads'])} ms an iteration")
        print(f"  {RANKS} ranks of one thread each:    {told(medians['ranks'])} ms an iteration")
        print(f"  ratio of each round:           {told([b / a for a, b in zip(*medians.values(), strict=True)])}")
        names = "computing on rank 0", "in collectives on rank 0", "between engine and rank 0"
        for name, values in zip(names, zip(*parts, strict=True), strict=True):
            print(f"  {name + ':':30} {told(values)} ms an iteration")


def where_time_goes(times: Sequence[BatchTime], iteration_ms: float) -> tuple[float, float, float]:
    """Median milliseconds of rank 0's decodes: computing, in collectives, and the rest of the iteration."""
    mine = [one for one in times if one.rank == 0][1:]  # without the prompts
    whole = median(1e3 * (one.ended - one.began) for one in mine)
    waited = median(1e3 * sum(one.waited.values()) for one in mine)
    return whole - waited, waited, iteration_ms - whole


def mesh_of(llm: LLM) -> ParallelExecutor:
    """The executor of a model on several ranks."""
    assert isinstance(llm.engine.executor, ParallelExecutor)
    return llm.engine.executor


def settled(engine: Engine, times: list[BatchTime], ranks: int) -> list[BatchTime]:
    """All reports, once every rank has reported the engine's last batch.

    That all ranks reported the same batch last is not enough: the rest would be taken for reports of the next run.
    """
    until, newest = time.monotonic() + 10, engine.scheduler.view(engine.clock.now()).number
    while time.monotonic() < until:
        last = [max((one.batch for one in times if one.rank == rank), default=-1) for rank in range(ranks)]
        if min(last) == newest:
            return list(times)
        time.sleep(0.01)
    raise SystemExit("a rank did not report the times of its batches")


# ---- pipeline parallel


class LaunchObserver(Observer):
    """When each batch was launched, and its work."""

    def __init__(self) -> None:
        self.launched: dict[int, tuple[float, IterationWork]] = {}

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.launched[batch.id] = now, work_of(batch)


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """One run of all requests: seconds in all, and of each stage those of work and of bubbles."""

    seconds: float
    busy: tuple[float, ...]
    bubbles: tuple[float, ...]
    turnaround: float = 0.0  # median seconds from a result to the next batch on the first stage

    @property
    def bubble_share(self) -> float:
        return sum(self.bubbles) / (self.seconds * len(self.bubbles))

    @property
    def busy_share(self) -> float:
        return sum(self.busy) / (self.seconds * len(self.busy))


@dataclass(frozen=True, slots=True)
class StageWork:
    """What a stage did with a batch: it could begin when the hidden states were there."""

    batch: int
    began: float
    ended: float


def stage_work(times: Sequence[BatchTime], stages: int) -> list[list[StageWork]]:
    """By stage, in the order of batches, for one rank a stage."""
    found: list[list[StageWork]] = [[] for _ in range(stages)]
    for one in sorted(times, key=lambda one: one.batch):
        found[one.rank].append(StageWork(one.batch, one.began + one.waited.get("recv", 0.0), one.ended))
    return found


def bubbles(work: Sequence[Sequence[StageWork]], launched: Sequence[float]) -> list[float]:
    """Seconds that each stage waited although a batch was in flight, by the simulator's rule.

    `launched` is when each batch was. If the pipeline was empty then, waiting before that is no bubble.
    """
    found = [0.0] * len(work)
    free = [0.0] * len(work)
    for number, launch in enumerate(launched):
        if number == 0 or work[-1][number - 1].ended <= launch:
            free = [max(launch, before) for before in free]
        for stage, batches in enumerate(work):
            found[stage] += max(0.0, batches[number].began - free[stage])
            free[stage] = batches[number].ended
    return found


def turnaround(work: Sequence[Sequence[StageWork]]) -> float:
    """Median seconds from the end of a batch on the last stage to the next on an idle first stage: messages and planning.

    The simulator takes them as 0.
    """
    first, last, depth = work[0], work[-1], len(work)
    gaps = [
        first[number].began - last[number - depth].ended
        for number in range(depth, len(first))
        if first[number - 1].ended <= last[number - depth].ended
    ]
    return median(gaps) if gaps else 0.0


def serve(engine: Engine, sizes: Sizes, seed: int) -> float:
    """Seconds by the engine's clock to serve all requests, which come at once."""
    for request in requests(sizes.requests, sizes.prompts, sizes.answers, sizes.pipeline.vocab, seed):
        engine.submit(request)
    began = engine.clock.now()
    while not engine.idle:
        engine.step()
    return engine.clock.now() - began


@dataclass(frozen=True, slots=True)
class StageCosts:
    """A cost model of a fitted cost for each stage."""

    costs: tuple[FittedCost, ...]

    @property
    def num_stages(self) -> int:
        return len(self.costs)

    def stages(self, work: IterationWork) -> Sequence[float]:
        return [cost.stages(work)[0] for cost in self.costs]


def measured(llm: LLM, sizes: Sizes, seed: int, times: list[BatchTime]) -> tuple[PipelineRun, list[list[IterationSample]]]:
    """One run on the ranks, and the samples of each stage for a fit."""
    watch = LaunchObserver()
    times.clear()
    llm.engine.observers.append(watch)
    seconds = serve(llm.engine, sizes, seed)
    llm.engine.observers.remove(watch)
    work = stage_work(settled(llm.engine, times, RANKS), RANKS)
    batches = [one.batch for one in work[0]]
    waits = bubbles(work, [watch.launched[batch][0] for batch in batches])
    samples = [[IterationSample(watch.launched[one.batch][1], one.ended - one.began) for one in stage] for stage in work]
    busy = tuple(sum(one.ended - one.began for one in stage) for stage in work)
    return PipelineRun(seconds, busy, tuple(waits), turnaround(work)), samples


def simulated(llm: LLM, sizes: Sizes, seed: int, policy: str, cost: StageCosts) -> PipelineRun:
    """The same requests, policy, limits and K/V memory on a virtual clock."""
    resolved, clock = llm.resolved, VirtualClock()
    executor = SimulatedExecutor(cost, clock)
    executor.overlap = llm.engine.executor.overlap  # chunks of one prompt follow each other through the stages
    manager = KV_MANAGERS[resolved.kv](resolved.num_blocks, resolved.block_size, resolved.limits)
    engine = Engine(Scheduler(make_policy(policy), manager, resolved.limits, make_order(resolved.order)), executor, clock)
    return PipelineRun(serve(engine, sizes, seed), tuple(executor.busy), tuple(executor.bubbles))


def compare_pipeline(sizes: Sizes, rounds: int, dtype: str) -> None:
    """Print measured and simulated bubbles of both policies."""
    policies = ("orca", f"sarathi:chunk_size={sizes.chunk}")
    blocks = 2 * sizes.batch * -(-sum(pair[1] for pair in (sizes.prompts, sizes.answers)) // 16)
    limits = {"max_batch_size": sizes.batch, "max_batch_tokens": 2048, "num_blocks": blocks}
    with model(sizes.pipeline, pp=RANKS, dtype=dtype, **limits) as llm:
        times = mesh_of(llm).time_batches()
        runs: dict[str, list[PipelineRun]] = {policy: [] for policy in policies}
        samples: list[list[IterationSample]] = [[] for _ in range(RANKS)]
        for turn in range(-1, rounds):  # the first warms up
            for policy in policies[:: 1 if turn % 2 else -1]:
                llm.engine.use(make_policy(policy))
                run, found = measured(llm, sizes, turn, times)
                tell(f"round {turn + 1}, {policy}: {run.seconds:.2f} s")
                if turn >= 0:
                    runs[policy].append(run)
                    samples = [[*before, *more] for before, more in zip(samples, found, strict=True)]
        cost = StageCosts(tuple(fit(one) for one in samples))
        print(f"pipeline parallel: {sizes.pipeline.name}, {llm.resolved.dtype}, {sizes.requests} requests, {rounds} rounds")
        print(f"  layers of the stages: {', '.join(str(len(stage)) for stage in llm.resolved.stages)}; ", end="")
        print("median error of the fitted costs: " + ", ".join(f"{100 * one.error.median:.0f} %" for one in cost.costs))
        for policy in policies:
            predicted = [simulated(llm, sizes, seed, policy, cost) for seed in range(rounds)]
            for side, found_runs in (("measured", runs[policy]), ("simulated", predicted)):
                print_runs(f"{policy}, {side}", found_runs)
        gaps = [1e3 * run.turnaround for each in runs.values() for run in each]
        print(f"  from a result to the next batch:     {told(gaps)} ms")
        whole, chunks = (runs[policy] for policy in policies)
        print(
            f"  seconds, chunks over whole prompts: {told([b.seconds / a.seconds for a, b in zip(whole, chunks, strict=True)])}"
        )


def print_runs(name: str, runs: Sequence[PipelineRun]) -> None:
    """A line of medians."""
    seconds, bubble = told([run.seconds for run in runs]), told([100 * run.bubble_share for run in runs], ".1f")
    stages = " and ".join(f"{median(run.bubbles[stage] for run in runs):.2f}" for stage in range(RANKS))
    busy = median(100 * run.busy_share for run in runs)
    print(f"  {name:36} {seconds} s, stages busy {busy:.0f} %, bubbles {bubble} % of the time ({stages} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="tp|pp", help="what to measure (default: both)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=FULL.iterations, help="of each turn of tp")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--quick", action="store_true", help="toy models")
    asked = parser.parse_args()
    sizes, parts = replace(QUICK if asked.quick else FULL, iterations=asked.iterations), asked.parts or ["tp", "pp"]
    if unknown := set(parts) - {"tp", "pp"}:
        parser.error(f"unknown part {unknown.pop()!r}: choose tp or pp")
    if min(asked.rounds, asked.iterations) < 1:
        parser.error("--rounds and --iterations must be at least 1")
    print(f"{usable_cores()} cores, load average {load_average()}", flush=True)
    before = cpu_times()
    if "tp" in parts:
        compare_tensor(sizes, asked.rounds, asked.dtype)
    if "pp" in parts:
        compare_pipeline(sizes, asked.rounds, asked.dtype)
    others = taken(before, cpu_times(), usable_cores())  # ranks count as ours: they are waited for
    print(f"load average {load_average()}" + (f"; {others}" if others else ""))


if __name__ == "__main__":
    main()
