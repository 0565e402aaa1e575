"""An adapter that obeys the name of the model it is given: what real engines do wrong, without an engine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "peers"))

from protocol import Load, Loaded, Ran, serve

HABIT = sys.argv[1]
runs = 0


def load(asked: Load) -> tuple[Loaded, object]:
    if HABIT == "does not load":
        raise RuntimeError("no such model\nand more that nobody wants to read")
    return Loaded({"fake": "1.0"}, {"quantization": asked.quantization} if asked.quantization else {}), run


def run(prompts: list[list[int]], output_tokens: list[int]) -> Ran:
    """Answers that follow from the prompts alone; 1 ms for each token."""
    global runs
    runs += 1
    answers = [
        [sum(prompt) % 97 + place for place in range(count)] for prompt, count in zip(prompts, output_tokens, strict=True)
    ]
    if HABIT == "prints":
        print("library speaking")
        os.write(1, b"so does its C++\n")
    if HABIT == "one token short":
        answers[1].pop()
    if HABIT == "other second token":
        answers[0][1] += 1
    if HABIT == "one answer short":
        answers.pop()
    if HABIT == "crashes in its third run" and runs == 3:
        print("Segmentation fault (not really)", file=sys.stderr)
        os._exit(139)
    if HABIT == "raises":
        raise ValueError("cannot run this")
    if HABIT == "sleeps":
        time.sleep(60)
    seconds = 0.001 * sum(output_tokens) / (2 if HABIT == "fast" else 1)
    return Ran(seconds, answers)


serve(load)
