"""Models without weights: a config.json is enough to run one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.bench.config import LoadConfig
from orcinus.bench.offline import run_offline
from orcinus.build import build
from orcinus.errors import ConfigError
from orcinus.plan import make_plan
from orcinus.runtime.attention import ATTENTION
from orcinus.runtime.checkpoint import open_checkpoint, outline
from orcinus.runtime.dummy import STD, fill_at_random
from orcinus.runtime.models import Decoder, Factory
from tests.checkpoints import MOST_DIFFERENT, OTHERS
from tests.product import part

Made = Callable[[str], tuple[Any, Path]]
GREEDY = SamplingParams(max_tokens=6, temperature=0)


def bare(folder: Path, to: Path) -> Path:
    """A folder that holds the same config.json and nothing else."""
    to.mkdir()
    shutil.copy(folder / "config.json", to)
    return to


def filled(folder: Path) -> Decoder:
    spec = open_checkpoint(folder).spec
    model = Decoder(spec, ATTENTION["reference"](), Factory(torch.device("cpu"), torch.float32))
    fill_at_random(model, outline(spec))
    return model


@pytest.mark.parametrize("name", part(*MOST_DIFFERENT, full=OTHERS))
def test_a_config_is_enough_to_plan_and_to_generate(checkpoint: Made, tmp_path: Path, name: str) -> None:
    whole = checkpoint(name)[1]
    options: dict[str, Any] = {
        "model": bare(whole, tmp_path / "bare"),
        "load_format": "dummy",
        "dtype": "float32",
        "block_size": 8,
    }
    plan = make_plan(EngineConfig(**options))
    full = make_plan(EngineConfig(model=whole, dtype="float32", block_size=8))
    assert plan.memory.weights == full.memory.weights
    assert plan.resolved.num_parameters == full.resolved.num_parameters
    assert plan.model.saved_bytes == 0
    answers = []
    for seed in (1, 2):
        with LLM(**options, seed=seed) as llm:
            answers.append(llm.generate([[1, 2, 3], [4]], GREEDY))
    assert [one.token_ids for one in answers[0]] == [one.token_ids for one in answers[1]], "the seed is not the model's"
    assert all(one.finish_reason == "length" for one in answers[0])


@pytest.mark.parametrize("name", ["qwen3", "gpt2", "llama-biases-yarn"])
def test_what_is_made_up(checkpoint: Made, name: str) -> None:
    model = filled(checkpoint(name)[1])
    for parameter_name, parameter in model.tensors().items():
        if parameter_name.endswith(".bias"):
            assert (parameter == 0).all(), parameter_name
        elif parameter.dim() == 1:
            assert "norm" in parameter_name
            assert (parameter == 1).all()
        else:
            assert parameter.std().item() == pytest.approx(STD, rel=0.1), parameter_name
            assert abs(parameter.mean().item()) < STD / 5
    again = filled(checkpoint(name)[1])
    assert all(torch.equal(a, b) for a, b in zip(model.tensors().values(), again.tensors().values(), strict=True))


def test_making_up_tells_how_far_it_is(checkpoint: Made) -> None:
    folder = checkpoint("qwen3")[1]
    heard: list[tuple[str, int, int]] = []
    config = EngineConfig(model=folder, load_format="dummy", dtype="float32", max_model_len=32, block_size=8)
    build(config, progress=lambda *stage: heard.append(stage))
    total = sum(tensor.numel() * 4 for tensor in outline(open_checkpoint(folder).spec).tensors().values())
    done = [done for stage, done, of in heard if stage == "weights" and of == total]
    assert done == sorted(done)
    assert done[-1] == total


def test_weights_that_are_there_are_not_read(checkpoint: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("read_headers", "read_tensors"):
        monkeypatch.setattr(f"orcinus.runtime.checkpoint.{name}", None)
    monkeypatch.setattr("orcinus.runtime.hub.read_headers", None)
    with LLM(checkpoint("qwen3")[1], load_format="dummy", max_model_len=32, block_size=8) as llm:
        assert len(llm.generate([[1]], GREEDY)[0].token_ids) == 6


def test_configurations_of_a_made_up_model_are_measured(checkpoint: Made, tmp_path: Path) -> None:
    folder = bare(checkpoint("qwen3")[1], tmp_path / "bare")
    config = EngineConfig(model=folder, load_format="dummy", max_batch_size=2, max_model_len=64, block_size=8)
    load = LoadConfig(workload="fixed:tokens=8,fixed:tokens=4", requests=3, repeats=1)
    result = run_offline(
        {"one": config, "two": EngineConfig(model=folder, load_format="dummy", max_model_len=64, block_size=8)}, load
    )
    assert result.complete


@pytest.mark.parametrize("value", ["safetensors", "", None, 1])
def test_other_formats_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="load_format"):
        EngineConfig(load_format=value)
