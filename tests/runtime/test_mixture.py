"""Mixtures of experts, beside their logits (`tests/contracts/test_every_model.py` compares those)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.cost.architecture import find_architecture
from orcinus.errors import ConfigError, ModelError
from orcinus.memory.footprint import working_bytes
from orcinus.plan import make_plan
from orcinus.runtime.attention import ReferenceAttention
from orcinus.runtime.checkpoint import load_model, open_checkpoint, outline
from orcinus.runtime.cpu_kernels.operators import CpuOperators
from orcinus.runtime.device import Device
from orcinus.runtime.models import Decoder, MixtureSpec
from orcinus.runtime.models.linear import Linear
from orcinus.runtime.models.mixture import Mixture
from orcinus.runtime.operators import PLAIN
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.rounded_weights import Int4Weight
from tests.checkpoints import MIXED, MIXTURES, edited, save
from tests.product import part

Made = Callable[[str], tuple[Any, Path]]
EXACT = Device(torch.device("cpu"), torch.float32, "asked for")


def loaded(folder: Path, **options: Any) -> Decoder:
    return load_model(open_checkpoint(folder), EXACT, ReferenceAttention(), **options)


def mixtures(model: Decoder) -> list[Mixture]:
    return [mlp for mlp in model.mlps() if isinstance(mlp, Mixture)]


# Choosing experts


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 9), experts=st.integers(1, 40), data=st.data())
def test_weights_are_the_softmax_of_the_highest_scores(seed: int, rows: int, experts: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, experts))
    scores = torch.randn(rows, experts, generator=torch.Generator().manual_seed(seed)) * 4
    for operators in (PLAIN, CpuOperators()):
        for normalized in (False, True):
            chosen, weights = operators.route(scores, count, normalized=normalized)
            highest = scores.softmax(-1).topk(count)
            expected = highest.values / highest.values.sum(-1, keepdim=True) if normalized else highest.values
            assert torch.equal(chosen, highest.indices)
            torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-7)


def test_of_equal_scores_the_first_experts_are_chosen() -> None:
    chosen, weights = CpuOperators().route(torch.zeros(2, 5), 2, normalized=True)
    assert chosen.tolist() == [[0, 1]] * 2
    assert weights.tolist() == [[0.5, 0.5]] * 2


def test_scores_that_are_not_numbers_spoil_their_own_row_alone() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0], [torch.nan, torch.nan, torch.nan], [torch.inf, 0.0, -torch.inf]])
    chosen, weights = CpuOperators().route(scores, 2, normalized=True)
    assert chosen[0].tolist() == [2, 1]
    assert [len({*row}) for row in chosen.tolist()] == [2, 2, 2]
    assert weights.isfinite().all(1).tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_shared_experts_gate_is_a_sigmoid(dtype: torch.dtype) -> None:
    x, gate = torch.randn(5, 7, dtype=dtype), torch.tensor([[-90.0], [-1.0], [0.0], [2.0], [90.0]]).to(dtype)
    torch.testing.assert_close(CpuOperators().gate_rows(x.clone(), gate), PLAIN.gate_rows(x.clone(), gate))


# Files


@pytest.mark.parametrize("name", part(MIXED, full=MIXTURES))
def test_experts_are_read_one_by_one_and_all_in_one_tensor(checkpoint: Made, tmp_path: Path, name: str) -> None:
    """Published checkpoints have the one form, or the other; transformers 5 writes both."""
    model, folder = checkpoint(name)
    stacked = save(model, tmp_path / "stacked", save_original_format=False)
    assert load_file(folder / "model.safetensors").keys() != load_file(stacked / "model.safetensors").keys()
    ours, theirs = loaded(folder), loaded(stacked)
    x = torch.randn(3, 48)
    for one, other in zip(ours.linears().values(), theirs.linears().values(), strict=True):
        if one.weight.shape[1] == x.shape[1]:
            assert torch.equal(one(x), other(x))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (MIXED, {"num_experts_per_tok": 8}, "num_experts_per_tok must be at most the 7 experts there are, not 8"),
        (MIXED, {"num_experts_per_tok": 0}, "num_experts_per_tok must be a whole number from 1 to 4096, not 0"),
        (MIXED, {"num_experts": 10**9}, "num_experts must be a whole number from 1 to 4096"),
        (MIXED, {"num_experts": "many"}, "num_experts|cannot be understood"),
        (MIXED, {"moe_intermediate_size": -1}, "moe_intermediate_size must be a whole number from 1 to 16777216"),
        (MIXED, {"decoder_sparse_step": 0}, "decoder_sparse_step must be at least 1, not 0"),
        (MIXED, {"hidden_act": "mish"}, "activation 'mish' is not supported: known are silu"),
        (MIXED, {"num_experts": 8}, r"mlp.gate.weight in .* has shape \[7, 48\], but config.json wants \[8, 48\]"),
        (MIXED, {"moe_intermediate_size": 25}, r"has shape .*24.*, but config.json wants .*25"),
        (MIXED, {"mlp_only_layers": []}, r"holds weights that .* does not have|are missing .*layers.1.mlp.experts.0.down_proj"),
        ("granite-moe", {"num_local_experts": 4}, r"has shape \[5, 48, 48\], but config.json wants \[4, 48, 48\]"),
    ],
)
def test_wrong_configs_are_told_before_memory_is_taken(
    checkpoint: Made, tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    folder = edited(checkpoint(name)[1], tmp_path / "model", **changes)
    with pytest.raises(ModelError, match=message) as caught:
        make_plan(EngineConfig(model=folder))
    assert "\n" not in str(caught.value)


LAYER = "model.layers.0.mlp"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({f"{LAYER}.experts.5.up_proj.weight": None}, rf"missing .*: {LAYER}.experts.5.up_proj.weight"),
        ({f"{LAYER}.gate.weight": None}, rf"missing .*: {LAYER}.gate.weight"),
        ({f"{LAYER}.experts.7.up_proj.weight": (24, 48)}, rf"does not have: {LAYER}.experts.7.up_proj.weight"),
        ({f"{LAYER}.experts.gate_up_proj": (7, 48, 48)}, "are the same weight: remove either"),
        ({f"{LAYER}.experts.3.up_proj.weight": (24, 47)}, r"has shape \[24, 47\], but config.json wants \[24, 48\]"),
    ],
)
def test_wrong_tensors_are_told_before_memory_is_taken(
    checkpoint: Made, tmp_path: Path, changes: dict[str, tuple[int, ...] | None], message: str
) -> None:
    folder = Path(shutil.copytree(checkpoint(MIXED)[1], tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    for name, shape in changes.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = torch.ones(shape)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=message):
        make_plan(EngineConfig(model=folder))


# Products


@pytest.mark.parametrize("quantization", part("int4", full=["int8"]))
def test_experts_are_quantised_and_the_router_is_not(checkpoint: Made, quantization: str) -> None:
    folder = checkpoint("qwen3-moe")[1]
    model = loaded(folder, quantization=quantization)
    assert make_plan(EngineConfig(model=folder, quantization=quantization)).memory.weights == model.num_bytes(prepacked=True)
    exact = loaded(folder)
    x = torch.randn(5, 48)
    for mine, theirs in zip(mixtures(model), mixtures(exact), strict=True):
        linears = [linear for linear in mine.experts.modules() if isinstance(linear, Linear)]
        assert len(linears) == 14
        assert all(type(linear.weight) is type(linears[0].weight) for linear in linears)
        assert isinstance(linears[0].weight, Int4Weight) == (quantization == "int4")
        assert torch.equal(mine.router(x), theirs.router(x))
        error = (mine(x) - theirs(x)).norm() / theirs(x).norm()
        assert 0 < error < (0.25 if quantization == "int4" else 0.03)


@pytest.mark.parametrize("quantization", [None, "int4"])
def test_a_tokens_bits_do_not_depend_on_the_tokens_beside_it(checkpoint: Made, quantization: str | None) -> None:
    model = load_model(
        open_checkpoint(checkpoint(MIXED)[1]), EXACT, ReferenceAttention(), CpuOperators(), quantization=quantization
    )
    x = torch.randn(300, 48, generator=torch.Generator().manual_seed(3))
    for mixture in mixtures(model):
        together = mixture(x)
        assert mixture.num_active == 7
        assert torch.equal(torch.cat([mixture(row[None]) for row in x[::60]]), together[::60])
        assert mixture.num_active == 3


@pytest.mark.full
def test_company_changes_no_bit_of_an_answer(checkpoint: Made) -> None:
    params = SamplingParams(max_tokens=6, temperature=0, logprobs=3)
    prompts = [[(7 * i + j) % 97 for j in range(3 + 5 * i)] for i in range(7)]
    with LLM(checkpoint(MIXED)[1], dtype="float32", deterministic=True, max_batch_size=8, max_model_len=64) as llm:
        alone = [llm.generate([prompt], params)[0] for prompt in prompts[::3]]
        together = llm.generate(prompts, params)[::3]
    assert [(one.token_ids, one.logprobs) for one in alone] == [(one.token_ids, one.logprobs) for one in together]


# Sizes


def test_a_decode_reads_the_experts_that_its_tokens_pass(checkpoint: Made) -> None:
    model = outline(open_checkpoint(checkpoint("qwen3-moe")[1]).spec)
    experts = sum(mixture.num_bytes for mixture in mixtures(model))
    assert experts == 3 * 7 * 3 * 24 * 48 * 4
    dense = model.decode_bytes(1) - experts * 3 / 7
    assert model.decode_bytes(10**6) == dense + experts
    assert dense < model.decode_bytes(1) < model.decode_bytes(2) < model.decode_bytes(8) < dense + experts


@given(experts=st.integers(1, 64), tokens=st.integers(0, 50), data=st.data())
def test_expected_experts_are_between_those_of_one_token_and_all(experts: int, tokens: int, data: st.DataObject) -> None:
    each = data.draw(st.integers(1, experts))
    spec = MixtureSpec(num_experts=experts, per_token=each, expert_size=4, normalized=True)
    assert spec.expected_experts(1) == pytest.approx(each)
    assert min(tokens, 1) * each <= spec.expected_experts(tokens) + 1e-9 <= min(experts, each * tokens) + 1e-6


def test_ranks_have_their_share_of_experts(checkpoint: Made) -> None:
    """Each has half of the seven experts, and its columns of the shared one and of dense layers."""
    folder = checkpoint(MIXED)[1]
    plan = make_plan(EngineConfig(model=folder, dtype="float32", tp=2))
    for rank, count in zip(plan.ranks, (4, 3), strict=True):
        model = loaded(folder, place=Mesh(2).at(rank.place.tensor))
        assert [len(mixture.experts) for mixture in mixtures(model)] == [count, count]
        assert rank.weights == model.num_bytes(prepacked=True)
        assert rank.spec.intermediate_size == 40
        assert rank.spec.mixture is not None
        assert rank.spec.mixture.shared_size == 20
    assert working_bytes(plan.ranks[0].spec, 4, 9, 1, 8) > working_bytes(plan.ranks[0].spec, 4, 8, 1, 8)


def test_more_ranks_than_experts_are_refused(checkpoint: Made) -> None:
    with pytest.raises(ConfigError, match="5 experts cannot be divided over 6 ranks: tp must be at most 5"):
        make_plan(EngineConfig(model=checkpoint("mixtral")[1], tp=6))


def test_the_simulator_refuses_a_mixture_in_one_line(checkpoint: Made) -> None:
    with pytest.raises(ModelError, match="num_local_experts: a mixture of experts cannot be simulated yet"):
        find_architecture(checkpoint("mixtral")[1])


@pytest.mark.full
def test_ranks_in_processes_give_what_one_device_gives(checkpoint: Made) -> None:
    params = SamplingParams(max_tokens=12, temperature=0)
    prompts, answers = [[1, 2, 3], [5] * 20, [9, 8, 7, 6]], []
    for tp in (1, 2):
        with LLM(checkpoint(MIXED)[1], tp=tp, dtype="float32", max_batch_size=4, max_model_len=48) as llm:
            answers.append([output.token_ids for output in llm.generate(prompts, params)])
    assert answers[0] == answers[1]
