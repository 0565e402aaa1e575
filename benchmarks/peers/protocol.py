"""What run.py and the adapters say to each other: one JSON object a line, a request on stdin, its answer on stdout.

    {"op": "load", "model": FOLDER, "dtype": "float32" | "bfloat16", "threads": N, "max_batch_size": N, "max_model_len": N,
     "quantization": "int8" | "int4" | null}
        -> {"versions": {name: version}, "settings": {name: value}}
    {"op": "run", "prompts": [[id ...] ...], "output_tokens": [n ...]}
        -> {"seconds": s, "output_ids": [[id ...] ...], "times": [[s ...] ...] | null, "ended": [s ...] | null}
    anything that fails -> {"error": one line}; the traceback goes to stderr

All requests are there at the start, decoding is greedy, the end of text is ignored, and a request has exactly the output
tokens asked for. `times` (of each token) and `ended` (of each request) are seconds after the start, null where the engine
does not tell. Standard library only, because every adapter runs in its peer's own environment.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

Ids = list[list[int]]


@dataclass(frozen=True, slots=True)
class Load:
    """Which model to load, and the limits that all peers share. `max_model_len` is in tokens, prompt and output."""

    model: str
    dtype: str
    threads: int
    max_batch_size: int
    max_model_len: int
    quantization: str | None = None  # of the matrices; only peers that have it are asked


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded: versions by name, and the settings that are not the engine's defaults."""

    versions: dict[str, str]
    settings: dict[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of one run; moments are seconds after its start."""

    seconds: float
    output_ids: Ids
    times: list[list[float]] | None = None
    ended: list[float] | None = None


Run = Callable[[Ids, list[int]], Ran]  # (prompts, output tokens of each) -> what came of it


def serve(load: Callable[[Load], tuple[Loaded, Run]]) -> None:
    """An adapter's main loop, until stdin ends. What libraries print goes to stderr, never among the answers."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    run: Run | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if asked.pop("op") == "load":
                loaded, run = load(Load(**asked))
                answer: dict[str, Any] = asdict(loaded)
            else:
                assert run is not None, "run before load"
                answer = asdict(run(asked["prompts"], asked["output_tokens"]))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": one_line(error)}
        answers.write(json.dumps(answer) + "\n")


def one_line(error: BaseException) -> str:
    """Its kind and the first line of what it says."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:300]}" if said else type(error).__name__
