"""The simulator's speed: iterations and requests per CPU second.

    python benchmarks/simulator.py [--million] [--profile NAME]

`fixed` runs have 32 requests in every batch and iterations that all cost the same, so that nothing but the engine and
the simulator is measured: with answers of 1,000 tokens, of ShareGPT's lengths, and of the Orca paper's (64 tokens on
average: a request joins or leaves in every other iteration). `orca-175b` is Orca's trace of 10,000 requests on GPT-3 175B.
`eight-replicas` serves 100,000 requests on 8 replicas of Llama-2-7B, and `--million` a million on 64, with the resident set
after each 100,000. Memory is the greatest resident set, in MiB, of a process for each run.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import resource
import time
from collections.abc import Callable
from pathlib import Path

from orcinus.core.view import Limits
from orcinus.cost.work import FixedCost
from orcinus.observe.metrics import MetricsObserver
from orcinus.sim.clock import VirtualClock
from orcinus.sim.config import SimulationConfig
from orcinus.sim.repeats import RepeatMetrics
from orcinus.sim.replica import Replica
from orcinus.sim.simulate import simulate
from orcinus.sim.simulation import Simulation, make_router
from orcinus.workload.source import source_of
from orcinus.workload.workload import make_workload

LIMITS = Limits(max_batch_size=32, max_batch_tokens=32 * 8192, max_model_len=8192)


def fixed(lengths: str, requests: int) -> MetricsObserver:
    """All requests at once, whole prompts, memory for all: batches of 32 until the end."""
    clock, metrics = VirtualClock(), RepeatMetrics(LIMITS)
    named = {"policy": "orca", "order": "fcfs", "kv": "paged"}
    replica = Replica(0, FixedCost(0.01), clock, **named, limits=LIMITS, num_blocks=40_000, block_size=16, observers=[metrics])
    Simulation([replica], make_router("round-robin"), clock).run(source_of(make_workload("all-at-once", lengths, requests)))
    return metrics


def orca_175b() -> MetricsObserver:
    """10,000 requests of Orca's trace at 6 a second on 16 A100s."""
    layout = {"model": "gpt3-175b", "device": "a100-40g", "network": "a100-nd96asr", "tp": 8, "pp": 2}
    config = SimulationConfig(
        **layout, paper="orca", max_batch_size=32, arrivals="poisson:rate=6", lengths="orca", requests=10_000
    )
    return simulate(config).metrics


def eight_replicas() -> MetricsObserver:
    """100,000 requests of Orca's lengths on 8 replicas of a 7B model."""
    config = SimulationConfig(
        model="llama-2-7b", replicas=8, arrivals="poisson:rate=75", lengths="orca", requests=100_000, max_batch_size=64
    )
    return simulate(config).metrics


def million() -> MetricsObserver:
    """A million requests of Orca's lengths on 64 replicas of a 7B model."""
    config = SimulationConfig(
        model="llama-2-7b", replicas=64, arrivals="poisson:rate=600", lengths="orca", requests=1_000_000, max_batch_size=64
    )
    return simulate(config, watch=print_memory).metrics


def print_memory(ended: int) -> None:
    """The resident set of this process, after each 100,000 requests that have ended."""
    if ended % 100_000 == 0:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print(f"{ended:31,} requests ended: {pages * resource.getpagesize() / 2**20:.1f} MiB", flush=True)


RUNS: dict[str, Callable[[], MetricsObserver]] = {
    "fixed-1000": lambda: fixed("fixed:tokens=100,fixed:tokens=1000", 1000),
    "fixed-sharegpt": lambda: fixed("sharegpt", 1000),
    "fixed-orca": lambda: fixed("orca", 5000),
    "orca-175b": orca_175b,
    "eight-replicas": eight_replicas,
}


def measure(name: str, profile: bool) -> None:
    """Run one and print what it took."""
    run = million if name == "million" else RUNS[name]
    profiler = cProfile.Profile()
    began, cpu = time.perf_counter(), time.process_time()
    metrics = profiler.runcall(run) if profile else run()
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:15} {metrics.iterations:9,} iterations, {metrics.served:9,} requests, batch {metrics.batch_size.mean:4.1f}: "
        f"{cpu:6.1f} s CPU ({wall:.1f} s), "
        f"{metrics.iterations / cpu:9,.0f} iterations/s, {metrics.served / cpu:7,.0f} requests/s, {peak:.0f} MiB",
        flush=True,
    )
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--million", action="store_true", help="serve a million requests too (minutes)")
    parser.add_argument("--profile", metavar="NAME", choices=[*RUNS, "million"], help="say where the time of one run goes")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.profile:
        measure(arguments.profile, profile=True)
        return
    spawn = multiprocessing.get_context("spawn")
    for name in [*list(RUNS) * arguments.repeats, *(["million"] if arguments.million else [])]:
        child = spawn.Process(target=measure, args=(name, False))
        child.start()
        child.join()


if __name__ == "__main__":
    main()
