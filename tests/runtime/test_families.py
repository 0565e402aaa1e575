"""What families of models differ in, beside their logits (`tests/contracts/test_every_model.py` compares those)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.cost.architecture import find_architecture
from orcinus.errors import ModelError
from orcinus.plan import Plan, make_plan
from orcinus.runtime.attention import ReferenceAttention
from orcinus.runtime.checkpoint import load_model, open_checkpoint, outline
from orcinus.runtime.device import Device
from orcinus.runtime.models import Decoder
from orcinus.runtime.packed_weights import packed_format
from tests.checkpoints import LONG_ROPE, MECHANISMS, MIXED, MIXTURES, REST, edited
from tests.product import part

Made = Callable[[str], tuple[Any, Path]]
CPU = torch.device("cpu")
ROPE = {"rope_type": "default", "rope_theta": 1e4}
DENSE = pytest.mark.parametrize("name", part(*MECHANISMS, full=REST))
EVERY = pytest.mark.parametrize("name", part(*MECHANISMS, MIXED, full=(*REST, *MIXTURES)))


def planned(folder: Path, **options: Any) -> Plan:
    return make_plan(EngineConfig(model=folder, **options))


def loaded(folder: Path, dtype: torch.dtype) -> Decoder:
    return load_model(open_checkpoint(folder), Device(CPU, dtype, "asked for"), ReferenceAttention())


def scores(folder: Path, prompt: list[int], **options: Any) -> list[float]:
    """Log-probabilities of a prompt's tokens but the first."""
    with LLM(folder, dtype="float32", attention="reference", **options) as llm:
        params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
        found = llm.generate([prompt], params)[0].prompt_logprobs
    return [one.logprob for one in (found or ())[1:] if one]


def theirs(model: Any, prompt: list[int]) -> list[float]:
    with torch.no_grad():
        found = torch.log_softmax(model(torch.tensor([prompt])).logits[0], -1)
    return [found[place, token].item() for place, token in enumerate(prompt[1:])]


@EVERY
def test_a_plan_counts_what_the_model_has(checkpoint: Made, name: str) -> None:
    folder = checkpoint(name)[1]
    plan, model = planned(folder, dtype="float32"), loaded(folder, torch.float32)
    assert plan.memory.weights == model.num_bytes(prepacked=packed_format("cpu", torch.float32) is not None)
    assert plan.resolved.num_parameters == model.num_parameters


@EVERY
def test_a_spec_survives_being_kept(checkpoint: Made, name: str) -> None:
    spec = open_checkpoint(checkpoint(name)[1]).spec
    assert type(spec).from_json(spec.to_json()) == spec


@EVERY
def test_made_up_weights_give_finite_answers(checkpoint: Made, name: str, tmp_path: Path) -> None:
    shutil.copy(checkpoint(name)[1] / "config.json", tmp_path)
    with LLM(tmp_path, load_format="dummy", attention="reference", max_model_len=32) as llm:
        (output,) = llm.generate([[1, 2, 3]], SamplingParams(max_tokens=4, temperature=0, logprobs=1))
    assert len(output.token_ids) == 4


@DENSE
def test_the_simulator_reads_the_same_shape(checkpoint: Made, name: str) -> None:
    """Weights of linear layers and embeddings; biases and norms are left out there."""
    folder = checkpoint(name)[1]
    shape, spec = find_architecture(folder), open_checkpoint(folder).spec
    assert (shape.layers, shape.kv_heads, shape.head_dim) == (spec.num_layers, spec.num_kv_heads, spec.head_dim)
    assert (shape.gated, shape.tied, shape.parallel) == (spec.gated_mlp, spec.tied, spec.parallel)
    assert shape.window == (spec.windows[0] if len(set(spec.windows)) == 1 else None)
    matrices = sum(tensor.numel() for name, tensor in outline(spec).tensors().items() if tensor.dim() == 2)
    learned = spec.max_position_embeddings * spec.hidden_size if spec.learned_positions else 0
    assert shape.num_parameters == matrices - learned


