"""Checkpoints that are missing, damaged, split, or of a kind we do not know."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from orcinus import LLM, SamplingParams
from orcinus.errors import ConfigError, ModelError
from orcinus.runtime.checkpoint import known_checkpoint, open_checkpoint
from orcinus.runtime.hub import find_model
from orcinus.runtime.models import DecoderSpec, read_spec
from orcinus.runtime.stored_tensor import put
from tests.checkpoints import CONFIGS, save

Made = Callable[[str], tuple[Any, Path]]
GREEDY = SamplingParams(max_tokens=6, temperature=0)
NOBODY = 65534


@pytest.fixture
def folder(checkpoint: Made, tmp_path: Path) -> Path:
    """A copy of a good checkpoint, to be damaged."""
    return Path(shutil.copytree(checkpoint("qwen3")[1], tmp_path / "model"))


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def index_only(folder: Path, text: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)


def load(folder: Path | str, **config: Any) -> LLM:
    return LLM(folder, **{"max_model_len": 32, "attention": "reference"} | config)


def test_shards_and_an_index_are_read_as_one(checkpoint: Made, tmp_path: Path) -> None:
    model, whole = checkpoint("llama2")
    shards = save(model, tmp_path / "shards", max_shard_size="40KB")
    assert len(list(shards.glob("*.safetensors"))) > 2
    answers = [load(folder).generate([[1, 2, 3]], GREEDY)[0].token_ids for folder in (whole, shards)]
    assert answers[0] == answers[1]


def test_gpt2_as_openai_released_it_loads_without_prefix_and_with_masks(checkpoint: Made, tmp_path: Path) -> None:
    _, saved = checkpoint("gpt2")
    old = Path(shutil.copytree(saved, tmp_path / "old"))
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(saved / "model.safetensors").items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 128, 128)
    save_file(tensors, old / "model.safetensors")
    answers = [load(folder).generate([[1, 2, 3]], GREEDY)[0].token_ids for folder in (saved, old)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", CONFIGS)
def test_what_one_process_found_another_one_is_told(checkpoint: Made, name: str) -> None:
    """As ranks are, which need not load transformers then: number by number the same decoder."""
    found = open_checkpoint(checkpoint(name)[1])
    told = msgspec.json.decode(msgspec.json.encode(found.spec), type=DecoderSpec)
    assert known_checkpoint(found.folder, found.architecture, told, "cpu", keeps=True) == found


def test_a_tied_head_that_was_saved_as_well_is_no_surprise(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}))
    load(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: shutil.rmtree(f), "no model folder|is not in the cache"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not a JSON object"),
        (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
        (
            lambda f: edit_config(f, architectures=["MambaForCausalLM"]),
            "MambaForCausalLM .* not supported: see `orcinus models`",
        ),
        (lambda f: edit_config(f, architectures=None, model_type="mamba"), "model_type 'mamba' .* not supported"),
        (lambda f: edit_config(f, num_hidden_layers="many"), "cannot be understood"),
        (lambda f: edit_config(f, hidden_act="mish"), "activation 'mish' is not supported"),
        (
            lambda f: edit_config(f, rope_parameters={"rope_type": "longrope", "rope_theta": 1.0}),
            "longrope.* not supported|understood",
        ),
        (lambda f: edit_config(f, intermediate_size=88), "has shape"),
        (
            lambda f: edit_config(f, num_hidden_layers=4, layer_types=["full_attention"] * 4),
            "weights are missing .*: model.layers.3.input_layernorm.weight",
        ),
        (
            lambda f: edit_config(f, num_hidden_layers=2, layer_types=["full_attention"] * 2),
            "holds weights that .* does not have: model.layers.2",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "weight files are missing .*download it again"),
        (lambda f: (f / "model.safetensors").write_bytes(b"nonsense" * 9), "cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-999]), "cannot be read"),
        (lambda f: edit_weights(f, lambda t: t.pop("model.norm.weight")), "weights are missing .*: model.norm.weight"),
        (
            lambda f: edit_weights(f, lambda t: t.pop("model.layers.1.self_attn.k_proj.weight")),
            "missing .*: model.layers.1.self_attn.k_proj.weight",
        ),
        (lambda f: edit_weights(f, lambda t: t.update({"model.extra": torch.zeros(1)})), "does not have: model.extra"),
        (lambda f: index_only(f, "{}"), "index.json .* cannot be understood"),
        (lambda f: index_only(f, '{"weight_map": {"a": 1}}'), "weight files are missing"),
        (
            lambda f: index_only(f, '{"weight_map": {"a": "gone.safetensors"}}'),
            "weight files are missing .*: gone.safetensors",
        ),
        (lambda f: edit_config(f, architectures=[1]), "architecture 1 in .* not supported"),
        (lambda f: edit_config(f, num_attention_heads=7), "7 query heads cannot be shared out to 2"),
        (
            lambda f: edit_config(f, quantization_config={"quant_method": "quip"}),
            "quant_method 'quip' are not supported: known are",
        ),
        (
            lambda f: edit_weights(f, lambda t: t.update({"model.norm.weight": torch.ones(48, dtype=torch.int8)})),
            "I8, and config.json does not say",
        ),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer .* cannot be read"),
        (lambda f: [file.unlink() for file in f.iterdir()], "no config.json in .*: this is not a model folder"),
        (
            lambda f: (f / "model.safetensors").rename(f / "consolidated.safetensors"),
            "missing .*; it holds consolidated.safetensors, and weights are read from model.safetensors, or from",
        ),
        (lambda f: edit_weights(f, lambda t: t.update({"a\n\x1b[1mb": torch.zeros(1)})), r"does not have: a\\n\\x1b\[1mb$"),
    ],
)
def test_damage_is_named_in_one_line(folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@contextmanager
def as_a_user() -> Iterator[None]:
    """As a user whom rights bind, for file systems."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.mark.parametrize("name", ["", "config.json", "model.safetensors", "tokenizer.json", "generation_config.json"])
