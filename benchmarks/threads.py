"""How threads wait and where they run: iterations of 8 decodes alone and beside a busy process.

    python benchmarks/threads.py FOLDER [--dtype auto] [--seconds 120] [--iterations 20] [--pairs] VARIANT ...

A variant is `NAME=value,NAME=value` of environment variables, or `default`; the first is the one that others are compared
with. `TORCH_FIRST=1` imports torch before Orcinus, as a user's program may. `--pairs`: also two engines of a variant at once.
FOLDER has a checkpoint (`peers/geometry.py` writes one). All engines are loaded first and then take turns, since other
programs come and go; the rest sleep. Where they never leave, `NICE=-10` lets those that run go first (as root).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

if os.environ.get("TORCH_FIRST"):
    import torch  # noqa: F401

from orcinus.machine_load import load_average
from orcinus.parent import killed_with_this

DECODES, PROMPT = 8, 32
WARM_UPS = 3
NICE = int(os.environ.get("NICE", "0"))
BUSY = (sys.executable, "-c", "while True: pass")
OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES")
ALONE, BESIDE, TWO = "alone", "beside a busy process", "two engines"


def engine_process(folder: str, dtype: str, longest: int) -> None:
    """Runs as many iterations as each line of its input says; writes milliseconds of each, and CPU milliseconds of all."""
    import orcinus  # noqa: F401
    from orcinus.build import build
    from orcinus.config import EngineConfig
    from orcinus.core.request import Request
    from orcinus.core.sampling_params import SamplingParams

    tokens = WARM_UPS + longest + 2
    limits: dict[str, Any] = {"max_batch_size": DECODES, "max_model_len": PROMPT + tokens, "kv": "paged"}
    blocks = DECODES * (PROMPT + tokens) // 16 + 2 * DECODES
    engine = build(EngineConfig(model=folder, dtype=dtype, num_blocks=blocks, **limits)).engine
    numbers, params = itertools.count(), SamplingParams(max_tokens=tokens, temperature=0)
    print("ready", flush=True)
    for turn, line in enumerate(sys.stdin):
        if turn == 1:  # when all threads have begun
            for thread in os.listdir("/proc/self/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), NICE)
        for number in itertools.islice(numbers, DECODES):
            engine.submit(Request(str(number), tuple(range(number % 99 + 1, number % 99 + 1 + PROMPT)), params, 0.0))
        for _ in range(WARM_UPS):
            engine.step()
        times, cpu = list[float](), time.process_time()
        for _ in range(int(line)):
            began = time.perf_counter()
            engine.step()
            times.append(1e3 * (time.perf_counter() - began))
        cpu = 1e3 * (time.process_time() - cpu)
        for request in engine.scheduler.running:
            engine.cancel(request.id)
        engine.step()
        print(json.dumps([times, cpu]), flush=True)


@dataclass(frozen=True, slots=True)
class Engine:
    """One process."""

    process: subprocess.Popen[str]

    def ask(self, iterations: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{iterations}\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[list[float], float]:
        """Milliseconds of each iteration, and CPU milliseconds of one."""
        assert self.process.stdout is not None
        times, cpu = json.loads(self.process.stdout.readline())
        return times, cpu / len(times)


def start(variant: str, arguments: Sequence[str]) -> Engine:
    """An engine in a fresh process with a variant's environment."""
    changes = dict(change.split("=", 1) for change in variant.split(",") if change != "default")
    environment = {name: value for name, value in os.environ.items() if name not in OWN} | changes
    command = [sys.executable, __file__, "--engine", *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, preexec_fn=killed_with_this(), **pipes)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit(f"the engine with {variant} did not start")
    return Engine(process)


def turn(engines: Sequence[Engine], iterations: int) -> tuple[list[float], float]:
    """One turn of the engines, at the same time: what the first of them says."""
    for engine in engines:
        engine.ask(iterations)
    first, *_ = [engine.answer() for engine in engines]
    return first


def main(asked: argparse.Namespace) -> None:
    found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    with ExitStack() as stack:
        busy = stack.enter_context(subprocess.Popen(BUSY, preexec_fn=killed_with_this()))
        stack.callback(busy.kill)
        os.setpriority(os.PRIO_PROCESS, busy.pid, NICE)
        busy.send_signal(signal.SIGSTOP)
        pairs = {}
        for variant in asked.variants:
            pairs[variant] = [
                start(variant, [asked.folder, asked.dtype, str(asked.iterations)]) for _ in range(1 + asked.pairs)
            ]
            for engine in pairs[variant]:
                stack.callback(engine.process.kill)
        began = time.monotonic()
        for number in itertools.count():  # the first round warms up
            if time.monotonic() > began + asked.seconds:
                break
            for situation in (ALONE, BESIDE, TWO)[: 2 + asked.pairs]:
                for variant in asked.variants if number % 2 else asked.variants[::-1]:
                    engines = pairs[variant][: 2 if situation == TWO else 1]
                    if situation == BESIDE:
                        busy.send_signal(signal.SIGCONT)
                    times, cpu = turn(engines, asked.iterations)
                    busy.send_signal(signal.SIGSTOP)
                    if number:
                        found.setdefault((situation, variant), []).append((median(times), sum(times) / len(times), cpu))
        busy.kill()
    print(f"{asked.folder}, {asked.dtype}, {os.cpu_count()} cores, load {load_average()}, {number - 1} rounds")
    print("| situation | variant | ms | mean ms | CPU ms | mean ms against the first (quartiles) |\n|---|---|---|---|---|---|")
    for (situation, variant), rows in found.items():
        first = found[situation, asked.variants[0]]
        ratios = sorted(row[1] / other[1] for row, other in zip(rows, first, strict=True))
        quarter = len(ratios) // 4
        middle, mean, cpu = (median(values) for values in zip(*rows, strict=True))
        against = f"{median(ratios):.2f} ({ratios[quarter]:.2f} to {ratios[-1 - quarter]:.2f})"
        print(f"| {situation} | {variant} | {middle:.2f} | {mean:.2f} | {cpu:.1f} | {against} |")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--pairs", action="store_true")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--engine"]:
        engine_process(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(options())
