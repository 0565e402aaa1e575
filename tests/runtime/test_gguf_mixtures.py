"""GGUF files whose layers have experts: transformers' answers, and experts that stay integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import transformers as hf

from orcinus import LLM, SamplingParams
from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.errors import ModelError
from orcinus.plan import make_plan
from orcinus.runtime.grouped_weights import GroupedWeight
from orcinus.runtime.models import Linear
from orcinus.runtime.models.mixture import UNQUANTIZED
from tests.checkpoints import BASE, random_model, save
from tests.gguf_files import write_gguf
from tests.product import part
from tests.runtime.grouped import matrix_of

SIZES = BASE | {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MANY = {"num_experts": 7, "num_experts_per_tok": 3}
LOCAL = {"num_local_experts": 5, "num_experts_per_tok": 2}
QWEN = {**MANY, "moe_intermediate_size": 32}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.MixtralConfig(**SIZES, **LOCAL, sliding_window=None),
    "qwen2moe": lambda: hf.Qwen2MoeConfig(**SIZES, **QWEN, shared_expert_intermediate_size=64, norm_topk_prob=False),
    "qwen3moe": lambda: hf.Qwen3MoeConfig(**SIZES, **QWEN, head_dim=16, norm_topk_prob=True),
    "olmoe": lambda: hf.OlmoeConfig(**SIZES, **MANY, norm_topk_prob=False),
    "granitemoe": lambda: hf.GraniteMoeSharedConfig(**SIZES, **LOCAL, shared_intermediate_size=32, logits_scaling=4.0),
}
PROMPT, PARAMS = [5, 9, 2, 40, 7, 61, 33, 8], SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)


def written(name: str, folder: Path, kind: str = "F32", change: Callable[[gguf.GGUFWriter], None] = lambda w: None) -> Path:
    """A model of few experts in one file."""
    return write_gguf(save(random_model(CONFIGS[name]()), folder / name), folder / f"{kind}.gguf", kind, change)


def answer(file: Path, **options: Any) -> list[int]:
    with LLM(file, dtype="float32", attention="reference", max_model_len=32, **options) as llm:
        return list(llm.generate([PROMPT], PARAMS)[0].token_ids)


@pytest.mark.parametrize("name", part("qwen2moe", full=("llama", "qwen3moe", "olmoe", "granitemoe")))
def test_answers_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    model = random_model(CONFIGS[name]())
    ids = model.generate(torch.tensor([PROMPT]), max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert answer(written(name, tmp_path)) == ids[0, len(PROMPT) :].tolist()


def weights(file: Path, **options: Any) -> tuple[dict[str, Any], Any]:
    """The weights of an engine's layers by name, and its plan."""
    built = build(EngineConfig(model=file, dtype="float32", attention="reference", max_model_len=32, **options))
    model = built.engine.executor.model  # type: ignore[attr-defined]
    return {name: each.weight for name, each in model.named_modules() if isinstance(each, Linear)}, built.plan


@pytest.mark.parametrize("kind", part("Q4_0", full=("Q8_0", "Q5_1")))
def test_experts_stay_integers(tmp_path: Path, kind: str) -> None:
    file = written("qwen2moe", tmp_path, kind)
    kept, plan = weights(file)
    plain, _ = weights(file, quantization="none")
    for name, weight in kept.items():
        if name.endswith(UNQUANTIZED):
            assert not isinstance(weight, GroupedWeight), "a rounded score may choose another expert"
        elif name != "head":
            columns = torch.eye(weight.shape[1])
            torch.testing.assert_close(matrix_of(weight), plain[name].multiply(columns, None).t(), rtol=0, atol=1e-6)
    assert sum("experts" in name for name in kept) == 2 * 2 * 7
    assert f"of {kind}" in plan.model.checkpoint.quantized.summary
    assert plan.memory.weights < make_plan(EngineConfig(model=file, dtype="float32", quantization="none")).memory.weights / 2


def test_a_file_must_count_its_experts(tmp_path: Path) -> None:
    def forget(writer: gguf.GGUFWriter) -> None:
        del writer.kv_data[0]["llama.expert_count"]

    with pytest.raises(ModelError, match=r"cannot be understood: it has no llama\.expert_count"):
        make_plan(EngineConfig(model=written("llama", tmp_path, change=forget)))
