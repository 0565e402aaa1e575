"""Architectures without a row of our own: transformers' layers over our attention give what transformers gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.errors import ConfigError, ModelError
from orcinus.plan import Plan, make_plan
from orcinus.profile.batches import batches_of, profile_config
from orcinus.runtime.attention import ReferenceAttention
from orcinus.runtime.checkpoint import load_model, open_checkpoint
from orcinus.runtime.device import Device
from orcinus.runtime.models import Decoder
from orcinus.runtime.packed_weights import packed_format
from orcinus.runtime.transformers_backend import TransformersDecoder
from tests.checkpoints import BASE, edited
from tests.product import part

WINDOW = {"sliding_window": 12}
IDS = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1}  # of configs that want some
SMALL = {"head_dim": 8}  # that of 6 heads in 48 dimensions: some models compute it so, whatever the config says
TWO_OF_FOUR = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
EXPERTS = TWO_OF_FOUR | {"num_experts": 4}
LOCAL = TWO_OF_FOUR | {"num_local_experts": 4}
ROUTED = TWO_OF_FOUR | {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
DENSE: dict[str, dict[str, Any]] = {
    "exaone4": WINDOW | {"sliding_window_pattern": 3},  # a norm behind each layer; windows and no rotation in some
    "apertus": {},  # an activation with parameters
    "gpt_bigcode": {"n_embd": 48, "n_layer": 3, "n_head": 6, "n_positions": 128, "n_inner": 80},  # learned positions
    "bitnet": SMALL,
    "cwm": WINDOW | IDS,
    "ernie4_5": {"use_bias": True, "tie_word_embeddings": True},
    "helium": SMALL,
    "hunyuan_v1_dense": {},
    "hyperclovax": {},
    "internlm3": {},
    "iquestcoder": {},
    "jais2": {},
    "ministral3": {},
    "nanochat": {},
    "persimmon": SMALL,
    "vaultgemma": WINDOW | {"query_pre_attn_scalar": 16},  # soft caps
}
MIXTURES: dict[str, dict[str, Any]] = {
    "dots1": ROUTED,  # its experts lie apart in checkpoints, and are fused by transformers
    "afmoe": EXPERTS | WINDOW | {"num_dense_layers": 1},
    "olmoe": EXPERTS | SMALL,
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 24},
    "flex_olmo": EXPERTS | SMALL,
    "glm4_moe": ROUTED,
    "granitemoe": LOCAL,
    "minimax_m2": LOCAL,
    "mixtral": LOCAL,
    "phimoe": LOCAL,
    "qwen2_moe": EXPERTS | {"shared_expert_intermediate_size": 32},
    "qwen3_moe": EXPERTS,
}
ALL = DENSE | MIXTURES
FEW = ["exaone4", "dots1"]
EVERY = pytest.mark.parametrize("kind", part(*FEW, full=[kind for kind in ALL if kind not in FEW]))
REFUSED = [  # model_type, fields, reason
    ("bloom", {}, "takes no other attention"),
    ("mamba", {}, "takes no other attention"),
    (
        "deepseek_v3",
        {"qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 8, "n_routed_experts": 8},
        "its keys and values differ in size",
    ),
    ("diffllama", {}, "its layers do not attend once each"),
    ("gpt_oss", {"num_local_experts": 4}, "its attention has sinks"),
    ("lfm2", {"layer_types": ["conv", "full_attention", "conv"]}, "it has layers of type conv"),
    ("llama4_text", {}, "it has layers of type chunked_attention"),
    ("recurrent_gemma", {}, "keep a state besides keys and values"),
    ("t5", {}, "no causal language model"),
    ("unheard_of", {"auto_map": {"AutoModelForCausalLM": "modeling.Code"}}, "code that its auto_map names is never run"),
    ("ernie4_5", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "its dynamic scaling"),
    ("ernie4_5", {"quantization_config": {"quant_method": "fp8"}}, "quantized checkpoints"),
    ("ernie4_5", {"num_attention_heads": 0}, "num_attention_heads"),
    ("ernie4_5", {"hidden_act": "sine"}, "sine"),
    ("ernie4_5", {"moe_intermediate_size": float("inf"), "num_experts_per_tok": 2}, "moe_intermediate_size must be a whole"),
]
Made = Callable[[str], tuple[Any, Path]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """(transformers' model with random weights, its folder) for a model type; made once."""
    known: dict[str, tuple[Any, Path]] = {}

    def make(kind: str) -> tuple[Any, Path]:
        if kind not in known:
            config = CONFIG_MAPPING[kind](**BASE | {"head_dim": 16} | ALL.get(kind, {}))
            torch.manual_seed(0)
            model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).eval()
            for parameter in model.parameters():
                if parameter.dim() == 1:  # norms and biases matter
                    parameter.data.add_(0.3 * torch.randn_like(parameter))
            folder = tmp_path_factory.mktemp("checkpoint") / kind
            model.save_pretrained(folder)
            known[kind] = model, folder
        return known[kind]

    return make


