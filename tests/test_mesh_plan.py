"""Plans of a mesh: what each rank holds, which of them rules, and models and devices that are known by data sheets alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orcinus import EngineConfig
from orcinus.build import build
from orcinus.cost.architecture import ARCHITECTURES
from orcinus.decode_speed import measure
from orcinus.errors import ConfigError, ModelError
from orcinus.memory.budget import MIB
from orcinus.memory.footprint import RANK_PROCESS
from orcinus.plan import Plan, make_plan
from orcinus.runtime.checkpoint import open_checkpoint, outline
from tests.gpus import pretend_gpu
from tests.product import part

Made = Callable[[str], tuple[Any, Path]]


def planned(model: Any = None, **options: Any) -> Plan:
    return make_plan(EngineConfig(model=model, **options), known=True)


def test_the_ranks_of_a_cpu_share_its_memory(checkpoint: Made) -> None:
    folder = checkpoint("qwen2")[1]
    plan, one = (planned(folder, dtype="float32", num_blocks=50, **mesh) for mesh in ({"tp": 2, "pp": 3}, {}))
    assert len(plan.ranks) == 6
    assert len(plan.budgets) == 1
    assert plan.memory.weights == sum(rank.weights for rank in plan.ranks) > one.memory.weights
    assert plan.kv_token_bytes == sum(rank.kv_token_bytes for rank in plan.ranks) == one.kv_token_bytes
    assert plan.memory.working == sum(map(plan.rank_working, plan.ranks))
    assert plan.memory.working > 6 * RANK_PROCESS > 0, "each rank is a process of its own"
    assert plan.resolved.kv_bytes == one.resolved.kv_bytes == plan.memory.kv
    assert (plan.resolved.tp, plan.resolved.pp) == (2, 3)
    assert plan.resolved.stages == (range(1), range(1, 2), range(2, 3))


def test_the_gpu_with_least_room_rules(checkpoint: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two key/value heads on four ranks: all hold one; three query heads on two ranks: the first holds two."""
    pretend_gpu(monkeypatch, 1000)
    plan = planned(checkpoint("qwen2")[1], device="cuda", tp=4, attention="reference")
    assert [rank.spec.num_heads for rank in plan.ranks] == [2, 1, 2, 1]
    assert plan.ruling_rank == 0
    assert len(plan.budgets) == 4
    assert plan.memory == min(plan.budgets, key=lambda budget: budget.left)
    assert 0 <= plan.memory.left < plan.resolved.block_size * plan.kv_token_bytes
    assert all(budget.fits for budget in plan.budgets)
    assert not plan.resolved.cuda_graphs, "sums over ranks are not captured"
    assert plan.measured(plan.memory.working * 2).resolved.num_blocks < plan.resolved.num_blocks


def test_a_rank_needs_what_its_decoder_needs(checkpoint: Made) -> None:
    folder = checkpoint("llama3-rope-tied-odd-heads")[1]
    plan = planned(folder, dtype="float32", tp=2, pp=2)
    spec = open_checkpoint(folder).spec
    for rank, sizes in enumerate(plan.ranks):
        mine = outline(spec, place=plan.mesh.at(rank))
        assert sizes.kv_token_bytes == 2 * len(mine.layers) * mine.num_kv_heads * 20 * 4
        assert sizes.weights >= mine.num_parameters * 4
        assert sizes.layers == mine.stage
    assert plan.rank_working(plan.ranks[0]) < plan.rank_working(plan.ranks[3]), "only the last stage has logits"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tp": 5}, "4 query heads cannot be divided over 5 ranks: tp must be at most 4"),
        ({"pp": 6}, "5 layers cannot be shared out to 6 stages: pp must be at most 5"),
        ({"tp": 8, "pp": 9}, "tp 8 × pp 9 are 72 ranks: at most 64 are supported"),
        ({"tp": 0}, "tp must be a whole number of at least 1, not 0"),
        ({"pp": True}, "pp must be a whole number of at least 1, not True"),
    ],
)
def test_impossible_meshes_are_refused_in_a_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(**options)


