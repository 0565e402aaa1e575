"""Checkpoints as the hub has them: other spellings, other names of weights, heads that are tied, stored, or both."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.errors import ConfigError, ModelError
from orcinus.plan import Plan, make_plan
from orcinus.runtime.weight_files import INDEX, SINGLE
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.checkpoints import CONFIGS
from tests.commands import orcinus

Made = Callable[[str], tuple[Any, Path]]
Tensors = dict[str, torch.Tensor]
GREEDY = SamplingParams(max_tokens=6, temperature=0)
PROMPT = [5, 6, 7, 8, 9]
FAMILIES = ["llama2", "mistral-no-window", "qwen2", "qwen3", "smollm3-some-layers-without-rope", "gpt2"]
EMBEDDINGS = {"gpt2": "transformer.wte.weight"}


@pytest.fixture
def copy(checkpoint: Made, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a random checkpoint, to be changed."""
    return lambda name: Path(shutil.copytree(checkpoint(name)[1], tmp_path / name))


def edit_config(folder: Path, *without: str, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in without}))


def edit_weights(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(folder / SINGLE)), folder / SINGLE, metadata={"format": "pt"})


def split(folder: Path) -> None:
    """Two files and an index: every other tensor in each."""
    tensors = load_file(folder / SINGLE)
    names, shards = sorted(tensors), ("a.safetensors", "b.safetensors")
    for number, shard in enumerate(shards):
        save_file({name: tensors[name] for name in names[number::2]}, folder / shard)
    index = {"metadata": {}, "weight_map": {name: shards[place % 2] for place, name in enumerate(names)}}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / SINGLE).unlink()


def planned(folder: Path, **options: Any) -> Plan:
    return make_plan(EngineConfig(model=folder, **options))


def tokens(folder: Path, **options: Any) -> tuple[int, ...]:
    with LLM(folder, max_model_len=32, **{"dtype": "float32", "attention": "reference"} | options) as llm:
        return llm.generate([PROMPT], GREEDY)[0].token_ids


def tokens_of_transformers(folder: Path) -> tuple[int, ...]:
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = model.generate(torch.tensor([PROMPT]), max_new_tokens=6, do_sample=False, pad_token_id=0)
    return tuple(ids[0, len(PROMPT) :].tolist())


def with_head(name: str, head: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], Tensors]:
    embedding = EMBEDDINGS.get(name, "model.embed_tokens.weight")
    return lambda tensors: tensors | {"lm_head.weight": head(tensors[embedding]).contiguous().clone()}


def _one_number_changed(embedding: torch.Tensor) -> torch.Tensor:
    changed = embedding.clone()
    changed[-1, -1] += 0.5
    return changed


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_head_that_differs_from_the_embedding_is_kept(
    copy: Callable[[str], Path], caplog: pytest.LogCaptureFixture, name: str, sharded: bool
) -> None:
    folder = copy(name)
    edit_config(folder, tie_word_embeddings=True)
    edit_weights(folder, with_head(name, lambda embedding: embedding.flip(0)))
    if sharded:
        split(folder)
    plan = planned(folder)
    spec = plan.model.checkpoint.spec
    assert not spec.tied
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert stored - 20_000 < plan.model.saved_bytes == 4 * plan.model.num_parameters <= stored, "the head counts"
    with caplog.at_level(logging.WARNING, "orcinus"):
        assert tokens(folder) == tokens_of_transformers(folder)
    (said,) = [record.getMessage() for record in caplog.records]
    assert "lm_head.weight differs from" in said
    assert "tie_word_embeddings false" in said
    assert "\n" not in said


def test_one_number_is_a_difference(copy: Callable[[str], Path]) -> None:
    folder = copy("qwen3")
    edit_weights(folder, with_head("qwen3", _one_number_changed))
    assert not planned(folder).model.checkpoint.spec.tied