def prompts() -> list[list[int]]:
    return [[(7 * place + length) % 97 for place in range(length)] for length in (40, 23, 9)]


def scores(folder: Path, given: list[list[int]], **options: Any) -> tuple[list[list[int]], list[list[float]]]:
    """The token ids of prompts and answers, and the log-probabilities of all but the first."""
    usual: dict[str, Any] = {"dtype": "float32", "policy": "sarathi:chunk_size=16", "max_batch_size": 3, "block_size": 8}
    with LLM(folder, **usual | options) as llm:
        params = SamplingParams(max_tokens=6, temperature=0, logprobs=0, prompt_logprobs=0, ignore_eos=True)
        outputs = llm.generate(given, params)
    ids = [prompt + list(output.token_ids) for prompt, output in zip(given, outputs, strict=True)]
    found = [[*(output.prompt_logprobs or ())[1:], *(output.logprobs or ())] for output in outputs]
    return ids, [[one.logprob for one in each if one] for each in found]


def theirs(model: Any, ids: list[int]) -> list[float]:
    """Log-probabilities of all tokens but the first, by transformers alone."""
    with torch.no_grad():
        found = torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0], -1)
    return [found[place, token].item() for place, token in enumerate(ids[1:])]


def planned(folder: Path, **options: Any) -> Plan:
    return make_plan(EngineConfig(model=folder, **options))


def loaded(folder: Path, dtype: torch.dtype, **options: Any) -> Decoder:
    device = Device(torch.device("cpu"), dtype, "asked for")
    return load_model(open_checkpoint(folder, "transformers"), device, ReferenceAttention(), **options)


@EVERY
def test_log_probabilities_equal_transformers(made: Made, kind: str) -> None:
    """Three requests of other lengths, in chunks of 16 tokens beside decodes; greedy tokens follow from log-probabilities."""
    model, folder = made(kind)
    ids, found = scores(folder, prompts(), model_impl="transformers")
    for each, logprobs in zip(ids, found, strict=True):
        assert logprobs == pytest.approx(theirs(model, each), abs=1e-4)


