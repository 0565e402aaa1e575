"""From the start of a process to its first token: seconds, CPU seconds and peak memory of fresh processes.

    python benchmarks/startup.py [--rounds 7] [SIDE ...]

A side is `torch` (the import alone, the floor), `command` (`orcinus generate` with the bundled model), or `LLM` with options:
`LLM:model=FOLDER,quantization=int8`. All take turns; medians are shown. Weights are in the page cache after the first round,
which does not count; `--cold` drops a model's files from it before each start.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from orcinus.machine_load import load_average

ENGINE = """
import sys
from orcinus.garbage import collect_rarely
collect_rarely()
from orcinus import LLM, SamplingParams
options = dict(word.split("=", 1) for word in sys.argv[1:])
llm = LLM(num_blocks=64, max_model_len=256, **options)
llm.generate([[1, 2, 3]], SamplingParams(max_tokens=1, temperature=0, ignore_eos=True))
"""


def command_of(side: str) -> list[str]:
    """The command of a side. Its process ends after its first token."""
    name, _, options = side.partition(":")
    if name == "torch":
        return [sys.executable, "-c", "import torch"]
    if name == "command":
        return [sys.executable, "-m", "orcinus", "generate", "--max-tokens", "1", "Hi"]
    return [sys.executable, "-c", ENGINE, *(options.split(",") if options else [])]


def drop_from_cache(side: str) -> None:
    """Drop the files of a side's model from the page cache."""
    for word in side.partition(":")[2].split(","):
        if word.startswith("model="):
            for file in Path(word.removeprefix("model=")).iterdir():
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(command: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, CPU seconds, and most MiB of a process."""
    began = time.monotonic()
    child = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main(asked: argparse.Namespace) -> None:
    found: dict[str, list[tuple[float, float, float]]] = {side: [] for side in asked.sides}
    for turn in range(asked.rounds + 1):
        for side in asked.sides if turn % 2 else asked.sides[::-1]:
            if asked.cold:
                drop_from_cache(side)
            result = measured(command_of(side))
            if turn:
                found[side].append(result)
    print(f"{os.cpu_count()} cores, load {load_average()}, {asked.rounds} rounds, medians (least)")
    print("| | seconds | CPU seconds | peak MiB |\n|---|---|---|---|")
    for side, rows in found.items():
        seconds, cpu, memory = zip(*rows, strict=True)
        times = f"{median(seconds):.2f} ({min(seconds):.2f}) | {median(cpu):.2f} ({min(cpu):.2f})"
        print(f"| {side} | {times} | {median(memory):.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sides", nargs="*", default=["torch", "command", "LLM"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cold", action="store_true")
    main(parser.parse_intermixed_args())