def test_what_a_user_may_not_read_is_no_damage(checkpoint: Made, name: str) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        folder = Path(shutil.copytree(checkpoint("qwen3")[1], Path(place) / "model"))
        if name == "tokenizer.json":
            (folder / name).touch()
        for file in folder.iterdir():
            file.chmod(0o644)
        (folder / name).chmod(0)
        with (
            as_a_user(),
            pytest.raises(ModelError, match="cannot be read: Permission denied: give this user the right") as caught,
        ):
            load(folder)
        (folder / name).chmod(0o755)
    assert str(caught.value).startswith((f"{folder / name} ", f"{name} in {folder} "))


def test_a_tensor_lies_in_one_file(checkpoint: Made, tmp_path: Path) -> None:
    model, _ = checkpoint("qwen3")
    folder = save(model, tmp_path / "model", max_shard_size="40KB")
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    twice = next(iter(load_file(first).items()))
    save_file(load_file(second) | dict([twice]), second, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"holds {twice[0]} in {second.name} and in another file: remove one of them"):
        load(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="convert its .bin files to safetensors"):
        load(folder)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a file"):
        find_model(folder / "config.json")


def test_a_hub_repository_without_network_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="is not in the cache .*, and HF_HUB_OFFLINE forbids downloads: unset HF_HUB_OFFLINE"):
        find_model("some-owner/some-model")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dtype": "int4"}, "unknown dtype 'int4': choose auto, float32"),
        ({"dtype": "float16"}, "float16 is not supported on a CPU"),
        ({"device": "cuda"}, "no CUDA device"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"attention": "magic"}, "unknown attention backend"),
        ({"kv": "magic"}, "unknown K/V manager 'magic': choose max-length"),
        ({"policy": "magic"}, "unknown policy"),
        ({"max_batch_size": 0}, "max_batch_size must be"),
        ({"max_batch_size": None}, "max_batch_size must be"),
        ({"block_size": 1.5}, "block_size must be"),
        ({"num_blocks": 1}, "not even one request of max_model_len 32"),
        ({"num_blocks": 9, "kv_memory_mib": 9}, "only one of them"),
        ({"num_blocks": 10**12}, "does not fit: .* MiB are missing; use num_blocks=[0-9]+"),
        ({"kv_memory_mib": 10**9}, "does not fit: .* MiB are missing; use kv_memory_mib=[0-9]+"),
        ({"block_size": 10**12}, "does not fit: .* MiB are missing; use block_size=16"),
        ({"policy": None}, "policy must be a name"),
        ({"kv": ["paged"]}, "kv must be a string"),
        ({"device": None}, "device must be a string"),
        ({"seed": "x"}, "seed must be a whole number"),
    ],
)
def test_an_engine_that_cannot_be_built_says_why(folder: Path, config: dict[str, Any], message: str) -> None:
    if config.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=message):
        load(folder, **config)