@EVERY
def test_a_model_in_bfloat16_is_close(made: Made, kind: str) -> None:
    """No tensor is left in float32 that would meet one in bfloat16. A token may get another expert."""
    model, folder = made(kind)
    ids, found = scores(folder, prompts(), model_impl="transformers", dtype="bfloat16")
    differences = [
        abs(a - b) for each, got in zip(ids, found, strict=True) for a, b in zip(got, theirs(model, each), strict=True)
    ]
    assert 0 < sorted(differences)[len(differences) // 2] < 0.3


@EVERY
def test_a_plan_counts_what_the_model_has(made: Made, kind: str) -> None:
    folder = made(kind)[1]
    plan, model = planned(folder, dtype="float32", model_impl="transformers"), loaded(folder, torch.float32)
    assert plan.memory.weights == model.num_bytes(prepacked=packed_format("cpu", torch.float32) is not None)
    assert plan.resolved.num_parameters == model.num_parameters
    (note,) = plan.resolved.notes
    assert "transformers' own code, slower than a row of our own" in note


def test_an_architecture_with_a_row_runs_by_it_unless_one_asks(checkpoint: Made) -> None:
    """Both ways give the same."""
    folder = checkpoint("llama3-rope-tied-odd-heads")[1]
    assert type(loaded(folder, torch.float32)) is TransformersDecoder
    assert planned(folder, model_impl="auto").resolved.notes == ()
    ours, through = (scores(folder, prompts(), model_impl=impl) for impl in ("orcinus", "transformers"))
    assert ours[0] == through[0]
    for one, other in zip(ours[1], through[1], strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_an_architecture_without_a_row_runs_through_transformers_unless_one_forbids(made: Made) -> None:
    folder = made("exaone4")[1]
    assert planned(folder).resolved.architecture == "Exaone4ForCausalLM"
    with pytest.raises(ModelError, match=r"architecture Exaone4ForCausalLM in .* is not supported: see `orcinus models`$"):
        planned(folder, model_impl="orcinus")


@pytest.mark.parametrize("quantization", part("int8", full=["int4"]))
def test_linear_layers_are_quantized(made: Made, quantization: str) -> None:
    """A tied head is, too; all of it as planned."""
    folder = made("exaone4")[1]
    plain, small = (loaded(folder, torch.float32, quantization=each) for each in (None, quantization))
    plan = planned(folder, dtype="float32", quantization=quantization)
    assert plan.memory.weights == small.num_bytes(prepacked=True) < plain.num_bytes(prepacked=True)
    ids, rounded = scores(folder, prompts(), quantization=quantization)
    exact = [theirs(made("exaone4")[0], each) for each in ids]
    differences = [abs(a - b) for one, other in zip(rounded, exact, strict=True) for a, b in zip(one, other, strict=True)]
    assert 0 < sum(differences) / len(differences) < (0.2 if quantization == "int8" else 1.5)


def test_weights_may_have_another_dtype_than_the_model(made: Made, tmp_path: Path) -> None:
    model, folder = made("exaone4")
    shutil.copytree(folder, tmp_path / "model")
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    rounded = loaded(edited(tmp_path / "model", tmp_path / "edited", dtype="bfloat16"), torch.float32)
    assert {parameter.dtype for parameter in rounded.parameters()} == {torch.float32}
    assert isinstance(rounded, TransformersDecoder)
    exact = model.model.embed_tokens.weight.bfloat16().float()
    assert rounded.embed is not None
    assert torch.equal(rounded.embed.weight, exact)


def test_made_up_weights_give_finite_answers(made: Made, tmp_path: Path) -> None:
    shutil.copy(made("dots1")[1] / "config.json", tmp_path)
    with LLM(tmp_path, load_format="dummy", model_impl="transformers", max_model_len=32) as llm:
        (output,) = llm.generate([[1, 2, 3]], SamplingParams(max_tokens=4, temperature=0, logprobs=1))
    assert len(output.token_ids) == 4


@pytest.mark.parametrize(("kind", "fields", "reason"), REFUSED)
def test_refused_before_a_weight_is_read(tmp_path: Path, kind: str, fields: dict[str, Any], reason: str) -> None:
    config = BASE | {"head_dim": 16, "num_hidden_layers": 3, "model_type": kind} | fields
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=reason) as caught:
        planned(tmp_path, load_format="dummy", model_impl="transformers")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tp": 2}, "whose layers are not split: leave out tp and pp"),
        ({"deterministic": True}, "deterministic needs operators of our own"),
        ({"lora": ("mine=folder",)}, "lora adapts layers of our own"),
        ({"model_impl": "vllm"}, "unknown model_impl 'vllm': choose auto, orcinus, transformers"),
    ],
)
def test_options_that_it_cannot_follow(made: Made, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(made("exaone4")[1], **options)


@pytest.mark.parametrize("options", [{"model_impl": "transformers"}, {"lora": ("mine=folder",)}])
def test_a_model_of_the_simulator_has_no_files(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="^(model_impl transformers|lora) needs the files of a model, and llama-7b is one of"):
        make_plan(EngineConfig(model="llama-7b", device="a100-40g", **options), known=True)


def test_profile_needs_layers_of_our_own(made: Made) -> None:
    with pytest.raises(ConfigError, match="profile puts timers on layers of our own"):
        profile_config(EngineConfig(model=made("exaone4")[1]), batches_of((1,), (16,), (), repeats=1), 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), "weights are missing in .*: model.norm.weight"),
        (lambda tensors: tensors.update(more=torch.zeros(2)), "holds weights that Exaone4ForCausalLM does not have: more"),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.zeros(3)}),
            r"model.norm.weight in .* has shape \[3\], but config.json wants \[48\]",
        ),
        (
            lambda tensors: tensors.update({"model.norm.weight": torch.zeros(48, dtype=torch.int8)}),
            "model.norm.weight in .* is I8: quantized weights are not supported",
        ),
    ],
)
def test_weights_that_do_not_fit(
    made: Made, tmp_path: Path, damage: Callable[[dict[str, torch.Tensor]], Any], message: str
) -> None:
    folder = made("exaone4")[1]
    shutil.copytree(folder, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=message):
        planned(tmp_path / "model")


@pytest.mark.parametrize("added", [0.0, 1.0])
def test_a_tied_head_may_be_stored_once_more(made: Made, tmp_path: Path, added: float) -> None:
    """But not another one."""
    model, folder = made("ernie4_5")
    shutil.copytree(folder, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + added
    save_file(tensors, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    if added:
        with pytest.raises(ModelError, match="ties the output to the embedding, but lm_head.weight differs"):
            planned(tmp_path / "model")
        return
    ids, found = scores(tmp_path / "model", [[1, 2, 3]])
    assert found[0] == pytest.approx(theirs(model, ids[0]), abs=1e-4)
