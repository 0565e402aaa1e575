"""The benchmarks of integers run, and their tables have a row for each side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.full
def test_the_benchmark_of_quantization_runs() -> None:
    command = [sys.executable, "-m", "benchmarks.quantization", "products", "quality", "--quick"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for side in ("float32", "bfloat16", "int8, bfloat16", "int8, float32", "int4, bfloat16", "int4, float32"):
        assert any(line.startswith(f"| {side} |") for line in found.splitlines())


@pytest.mark.full
def test_the_benchmark_of_quantised_checkpoints_runs() -> None:
    command = [sys.executable, "-m", "benchmarks.quantized_checkpoints", "--quick"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for side in ("float32", "W8A8 (compressed-tensors)", "4 bits (AWQ)", "FP8 in blocks"):
        assert sum(line.startswith(f"| {side} |") for line in found.splitlines()) == 3