def test_a_model_length_beyond_the_positions_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="max_model_len 129 is more than this model's 128 positions|129 is more than the 128"):
        LLM(folder, max_model_len=129)


def test_an_end_of_text_id_that_the_model_lacks_is_no_stop(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 200, -1, "x"]}')
    with load(folder) as llm:
        assert llm._input_processor.eos_ids == {5}
        assert llm.generate([[1]], SamplingParams(max_tokens=3, min_tokens=3, temperature=0))[0].finish_reason == "length"


def test_blocks_of_one_token_are_orcas_slots(folder: Path) -> None:
    prompts = [[1, 2, 3], [4]]
    answers = [load(folder, block_size=size).generate(prompts, GREEDY) for size in (1, 16)]
    assert [output.token_ids for output in answers[0]] == [output.token_ids for output in answers[1]]
    with pytest.raises(ConfigError, match="not even one request"):
        load(folder, block_size=1, num_blocks=1)


def test_llama_ignores_fields_that_are_not_its_own(checkpoint: Made, tmp_path: Path) -> None:
    """Some configs carry a sliding window that their architecture never heeded."""
    _, saved = checkpoint("llama2")
    idle = Path(shutil.copytree(saved, tmp_path / "idle"))
    edit_config(idle, sliding_window=4, no_rope_layers=[0, 0, 0])
    prompt = [list(range(20))]
    assert load(saved).generate(prompt, GREEDY)[0].token_ids == load(idle).generate(prompt, GREEDY)[0].token_ids


def test_a_config_as_the_hub_has_old_ones(checkpoint: Made, tmp_path: Path) -> None:
    """Rope fields at the top level, `type` for `rope_type`, `torch_dtype` for `dtype`."""
    _, saved = checkpoint("llama-linear-rope-one-kv-head")
    old = Path(shutil.copytree(saved, tmp_path / "old"))
    config = json.loads((old / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": rope["rope_type"], "factor": rope["factor"]}}
    config["torch_dtype"] = config.pop("dtype")
    (old / "config.json").write_text(json.dumps(config))
    prompt = [list(range(20))]
    assert load(saved).generate(prompt, GREEDY)[0].token_ids == load(old).generate(prompt, GREEDY)[0].token_ids


def test_a_small_pool_lowers_an_unrequested_model_length(folder: Path) -> None:
    llm = LLM(folder, num_blocks=3, block_size=16, attention="reference")
    assert llm.resolved.limits.max_model_len == 48
    assert "lowered" in llm.resolved.kv_reason


class Copies(TorchDispatchMode):
    """Writes down what crosses from the CPU to another device, in which dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.crossed: list[torch.dtype] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and result.device.type != "cpu":
            self.crossed.append(result.dtype)
        if func is torch.ops.aten.copy_.default and args[1].device != args[0].device:
            self.crossed.append(args[0].dtype)  # torch converts these before
        return result


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_the_narrower_format_crosses_to_the_device(saved: torch.dtype, wanted: torch.dtype, transposed: bool) -> None:
    tensor = torch.zeros(4, 6, dtype=saved)
    there = torch.empty((6, 4) if transposed else (4, 6), dtype=wanted, device="meta")
    with Copies() as copies:
        put(tensor, there, transposed=transposed)
    assert [dtype.itemsize for dtype in copies.crossed] == [min(saved.itemsize, wanted.itemsize)]
    assert saved.itemsize > wanted.itemsize or copies.crossed == [saved], "converted where it arrives"


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_a_tensor_is_put_into_its_place(saved: torch.dtype, wanted: torch.dtype, transposed: bool) -> None:
    tensor = torch.randn(4, 6).to(saved)
    target = torch.empty((6, 4) if transposed else (4, 6), dtype=wanted)
    put(tensor, target, transposed=transposed)
    assert torch.equal(target, (tensor.t() if transposed else tensor).to(wanted))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_spec_that_was_kept_is_the_one_that_transformers_gives(
    checkpoint: Made, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    folder = checkpoint(name)[1]
    first = open_checkpoint(folder).spec
    monkeypatch.setattr(read_spec, "_with_defaults", lambda config, family: pytest.fail("transformers is asked again"))
    kept = open_checkpoint(folder).spec
    assert (kept, hash(kept), repr(kept)) == (first, hash(first), repr(first))
