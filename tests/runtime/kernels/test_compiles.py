"""Every kernel compiles for Hopper, which the interpreter cannot tell: types, shapes of products, registers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = {
    "_attend", "_merge", "_rms_norm", "_act_mul", "_rope_and_write", "_survey", "_best", "_pick", "_census", "_gather",
    "_pick_filtered", "_penalise", "_add_biases", "_uniform", "_gather_contexts", "_follow",
    "_apply_token_bitmask",
}  # fmt: skip
FEW = 64  # bytes of stack a thread: a few registers, spilled outside of the loops


@pytest.mark.full
def test_every_kernel_compiles_and_keeps_to_its_registers(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.runtime.kernels.compile_all"],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    stacks = [line.split() for line in run.stdout.splitlines()]
    assert {name for name, _ in stacks} == NAMES
    assert all(int(stack) <= FEW for _, stack in stacks), run.stdout