def test_norm_weights_less_one_keep_their_last_bits(checkpoint: Made) -> None:
    """1 + w in bfloat16 would have two digits after the point."""
    model, folder = checkpoint("gemma2")
    norm = loaded(folder, torch.bfloat16).norm
    assert norm is not None
    expected = 1 + model.model.norm.weight
    assert norm.weight.dtype is torch.float32
    assert torch.equal(norm.weight, expected)


def test_longrope_has_short_factors_for_an_engine_of_short_requests(checkpoint: Made) -> None:
    """Its config has 64 original positions."""
    model, folder = checkpoint("phi3-longrope-partial")
    short, long = ([(7 * i) % 97 for i in range(count)] for count in (60, 100))
    assert planned(folder, max_model_len=64).resolved.notes == ()
    assert scores(folder, short, max_model_len=64) == pytest.approx(theirs(model, short), abs=2e-5)
    (note,) = planned(folder, max_model_len=128).resolved.notes
    assert "frequencies that longrope has for long contexts: with max_model_len 64 or less they get" in note
    assert scores(folder, long, max_model_len=128) == pytest.approx(theirs(model, long), abs=2e-5)


def test_longrope_was_called_su_at_first(checkpoint: Made, tmp_path: Path) -> None:
    folder = checkpoint("phi3-longrope-partial")[1]
    old = {name: value for name, value in LONG_ROPE.items() if name.endswith("factor")} | {"type": "su"}
    again = edited(folder, tmp_path / "model", rope_parameters=None, rope_scaling=old, rope_theta=1e4)
    assert open_checkpoint(again).spec == open_checkpoint(folder).spec


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("falcon-7b", {"alibi": True}, "alibi True is not supported in models of type falcon"),
        ("cohere", {"use_qk_norm": True}, "use_qk_norm True is not supported"),
        ("stablelm", {"qk_layernorm": True}, "qk_layernorm True is not supported"),
        ("phi2", {"qk_layernorm": True}, "qk_layernorm True is not supported"),
        ("opt", {"do_layer_norm_before": False}, "do_layer_norm_before False is not supported"),
        ("opt", {"word_embed_proj_dim": 24}, "word_embed_proj_dim 24 in a model of 48 dimensions is not supported"),
        ("gpt-neox", {"hidden_act": "mish"}, "activation 'mish' is not supported: known are silu"),
        ("gpt-neox", {"rope_parameters": ROPE | {"partial_rotary_factor": 0}}, "partial_rotary_factor must be .* above 0"),
        ("gpt-neox", {"rope_parameters": ROPE | {"partial_rotary_factor": 0.9}}, "even head size, not 7 of the 8 dimensions"),
        ("gemma2", {"attn_logit_softcapping": 0.0}, "soft_cap of the model must be a number above 0, not 0.0"),
        ("gemma2", {"attn_logit_softcapping": -1.0}, "soft_cap of the model must be a number above 0, not -1.0"),
        ("gemma2", {"query_pre_attn_scalar": 0}, "cannot be understood"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention True is not supported"),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "magic"}, "sliding_attention": {}}}, "'magic'"),
        ("gemma3-with-images", {"text_config": None}, "text_config must be an object, not None"),
        ("gemma3-with-images", {"text_config": {"vocab_size": -1}}, "vocab_size must be a whole number from 1"),
        ("granite", {"logits_scaling": 0}, "cannot be understood"),
        ("granite", {"embedding_multiplier": float("inf")}, "embedding_multiplier of the model must be a finite number"),
        ("phi3-longrope-partial", {"rope_parameters": LONG_ROPE | {"short_factor": [1.0]}}, "short_factor|understood"),
        (
            "phi3-longrope-partial",
            {"rope_parameters": LONG_ROPE | {"short_factor": [0] * 6}},
            "short_factor .* numbers above 0",
        ),
    ],
)
def test_what_the_decoder_cannot_do_is_told_before_memory_is_taken(
    checkpoint: Made, tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    folder = edited(checkpoint(name)[1], tmp_path / "model", **changes)
    with pytest.raises(ModelError, match=message) as caught:
        planned(folder)
    assert "\n" not in str(caught.value)
