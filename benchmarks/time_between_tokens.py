"""Time between tokens under every policy, while long prompts arrive.

    python benchmarks/time_between_tokens.py [--policies a,b,c] [--tbt 0.02] [--repeats 3] [--disturb 4] [--out FILE]

An open stream of short questions with long answers, interrupted by long prompts, on the bundled model; the load changes
in the middle of the run. Every policy serves exactly the same requests, the policies take turns, and the medians over the
repeats are printed. Arrivals are fixed moments, so a slow policy falls behind, as it would in production.

`--disturb N` keeps N other processes busy during the middle third of every run. The columns "after" are of requests that
arrive in the last third: they tell whether a policy recovers when the machine is its own again.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from open_loop import Arrival, offer

from orcinus import LLM
from orcinus.core.component_spec import make_policy
from orcinus.observe.latency import percentile

FIXED = [f"stall-free:token_budget={size}" for size in (16, 32, 64, 128, 256, 512)]


def workload(seconds: float, rate: float, seed: int = 0) -> list[Arrival]:
    """Short questions all the time; long prompts more and more often in the middle third."""
    rng, tokens, at = random.Random(seed), random.Random(1), 0.0
    arrivals: list[Arrival] = []
    while at < seconds:
        at += rng.expovariate(rate)
        middle = seconds / 3 < at < 2 * seconds / 3
        if rng.random() < (0.35 if middle else 0.1):
            length, output = rng.randint(500, 1500), rng.randint(8, 32)
        else:
            length, output = rng.randint(8, 60), rng.randint(30, 120)
        arrivals.append((at, tuple(tokens.randrange(300, 2000) for _ in range(length)), output))
    return arrivals


@contextmanager
def disturbed(processes: int, start: float, end: float) -> Iterator[None]:
    """Other processes compute from `start` to `end` seconds from now."""
    busy: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        busy.extend(subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes))

    def stop() -> None:
        for process in busy:
            process.kill()

    timers = [Timer(start, begin), Timer(end, stop)]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
        stop()
        for process in busy:
            process.wait()


def serve(llm: LLM, policy: str, arrivals: list[Arrival], seconds: float, processes: int = 0) -> dict[str, float]:
    """Latencies (ms), tokens per second and prediction errors of a real run."""
    llm.engine.use(make_policy(policy))
    with disturbed(processes, seconds / 3, 2 * seconds / 3):
        watch = offer(llm, arrivals)
    tbt, ttft, e2e = watch.tbt(), watch.ttft(), watch.e2e()
    after = [first for first, (at, *_) in zip(ttft, arrivals, strict=True) if at > 2 * seconds / 3] or ttft
    return {
        "tbt p50": percentile(tbt, 50) * 1e3,
        "tbt p99": percentile(tbt, 99) * 1e3,
        "tbt max": max(tbt) * 1e3,
        "ttft p50": percentile(ttft, 50) * 1e3,
        "ttft p99": percentile(ttft, 99) * 1e3,
        "after p50": percentile(after, 50) * 1e3,
        "after p99": percentile(after, 99) * 1e3,
        "e2e p50": percentile(e2e, 50) * 1e3,
        "tokens/s": watch.output_throughput(),
        "makespan s": watch.span(),
        "fit error %": llm.engine.scheduler.step_time.error * 100,
        "margin ms": llm.engine.scheduler.step_time.margin * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time between tokens while long prompts arrive.")
    parser.add_argument("--tbt", type=float, default=0.02, help="target of latency-target, in seconds")
    parser.add_argument("--policies", help="default: all iteration-level ones and a range of fixed budgets")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of the stream of arrivals")
    parser.add_argument("--rate", type=float, default=6.0, help="requests per second")
    parser.add_argument("--max-batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--disturb", type=int, default=0, help="busy processes during the middle third")
    parser.add_argument("--model")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    options = parser.parse_args()
    usual = ["orca", "prefill-first", "sarathi:chunk_size=128", *FIXED, f"latency-target:tbt={options.tbt}"]
    policies = options.policies.split(",") if options.policies else usual
    arrivals = workload(options.seconds, options.rate)
    prompts, outputs = sum(len(prompt) for _, prompt, _ in arrivals), sum(output for _, _, output in arrivals)
    print(f"{len(arrivals)} requests in {options.seconds:.0f} s: {prompts} prompt tokens, {outputs} output tokens\n")
    figures: dict[str, list[dict[str, float]]] = {policy: [] for policy in policies}
    with LLM(options.model, kv="paged", max_batch_size=options.max_batch_size, dtype="float32") as llm:
        serve(llm, "stall-free:token_budget=64", arrivals[: len(arrivals) // 4], options.seconds)  # warm up
        for _ in range(options.repeats):
            for policy in policies:
                figures[policy].append(serve(llm, policy, arrivals, options.seconds, options.disturb))
    names = list(figures[policies[0]][0])
    print(f"{'':30}" + "".join(f"{name:>12}" for name in names))
    for policy in policies:
        medians = [statistics.median(run[name] for run in figures[policy]) for name in names]
        print(f"{policy:30}" + "".join(f"{value:12.1f}" for value in medians))
    if options.out:
        options.out.write_text(json.dumps({"arrivals": len(arrivals), "tbt": options.tbt, "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
