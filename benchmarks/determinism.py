"""What `--deterministic` costs: prompts and decodes with and without it, in turn.

    python benchmarks/determinism.py [--rounds 9] [--quick]

Two engines with made-up weights of 8 layers of 512, in float32 and in bfloat16. `--quick` takes a toy model, to see that
everything works.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from on_gpu.geometry import TOY_QWEN

from orcinus import LLM, SamplingParams
from orcinus.machine_load import load_average
from orcinus.observe.interval import median_interval

SMALL = replace(
    TOY_QWEN, name="8 layers of 512", layers=8, hidden=512, heads=8, kv_heads=4, head_dim=64, ffn=1536, vocab=32_000
)
STEPS = 16


def prompt(llm: LLM, tokens: int) -> float:
    """Milliseconds from a prompt to its first token."""
    began = time.perf_counter()
    llm.generate([[7 + place % 11 for place in range(tokens)]], SamplingParams(max_tokens=1, temperature=0), progress=False)
    return 1e3 * (time.perf_counter() - began)


def decodes(llm: LLM, batch: int, context: int) -> float:
    """Median milliseconds of iterations that decode `batch` requests."""
    params = SamplingParams(max_tokens=STEPS, temperature=0, ignore_eos=True)
    times, began = [], 0.0
    for place, _ in enumerate(llm.stream([[5 + number] * context for number in range(batch)], params), 1):
        if place % batch == 0:
            times.append(1e3 * (time.perf_counter() - began))
            began = time.perf_counter()
    return median(times[4:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    geometry = replace(TOY_QWEN, vocab=500) if given.quick else SMALL
    rounds = 2 if given.quick else given.rounds
    works: dict[str, Callable[[LLM], float]] = {
        "prompt of 128": lambda llm: prompt(llm, 128),
        "prompt of 512": lambda llm: prompt(llm, 512),
        "1 decode, context 128": lambda llm: decodes(llm, 1, 128),
        "8 decodes, context 128": lambda llm: decodes(llm, 8, 128),
        "8 decodes, context 512": lambda llm: decodes(llm, 8, 512),
    }
    print(f"{geometry.name}, {torch.get_num_threads()} threads of {os.cpu_count()}, load {load_average()}")
    for dtype in ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder = geometry.write(Path(name), 2048, dtype)
            options = {"dtype": dtype, "load_format": "dummy", "kv": "paged", "policy": "orca", "num_blocks": 400}
            sides = [stack.enter_context(LLM(folder, deterministic=exact, **options)) for exact in (False, True)]
            for work, run in works.items():
                times = [[run(llm) for llm in sides] for _ in range(rounds + 1)][1:]
                ratio = median_interval([exact / plain for plain, exact in times])
                plain, exact = (median(side) for side in zip(*times, strict=True))
                print(
                    f"{dtype:9} {work:23} {plain:8.2f} ms -> {exact:8.2f} ms   "
                    f"x {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
