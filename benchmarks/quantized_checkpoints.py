"""Quantised checkpoints beside plain ones on a CPU: speed and memory of a geometry, and the bundled model's text.

    python -m benchmarks.quantized_checkpoints [speed] [memory] [quality] [--threads N] [--rounds 7] [--dtype float32]
    python -m benchmarks.quantized_checkpoints --quick        # a toy, to see that everything works

The checkpoints are written here, rounded to nearest: no calibration. All sides take turns; a figure is the median of the
rounds, a ratio the median of the rounds' ratios. Memory is what a process of its own has more after loading than before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers as hf

from benchmarks.on_gpu.geometry import QWEN, TOY_QWEN
from benchmarks.quantization import COMPARED, compared, decodes, in_turn, pieces, score
from orcinus import LLM
from orcinus.config import EngineConfig
from orcinus.machine_load import load_average
from orcinus.plan import make_plan
from orcinus.tiny import MODEL_DIR
from tests import quantized_checkpoints as writers

GROUP = 64
FOUR_LAYERS = replace(QWEN, name="four layers of qwen3-0.6b", layers=4, vocab=8192)
FORMATS = {
    "W8A8 (compressed-tensors)": writers.compressed(8, packed=False),
    "W4A16 (compressed-tensors)": writers.compressed(4, group=GROUP),
    "4 bits (AWQ)": writers.awq(GROUP),
    "4 bits (GPTQ)": writers.gptq(4, GROUP),
    "8 bits (GPTQ)": writers.gptq(8, GROUP),
    "FP8 in blocks": writers.fp8(128),
}
GIVEN: dict[str, Any] = {"max_batch_size": 8, "max_model_len": 128, "kv": "paged", "policy": "orca"}
LOADS = """
import sys
from orcinus import LLM
def resident():
    return next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmRSS"))
given = {"dtype": sys.argv[2], "quantization": sys.argv[3] or None, "num_blocks": 8, "max_model_len": 64}
with LLM(**given): pass  # kernels and libraries
before = resident()
with LLM(sys.argv[1], **given): print(resident() - before)
"""


def sides(folder: Path, to: Path, dtype: str) -> dict[str, dict[str, Any]]:
    """Options of the plain checkpoint and of its quantised copies."""
    found = {dtype: {"model": folder, "dtype": dtype}, f"{dtype}, rounded to int8": {"model": folder, "quantization": "int8"}}
    for number, (name, written) in enumerate(FORMATS.items()):
        quantised, _ = writers.write(folder, to / str(number), written)
        found[name] = {"model": quantised}
    return {name: {"dtype": dtype, **each} for name, each in found.items()}


def written(options: argparse.Namespace, to: Path) -> dict[str, dict[str, Any]]:
    """A geometry with random weights, plain and in all formats."""
    geometry = TOY_QWEN if options.quick else FOUR_LAYERS
    folder = geometry.write(to / "plain", 1024, "bfloat16")
    torch.manual_seed(0)
    config = hf.AutoConfig.from_pretrained(folder)
    hf.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    print(f"\n{geometry.name}")
    return sides(folder, to, options.dtype)


def speed(options: argparse.Namespace, given: dict[str, dict[str, Any]]) -> None:
    """Milliseconds of an iteration."""
    print("\n| checkpoint | 1 decode, ms (CPU ms) | 8 decodes, ms (CPU ms) |\n|---|---|---|")
    with ExitStack() as stack:
        llms = {name: stack.enter_context(LLM(**GIVEN, **each)) for name, each in given.items()}
        times = [
            in_turn({name: partial(decodes, llm, rows, 16) for name, llm in llms.items()}, options.rounds) for rows in (1, 8)
        ]
    for name in given:
        cells = []
        for found in times:
            ratios = [
                median(a[kind] / b[kind] for a, b in zip(found[options.dtype], found[name], strict=True)) for kind in (0, 1)
            ]
            wall, cpu = (median(each[kind] for each in found[name]) for kind in (0, 1))
            cells.append(f"{wall:.2f} ({cpu:.2f}), {ratios[0]:.2f}x ({ratios[1]:.2f}x)")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def memory(options: argparse.Namespace, given: dict[str, dict[str, Any]]) -> None:
    """MiB of the files, of the planned weights, and of a process that has loaded them."""
    print("\n| checkpoint | MiB in files | planned | measured |\n|---|---|---|---|")
    for name, side in given.items():
        plan = make_plan(EngineConfig(**side))
        sizes = plan.model.saved_bytes >> 20, plan.memory.weights >> 20, memory_of(side)
        print(f"| {name} | {' | '.join(map(str, sizes))} |", flush=True)


def memory_of(side: dict[str, Any]) -> str:
    """MiB that a process takes to load a checkpoint."""
    command = [sys.executable, "-c", LOADS, str(side["model"]), side["dtype"], side.get("quantization", "")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def quality(options: argparse.Namespace, to: Path) -> None:
    """Perplexity, log-probabilities and greedy tokens of the bundled model."""
    print(f"\nbundled model\n{COMPARED}")
    expected: tuple[Any, Any] | None = None
    options.text = []
    for name, side in sides(MODEL_DIR, to, options.dtype).items():
        with LLM(**side) as llm:
            found = score(llm, pieces(llm, options))
        expected = expected or found
        print(compared(name, found, expected), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=["speed", "memory", "quality", []])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.rounds = 2 if options.quick else options.rounds
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}, load {load_average()}; times as fast as plain (by CPU time)")
    with tempfile.TemporaryDirectory() as folder:
        sections = options.sections or ["speed", "memory", "quality"]
        given = written(options, Path(folder) / "geometry") if {"speed", "memory"} & {*sections} else {}
        if "speed" in sections:
            speed(options, given)
        if "memory" in sections:
            memory(options, given)
        if "quality" in sections:
            quality(options, Path(folder) / "quality")


if __name__ == "__main__":
    main()