# A preset of the simulator, and a config.json of the same shape.
SHAPES = {
    "llama-2-7b": {"architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5},
    "mistral-7b": {"architectures": ["MistralForCausalLM"], "rms_norm_eps": 1e-5, "sliding_window": 4096},
    "gpt3-13b": {"architectures": ["GPT2LMHeadModel"], "tie_word_embeddings": True},
}


def config_of(name: str, to: Path) -> Path:
    shape = ARCHITECTURES[name]
    sizes = {
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.ffn,
        "max_position_embeddings": shape.max_model_len,
        "tie_word_embeddings": False,
    }
    gpt = {"n_embd": shape.hidden, "n_layer": shape.layers, "n_head": shape.heads, "n_positions": shape.max_model_len}
    own = {"vocab_size": shape.vocab, **gpt} if name.startswith("gpt") else sizes
    (to / "config.json").write_text(json.dumps(own | SHAPES[name]))
    return to


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mesh", part({"tp": 2}, full=[{}, {"pp": 3}, {"tp": 4, "pp": 2}]))
def test_models_of_the_simulator_are_planned_like_checkpoints(tmp_path: Path, name: str, mesh: dict[str, int]) -> None:
    known = planned(name, device="a100-80g", **mesh)
    folder = planned(config_of(name, tmp_path), device="a100-80g", load_format="dummy", **mesh)
    assert known.ranks == folder.ranks
    assert known.budgets == folder.budgets
    assert known.resolved.num_parameters == folder.resolved.num_parameters
    assert known.resolved.limits == folder.resolved.limits
    assert known.resolved.num_blocks == folder.resolved.num_blocks > 0


def test_a_data_sheet_says_how_large_and_how_fast_a_device_is() -> None:
    plan, halves = planned("llama-2-7b", device="h100"), planned("llama-2-7b", device="h100", tp=2)
    assert plan.memory.total == plan.memory.available == 81559 * MIB
    assert plan.resolved.device == "h100"
    assert plan.resolved.dtype == "bfloat16"
    assert plan.memory.weights == pytest.approx(2 * 6.74e9, rel=0.01)
    assert halves.memory.weights == pytest.approx(plan.memory.weights / 2, rel=0.01)
    assert halves.resolved.num_blocks > 2 * plan.resolved.num_blocks
    speeds = measure(plan), measure(halves), measure(planned("llama-2-7b", device="h100", pp=2))
    assert not speeds[0].measured
    one, two, staged = (speed.decode[0].iterations_per_s for speed in speeds)
    assert two == pytest.approx(2 * one, rel=0.05)
    assert staged == pytest.approx(one, rel=0.01), "stages follow one another"


def test_more_tensor_ranks_are_a_remedy() -> None:
    plan = planned("llama-2-70b", device="a100-80g")
    assert not plan.fits
    assert dict(plan.remedies())["tp"] == 2
    assert planned("llama-2-70b", device="a100-80g", tp=2).fits
    with pytest.raises(ConfigError, match=r"on the device of rank 0: \d+ MiB are missing; use tp=4, or a smaller model"):
        planned("gpt3-175b", device="a100-80g", tp=2, pp=2, max_batch_size=1).check()


@pytest.mark.parametrize("name", part("falcon-40b", "opt-13b", full=sorted(ARCHITECTURES.keys() - {"falcon-40b", "opt-13b"})))
def test_every_model_of_the_simulator_has_a_plan(name: str) -> None:
    plan = planned(name, device="h200", tp=4, pp=2)
    assert plan.resolved.num_parameters == pytest.approx(ARCHITECTURES[name].num_parameters, rel=0.01)
    assert sum(rank.weights for rank in plan.ranks) == pytest.approx(2 * plan.resolved.num_parameters, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "llama-2-7b"}, "no model folder"),
        ({"device": "h100"}, "unknown device 'h100': choose auto, cpu or cuda"),
        ({"tp": 2, "device": "h100"}, "unknown device 'h100': choose auto, cpu or cuda"),
        ({"tp": 5}, "4 query heads cannot be divided over 5 ranks"),
    ],
)
def test_what_cannot_be_built_is_refused_before_a_rank_starts(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ModelError), match=message):
        build(EngineConfig(**options))