def test_a_head_that_differs_is_told_before_anything_is_loaded(copy: Callable[[str], Path]) -> None:
    folder = copy("qwen3")
    edit_weights(folder, with_head("qwen3", _one_number_changed))
    for command in ("info", "plan"):
        done = orcinus(command, "--model", str(folder))
        assert done.returncode == 0
        assert "lm_head.weight differs from" in " ".join(done.stdout.split())
    told = json.loads(orcinus("plan", str(folder), "--json").stdout)
    assert "lm_head.weight differs" in told["notes"][0]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stored_copy_of_the_embedding_takes_no_memory(copy: Callable[[str], Path], name: str, dtype: torch.dtype) -> None:
    folder = copy(name)
    edit_config(folder, tie_word_embeddings=True)
    edit_weights(folder, lambda tensors: {key: tensor for key, tensor in tensors.items() if key != "lm_head.weight"})
    without = planned(folder)
    edit_weights(folder, with_head(name, lambda embedding: embedding.to(dtype)))
    plan = planned(folder)
    assert plan.model.checkpoint.spec.tied
    assert plan.resolved.notes == ()
    assert (plan.model.num_parameters, plan.memory.weights) == (without.model.num_parameters, without.memory.weights)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tied_model_may_store_its_head_alone(copy: Callable[[str], Path], name: str) -> None:
    folder = copy(name)
    edit_config(folder, tie_word_embeddings=True)
    embedding = EMBEDDINGS.get(name, "model.embed_tokens.weight")
    edit_weights(folder, lambda tensors: {key: tensor for key, tensor in tensors.items() if key != "lm_head.weight"})
    usual = tokens(folder)
    edit_weights(
        folder, lambda tensors: {"lm_head.weight" if key == embedding else key: tensor for key, tensor in tensors.items()}
    )
    assert planned(folder).model.checkpoint.spec.tied
    assert tokens(folder) == usual == tokens_of_transformers(folder)


def test_an_untied_model_without_a_head_says_what_may_be_meant(copy: Callable[[str], Path]) -> None:
    folder = copy("llama2")
    edit_weights(folder, lambda tensors: {key: tensor for key, tensor in tensors.items() if key != "lm_head.weight"})
    with pytest.raises(
        ModelError, match=r"missing in .*: lm_head.weight; or tie_word_embeddings in config.json should be true"
    ):
        planned(folder)


def test_made_up_weights_go_by_the_config(copy: Callable[[str], Path]) -> None:
    folder = copy("qwen3")
    edit_weights(folder, with_head("qwen3", _one_number_changed))
    assert planned(folder, load_format="dummy").model.checkpoint.spec.tied


