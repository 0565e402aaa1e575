"""A calibrated simulation beside the real engine, on the same requests.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/simulation_accuracy.py [--own-time] [--loads 0.3,0.6,0.9]

Every real run stands between two calibrations, and is simulated with each of them: how far the two simulations lie apart
shows how much the machine changed meanwhile. It is simulated a third time with costs fitted on its own iterations, which
know how fast the machine was: what error is left is that of the model and of the simulator. Loads are shares of the rate at
which the simulated engine is saturated, by the calibration before. Loads take turns; ratios are medians over the
repetitions. `--calibration` uses one file for all.

A real run is one thread that submits what is due and steps the engine. Times are those of the engine's clock, from the
moment that a request was due: planning, packing, the model, sampling and the time that a due request waits for the end of
an iteration (or for half a millisecond of sleep, if the engine is idle) are in them; HTTP and detokenization are not.

With `--own-time` the engine's clock counts the seconds in which its thread ran, on both sides, so that neighbours who take
the processor away do not count (those who take its caches still do): for machines that are never quiet. It needs a
model and an engine of one thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_loop import offer

from orcinus import LLM
from orcinus.calibrate import IterationSampler, calibrate
from orcinus.cost.calibration import read_calibration
from orcinus.cost.fitted import FittedCost, fit
from orcinus.observe.latency import percentile
from orcinus.sim.config import SimulationConfig
from orcinus.sim.simulate import simulate, workload_of
from orcinus.workload.prompts import prompt_ids

SIDES = ("real", "before", "after", "during")
METRICS = [(name, p) for name in ("ttft", "tbt", "e2e") for p in (50, 99)]
Figures = list[float]  # seconds, in the order of METRICS


class OwnTime:
    """Seconds in which this thread ran, and those in which it had nothing to do."""

    def __init__(self) -> None:
        self.paused = 0.0

    def now(self) -> float:
        return time.thread_time() + self.paused

    def pause(self, seconds: float) -> None:
        self.paused += seconds


def real(llm: LLM, config: SimulationConfig) -> tuple[Figures, FittedCost]:
    """The workload on the real engine, and what its iterations cost."""
    fresh = itertools.count(time.time_ns())  # no prompt is in the prefix cache from another run
    arrivals = [
        (arrival.at, prompt_ids(arrival, number, llm.resolved.vocab_size), arrival.output_tokens)
        for number, arrival in zip(fresh, workload_of(config), strict=False)
    ]
    clock, iterations = llm.engine.clock, IterationSampler()

    def pause(seconds: float) -> None:
        iterations.pause()
        (clock.pause if isinstance(clock, OwnTime) else time.sleep)(seconds)

    watch = offer(llm, arrivals, llm.default_params, pause, [iterations])
    return [percentile(getattr(watch, name)(), p) for name, p in METRICS], fit(iterations.found)


def simulated(config: SimulationConfig) -> Figures:
    metrics = simulate(config).metrics
    return [getattr(metrics, name).percentile(p) for name, p in METRICS]


def saturated(config: SimulationConfig) -> float:
    """Requests a second that the simulated engine completes when it is never idle."""
    metrics = simulate(replace(config, arrivals="all-at-once", requests=400)).metrics
    return metrics.served / metrics.span


class Bench:
    """Real runs between calibrations."""

    def __init__(self, options: argparse.Namespace, llm: LLM, folder: Path) -> None:
        self.options, self.llm, self.folder = options, llm, folder
        self.calibrations = 0
        self.config = SimulationConfig(
            device=str(options.calibration or self.calibrate()),
            policy=str(llm.config.policy),
            kv=llm.resolved.kv,
            lengths=options.lengths,
        )

    def calibrate(self) -> Path:
        """A calibration of this moment, in a file."""
        if self.options.calibration:
            return Path(self.options.calibration)
        self.calibrations += 1
        path = self.folder / f"{self.calibrations}.json"
        calibrate(self.llm, self.options.calibrate_seconds).write(path)
        return path

    def run(self, load: float, seed: int) -> dict[str, Any]:
        """One workload: real, and simulated with the calibrations before and after it."""
        rate = load * saturated(self.config)
        config = replace(
            self.config, arrivals=f"poisson:rate={rate}", requests=max(20, int(rate * self.options.seconds)), seed=seed
        )
        (seen, cost), before = real(self.llm, config), simulated(config)
        own = self.folder / "own.json"
        replace(read_calibration(Path(config.device)), cost=cost).write(own)
        self.config = replace(self.config, device=str(self.calibrate()))
        after, during = (simulated(replace(config, device=device)) for device in (self.config.device, str(own)))
        sides = {"real": seen, "before": before, "after": after, "during": during}
        return {"load": load, "seed": seed, "rate": rate, "requests": config.requests, **sides}


def show(run: dict[str, Any]) -> None:
    """One repetition, in milliseconds: real / simulated with the costs before / after / of the run itself."""
    sides = zip(METRICS, *(run[name] for name in SIDES), strict=True)
    cells = [f"{name} p{p} {'/'.join(f'{value * 1e3:.3g}' for value in values)}" for (name, p), *values in sides]
    print(f"load {run['load']:.0%} = {run['rate']:.1f}/s, {run['requests']} requests: {'  '.join(cells)}", flush=True)


def summary(runs: Sequence[dict[str, Any]]) -> None:
    """Medians over the repetitions of one load; a simulation's value is the geometric mean of before and after."""
    rate = statistics.median(run["rate"] for run in runs)
    print(f"\nload {runs[0]['load']:.0%}, {rate:.1f} requests/s\n{'':12}{'real ms':>10}{'simulated ms':>14}", end="")
    print(f"{'real / simulated':>18}{'real / by own costs':>21}{'after / before (least to most)':>32}")
    for place, (name, p) in enumerate(METRICS):
        sides = [[run[side][place] for side in SIDES] for run in runs]
        seen = statistics.median(r for r, *_ in sides) * 1e3
        expected = statistics.median((b * a) ** 0.5 for _, b, a, _ in sides) * 1e3
        ratio = statistics.median(r / (b * a) ** 0.5 for r, b, a, _ in sides)
        own = statistics.median(r / d for r, _, _, d in sides)
        drifts = [a / b for _, b, a, _ in sides]
        print(f"  {name} p{p:<4}{seen:10.2f}{expected:14.2f}{ratio:18.2f}{own:21.2f}{min(drifts):24.2f} to {max(drifts):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="A calibrated simulation beside the real engine.")
    parser.add_argument("--calibration", type=Path, help="a file of orcinus calibrate, instead of one around every run")
    parser.add_argument("--calibrate-seconds", type=float, default=10.0)
    parser.add_argument("--own-time", action="store_true", help="count the seconds in which the engine's thread ran")
    parser.add_argument("--loads", default="0.3,0.6,0.9", help="shares of the saturated rate")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the stream of arrivals")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lengths", default="orca")
    parser.add_argument("--model")
    parser.add_argument("--max-batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    if options.own_time and os.environ.get("OMP_NUM_THREADS") != "1":
        parser.error("--own-time counts one thread: set OMP_NUM_THREADS=1 and NUMBA_NUM_THREADS=1")
    loads, runs = [float(load) for load in options.loads.split(",")], []
    with tempfile.TemporaryDirectory() as folder, LLM(options.model, max_batch_size=options.max_batch_size) as llm:
        if options.own_time:
            llm.engine.clock = OwnTime()
        bench = Bench(options, llm, Path(folder))
        for seed in range(options.repeats):
            for load in loads:
                runs.append(bench.run(load, seed))
                show(runs[-1])
        measured = read_calibration(Path(bench.config.device))
    for load in loads:
        summary([run for run in runs if run["load"] == load])
    if options.out:
        setup = {"machine": measured.machine, "model": measured.model, "max_batch_size": measured.limits.max_batch_size}
        setup |= {"policy": bench.config.policy, "lengths": options.lengths, "seconds": options.seconds}
        options.out.write_text(json.dumps({**setup, "metrics": METRICS, "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
