"""Damaged files of models: each is read, or refused in one line. (config.json: `test_absurd`; GGUF: `test_gguf_file`.)"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from orcinus import EngineConfig
from orcinus.errors import OrcinusError
from orcinus.model_config import shown
from orcinus.plan import make_plan
from orcinus.runtime.weight_files import SINGLE
from orcinus.text.generation_config import default_params
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests import quantized_checkpoints as writers
from tests.adapters import save_adapter, updates
from tests.checkpoints import make_model
from tests.examples import examples
from tests.fuzz.mutations import check_line, mutated, spoiled

Made = Callable[[str], tuple[Any, Path]]
DAMAGED = {"suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}
ODD_FACTS = {  # fields of tokenizer_config.json that name classes, files or code
    "tokenizer_class": "LlamaTokenizer", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_file": "/etc/passwd",
    "vocab_file": "../vocab.json", "chat_template": [{"name": "default", "template": "{{ x"}], "model_max_length": 1e30,
    "added_tokens_decoder": {"0": {"content": "<s>", "special": True}}, "extra_special_tokens": {"a": "b"}, "unk_token": None,
    "bos_token": {"content": "<s>", "lstrip": False}, "clean_up_tokenization_spaces": True, "processor_class": "X",
}  # fmt: skip
STAGES = [
    {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
    {"type": "Sequence", "pretokenizers": []},
    {"type": "Replace", "pattern": {"String": ""}, "content": "x" * 99},
    {"type": "Metaspace", "replacement": "__", "prepend_scheme": "always"},
    {
        "type": "TemplateProcessing",
        "single": [],
        "pair": [],
        "special_tokens": {"[X]": {"id": "[X]", "ids": [-1], "tokens": []}},
    },
    {"type": "BPE", "vocab": {"a": 0, "b": 10**9}, "merges": ["a b", "b"]},
    {"type": "WordLevel", "vocab": {}, "unk_token": "?"},
    {"type": "Unigram", "vocab": [["a", 1e999]], "unk_id": 7},
]


def read(reader: Callable[[Path], Any], folder: Path) -> None:
    """It works, or is refused well."""
    try:
        reader(folder)
    except OrcinusError as error:
        check_line(error)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundled model to be damaged."""
    made = tmp_path_factory.mktemp("model") / "model"
    return Path(shutil.copytree(MODEL_DIR, made))


def tokenizes(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    if tokenizer is not None:
        tokenizer.decode(tokenizer.encode("Hello <|im_start|> 🐋"))
        _ = tokenizer.longest_token


@examples(50, **DAMAGED)
@given(st.data())
def test_any_tokenizer_json(bundled: Path, data: st.DataObject) -> None:
    whole = json.loads((MODEL_DIR / "tokenizer.json").read_bytes())
    small = whole | {"model": whole["model"] | {"vocab": dict(list(whole["model"]["vocab"].items())[:9]), "merges": []}}
    made = data.draw(spoiled(small, st.sampled_from(STAGES)) | spoiled(small))
    (bundled / "tokenizer.json").write_text(json.dumps(made))
    read(tokenizes, bundled)


@examples(50, **DAMAGED)
@given(st.data())
def test_any_tokenizer_config(bundled: Path, data: st.DataObject) -> None:
    shutil.copy(MODEL_DIR / "tokenizer.json", bundled)
    whole = json.loads((MODEL_DIR / "tokenizer_config.json").read_bytes())
    odd = data.draw(st.dictionaries(st.sampled_from(sorted(ODD_FACTS)), st.none(), max_size=3))
    made = data.draw(st.just(whole | {name: ODD_FACTS[name] for name in odd}).flatmap(spoiled))
    (bundled / "tokenizer_config.json").write_text(json.dumps(made))
    try:
        read(tokenizes, bundled)
    finally:
        shutil.copy(MODEL_DIR / "tokenizer_config.json", bundled)


@examples(50, **DAMAGED)
@given(spoiled(json.loads((MODEL_DIR / "generation_config.json").read_bytes()) | {"temperature": 0.5, "max_new_tokens": 9}))
def test_any_generation_config(bundled: Path, made: Any) -> None:
    (bundled / "generation_config.json").write_text(json.dumps(made))
    read(default_params, bundled)


def plan(folder: Path) -> None:
    make_plan(EngineConfig(model=folder))


HEADER = 2000  # bytes from the beginning of a file that are damaged


@pytest.fixture(scope="module")
def saved(checkpoint: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = Path(shutil.copytree(checkpoint("qwen3")[1], tmp_path_factory.mktemp("weights") / "model"))
    return folder, (folder / SINGLE).read_bytes()


@examples(50, **DAMAGED)
@given(st.data())
def test_any_header_of_weights(saved: tuple[Path, bytes], data: st.DataObject) -> None:
    folder, whole = saved
    (size,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + size])
    some = dict(list(header.items())[:3])
    changed = st.one_of(
        mutated([whole[:HEADER]]).map(lambda begin: begin + whole[HEADER:]),
        spoiled(some).map(lambda new: _with_header({**header, **new} if isinstance(new, dict) else new, whole[8 + size :])),
    )
    (folder / SINGLE).write_bytes(data.draw(changed))
    read(plan, folder)


def _with_header(header: Any, rest: bytes) -> bytes:
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + rest


@pytest.fixture(scope="module")
def quantised(checkpoint: Made, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, dict[str, Any]]]:
    kinds = (writers.gptq(4, 16), writers.compressed(8), writers.fp8(16), writers.awq(16))
    made = [writers.write(checkpoint("llama2")[1], tmp_path_factory.mktemp("quantised"), kind)[0] for kind in kinds]
    return [(folder, json.loads((folder / "config.json").read_bytes())) for folder in made]


@examples(50, **DAMAGED)
@given(st.data())
def test_any_quantization_config(quantised: list[tuple[Path, dict[str, Any]]], data: st.DataObject) -> None:
    folder, config = data.draw(st.sampled_from(quantised))
    settings = data.draw(spoiled(config["quantization_config"]))
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    read(plan, folder)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = save_adapter(tmp_path_factory.mktemp("adapter"), updates(make_model("qwen3"), 1))
    return folder, json.loads((folder / "adapter_config.json").read_bytes())


@examples(50, **DAMAGED)
@given(st.data())
def test_any_adapter_config(adapter: tuple[Path, dict[str, Any]], checkpoint: Made, data: st.DataObject) -> None:
    folder, config = adapter
    more = {
        "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {},
        "use_dora": False,
        "bias": "none",
        "exclude_modules": ["v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(data.draw(spoiled(config | more))))
    read(lambda path: make_plan(EngineConfig(model=checkpoint("qwen3")[1], lora={"mine": path})), folder)


def test_a_value_of_a_file_is_quoted_in_few_words() -> None:
    nested = {
        f"group_{index}": {"targets": ["Linear"] * 9, "weights": {"num_bits": 8, "strategy": "x" * 99}} for index in range(9)
    }
    assert len(shown([nested] * 9)) <= 120
    assert shown("x" * 10) == "'xxxxxxxxxx'"