def test_headers_alone_do_not_tell_whether_a_head_differs(copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a repository whose weights are not downloaded: then the config is believed, and the plan made again later."""
    folder = copy("qwen3")
    edit_weights(folder, with_head("qwen3", _one_number_changed))
    monkeypatch.setattr("orcinus.plan.has_weights", lambda folder: False)
    plan = planned(folder)
    assert plan.model.checkpoint.spec.tied
    assert not plan.model.complete
    assert "compared when it is loaded" in plan.resolved.notes[0]


def _renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {
        new + key.removeprefix(old) if key.startswith(old) else key: tensor for key, tensor in tensors.items()
    }


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "language_model.model.", "model.language_model."])
def test_weights_may_have_another_prefix_or_none(copy: Callable[[str], Path], name: str, prefix: str) -> None:
    folder = copy(name)
    usual = tokens(folder)
    edit_weights(folder, _renamed("transformer." if name == "gpt2" else "model.", prefix))
    assert tokens(folder) == usual


def test_the_whole_model_may_be_wrapped(copy: Callable[[str], Path]) -> None:
    folder = copy("llama2")
    usual = tokens(folder)
    edit_weights(folder, lambda tensors: {f"module.{key}": tensor for key, tensor in tensors.items()})
    assert tokens(folder) == usual


@pytest.mark.parametrize("name", ["qwen3", "gpt2"])
def test_a_base_model_that_transformers_saved_loads(checkpoint: Made, tmp_path: Path, name: str) -> None:
    model, whole = checkpoint(name)
    model.base_model.save_pretrained(tmp_path / "base")
    assert json.loads((tmp_path / "base/config.json").read_text())["architectures"][0].endswith("Model")
    assert tokens(tmp_path / "base") == tokens(whole)


def test_one_weight_under_two_names_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("llama2")
    edit_weights(folder, lambda tensors: tensors | {"norm.weight": torch.ones(48)})
    with pytest.raises(ModelError, match="model.norm.weight and norm.weight, which are the same weight"):
        planned(folder)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("listed", [None, []])
def test_the_model_type_tells_the_architecture_where_none_is_named(
    copy: Callable[[str], Path], name: str, listed: list[str] | None
) -> None:
    folder = copy(name)
    usual = planned(folder).resolved.architecture
    edit_config(folder, architectures=listed)
    assert planned(folder).resolved.architecture == usual
    edit_config(folder, "architectures")
    assert planned(folder).resolved.architecture == usual
    edit_config(folder, "model_type", architectures=[usual])
    assert planned(folder).resolved.architecture == usual


def test_without_architecture_and_model_type_a_model_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("qwen3")
    edit_config(folder, "architectures", "model_type")
    with pytest.raises(ModelError, match=r"model_type None in .* is not supported: see `orcinus models`"):
        planned(folder)


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({"dtype": "torch.float16"}, torch.float16),
        ({"torch_dtype": "torch.bfloat16"}, torch.bfloat16),
        ({"torch_dtype": "bfloat16"}, torch.bfloat16),
        ({"dtype": "float16", "torch_dtype": "bfloat16"}, torch.float16),  # as transformers reads both
        ({"dtype": None, "torch_dtype": "torch.float64"}, torch.float64),
        ({"dtype": "half"}, torch.float16),  # torch's other names
        ({"torch_dtype": "torch.double"}, torch.float64),
        ({"dtype": "auto"}, torch.float32),  # what the weights are
        ({"torch_dtype": "auto"}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_the_dtype_of_a_config_has_several_spellings(
    copy: Callable[[str], Path], changes: dict[str, Any], dtype: torch.dtype
) -> None:
    folder = copy("qwen3")
    edit_config(folder, "dtype", "torch_dtype")
    edit_config(folder, **changes)
    assert planned(folder).model.checkpoint.dtype == dtype


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}


@pytest.mark.parametrize(
    ("settings", "null"),
    [
        (YARN, "original_max_position_embeddings"),
        (YARN, "attention_factor"),
        (YARN, "type"),
        ({"rope_type": "linear", "factor": 2.0}, "rope_theta"),
        ({}, "rope_type"),
        ({}, "rope_theta"),
    ],
)
def test_a_null_in_the_settings_of_rope_says_nothing(copy: Callable[[str], Path], settings: dict[str, Any], null: str) -> None:
    folder = copy("qwen3")
    edit_config(folder, rope_parameters=settings)
    without = planned(folder).model.checkpoint.spec
    edit_config(folder, rope_parameters=settings | {null: None})
    assert planned(folder).model.checkpoint.spec == without


@pytest.mark.parametrize("named", ["float8_e4m3fn", "torch.float8_e5m2", "fp8", "int8", "torch.nn", "", 7, ["float32"], {}])
@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_a_dtype_that_is_not_supported_is_refused(copy: Callable[[str], Path], field: str, named: object) -> None:
    folder = copy("qwen3")
    edit_config(folder, "dtype", "torch_dtype")
    edit_config(folder, **{field: named})
    with pytest.raises(ModelError, match="config.json in .* says dtype .*: known are auto, float64, float32") as caught:
        planned(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "dtype"),
    [
        ("torch.float32", "float32"),
        (torch.bfloat16, "bfloat16"),
        (torch.float32, "float32"),
        ("float", "float32"),
        ("auto", "float32"),
    ],
)
def test_the_dtype_that_is_asked_for_has_them_too(copy: Callable[[str], Path], asked: Any, dtype: str) -> None:
    assert planned(copy("llama2"), dtype=asked).resolved.dtype == dtype


@pytest.mark.parametrize("asked", ["torch.float16", "half", torch.float16])
def test_halves_are_for_gpus(copy: Callable[[str], Path], asked: Any) -> None:
    with pytest.raises(ConfigError, match="float16 is not supported on a CPU"):
        planned(copy("llama2"), dtype=asked)


@pytest.mark.parametrize("asked", ["fp8", "torch.float8_e4m3fn", torch.int8, "torch.", "float64"])
def test_a_dtype_that_no_engine_has_is_refused(copy: Callable[[str], Path], asked: Any) -> None:
    with pytest.raises(ConfigError, match="unknown dtype .*: choose auto, float32, bfloat16, float16"):
        planned(copy("llama2"), dtype=asked)


def test_the_command_line_spells_a_dtype_so_too(copy: Callable[[str], Path]) -> None:
    told = orcinus("plan", str(copy("llama2")), "--json", "--dtype", "torch.bfloat16")
    assert json.loads(told.stdout)["dtype"] == "bfloat16"


@pytest.mark.parametrize("kind", [None, "Qwen2Tokenizer", "GPT2TokenizerFast"])
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "torch.float16"},
        {"torch_dtype": "torch.bfloat16", "dtype": None},
        {"num_labels": 10**12},
        {"model_type": None},
        {"architectures": None},
        {"rope_scaling": {"type": "magic"}},
    ],
)
def test_a_tokenizer_is_found_whatever_else_the_config_says(tmp_path: Path, kind: str | None, changes: dict[str, Any]) -> None:
    folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | {"tokenizer_class": kind}
    settings = {name: value for name, value in settings.items() if value is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    edit_config(folder, **changes)
    found, usual = load_tokenizer(folder), load_tokenizer(MODEL_DIR)
    assert found is not None
    assert usual is not None
    assert found.encode("Hello world, 12") == usual.encode("Hello world, 12")


STRETCHED = {  # a scaling -> its settings, and the longest request it allows a model of 64 positions
    "yarn": ({"factor": 4.0, "original_max_position_embeddings": 64}, 256),
    "yarn-from-half": ({"factor": 4.0, "original_max_position_embeddings": 32}, 128),
    "linear": ({"factor": 2.5}, 160),
    "llama3": (
        {"factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
        128,
    ),
    "llama3-stretched-already": (
        {"factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
        64,
    ),
    "dynamic": ({"factor": 2.0}, 64),
    "default": ({}, 64),
}


def _scale(folder: Path, name: str, spelling: str, **changes: Any) -> int:
    """Let a config ask for a scaling, in the spelling of either generation; the longest request it then allows."""
    kind, (settings, longest) = name.split("-")[0], STRETCHED[name]
    edit_config(folder, "rope_parameters", "rope_theta", "rope_scaling", max_position_embeddings=64, **changes)
    if spelling == "rope_scaling":
        edit_config(folder, rope_theta=1e4, rope_scaling={"type": kind, **settings})
    else:
        edit_config(folder, rope_parameters={"rope_type": kind, "rope_theta": 1e4, **settings})
    return longest


@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("name", STRETCHED)
def test_rope_scaling_stretches_the_model_as_far_as_its_config_asks(
    copy: Callable[[str], Path], name: str, spelling: str
) -> None:
    folder = copy("qwen2")
    longest = _scale(folder, name, spelling)
    usual = planned(folder).resolved
    assert (usual.limits.max_model_len, usual.notes) == (64, ())
    assert planned(folder, max_model_len=64).resolved.notes == ()
    stretched = planned(folder, max_model_len=longest).resolved
    assert stretched.limits.max_model_len == longest
    assert len(stretched.notes) == (longest > 64)
    assert all(f"beyond the 64 positions of config.json: its {name.split('-')[0]} scaling" in note for note in stretched.notes)
    with pytest.raises(ConfigError, match=f"max_model_len {longest + 1} is more than the {longest} positions of this model"):
        planned(folder, max_model_len=longest + 1)


@pytest.mark.parametrize("name", ["yarn", "linear", "llama3"])
@pytest.mark.parametrize("model", ["llama2", "mistral-no-window", "qwen2", "qwen3", "smollm3-some-layers-without-rope"])
def test_beyond_its_positions_a_stretched_model_gives_the_logits_of_transformers(
    copy: Callable[[str], Path], name: str, model: str
) -> None:
    folder = copy(model)
    longest = _scale(folder, name, "rope_scaling")
    prompt = [(7 * i) % 97 for i in range(longest - 1)]
    theirs = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        scores = torch.log_softmax(theirs(torch.tensor([prompt])).logits[0], -1)
    expected = [scores[place, token].item() for place, token in enumerate(prompt[1:])]
    with LLM(folder, max_model_len=longest, dtype="float32", attention="reference") as llm:
        params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
        found = llm.generate([prompt], params)[0].prompt_logprobs
    assert [one.logprob for one in (found or ())[1:] if one] == pytest.approx(expected, abs=2e-5)


def test_the_line_about_a_stretched_model_reaches_the_terminal(copy: Callable[[str], Path]) -> None:
    folder = copy("qwen2")
    _scale(folder, "yarn", "rope_scaling")
    for command in ("info", "plan"):
        told = orcinus(command, "--model", str(folder), "--max-model-len", "256")
        assert "its yarn scaling, which holds for requests of every length" in " ".join(told.stdout.split())
