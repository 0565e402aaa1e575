"""The profile run of a GPU's engine on a CPU: its kernels interpreted, its meter played."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orcinus import EngineConfig, build
from orcinus.plan import make_plan
from orcinus.runtime.attention import ATTENTION, operators_of
from orcinus.runtime.checkpoint import load_model, open_checkpoint

Made = Callable[[str], tuple[Any, Path]]


class Meter:
    def __init__(self, device: object) -> None:
        self.device = device

    def start(self) -> None:
        """There is nothing to forget."""

    def peak(self) -> int:
        return 7 * 2**20


def test_an_engine_with_kernels_measures_what_it_will_run(checkpoint: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint("gpt2-scaled-by-layer-untied")[1]
    sizes = {"max_batch_size": 2, "max_batch_tokens": 4, "max_model_len": 8, "block_size": 4}
    plan = make_plan(EngineConfig(model=folder, attention="triton", dtype="float32", **sizes))  # type: ignore[arg-type]
    model = load_model(open_checkpoint(folder), plan.device, ATTENTION["triton"](), operators_of("triton"))
    monkeypatch.setattr("orcinus.build.CudaMeter", Meter)
    assert build._measure(plan, model).memory.working == 7 * 2**20
