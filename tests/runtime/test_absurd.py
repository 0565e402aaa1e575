"""Model folders that are absurd, broken or hostile: one line, at once, from every reader there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.cost.architecture import find_architecture
from orcinus.errors import OrcinusError
from orcinus.plan import make_plan
from orcinus.runtime.weight_files import INDEX, SINGLE
from orcinus.text.generation_config import default_params, end_of_text_ids
from orcinus.text.tokenizer import load_tokenizer
from tests.commands import orcinus
from tests.examples import examples, whole
from tests.product import part
from tests.serve.in_process import refusals
from tests.waiting import within

Made = Callable[[str], tuple[Any, Path]]
BUNDLED = Path(__file__).parents[2] / "src/orcinus/tiny/model"
DEEP = "[" * 200_000
SECONDS = 20  # for what takes a tenth of one: a machine may be busy, and what does not end takes for ever


@pytest.fixture
def folder(checkpoint: Made, tmp_path: Path) -> Path:
    """A copy of a good checkpoint with a tokenizer, to be damaged."""
    made = Path(shutil.copytree(checkpoint("qwen3")[1], tmp_path / "model"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED / name, made)
    return made


def edit(folder: Path, *without: str, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in without}))


def plan(folder: Path) -> Any:
    return make_plan(EngineConfig(model=folder))


def plan_without_weights(folder: Path) -> Any:
    made = make_plan(EngineConfig(model=folder, load_format="dummy"))
    made.check()
    return made


def refused(read: Callable[[Path], Any], folder: Path) -> str:
    """The one line in which a reader refuses the folder, before long."""
    with within(SECONDS), pytest.raises(OrcinusError) as caught:
        read(folder)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 1000
    return said


NUMBERS = [0, -1, -(2**70), 10**12, 10**30, 10**4000, 1.5, 2.0, 1e300, float("nan"), float("inf"), "8", True, [], {}, [8]]
SIZES = ["num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size", "intermediate_size"]
SIZES += ["vocab_size", "max_position_embeddings"]


@pytest.mark.parametrize("read", [plan, plan_without_weights, find_architecture, load_tokenizer])
@pytest.mark.parametrize("value", NUMBERS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_cannot_be_is_named(folder: Path, read: Callable[[Path], Any], name: str, value: object) -> None:
    edit(folder, **{name: value})
    assert f"{name} must be a whole number from 1 to" in refused(read, folder)


@pytest.mark.parametrize("name", ["n_layer", "n_head", "n_embd", "n_positions", "n_inner", "vocab_size"])
@pytest.mark.parametrize("value", [0, -1, 10**12, 1.5, "8"])
@pytest.mark.parametrize("read", [plan, find_architecture])
def test_other_names_of_sizes_are_bounded_too(
    checkpoint: Made, tmp_path: Path, read: Callable[[Path], Any], name: str, value: object
) -> None:
    folder = Path(shutil.copytree(checkpoint("gpt2")[1], tmp_path / "model"))
    edit(folder, **{name: value})
    assert f"{name} must be a whole number" in refused(read, folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_key_value_heads": 4}, "6 query heads cannot be shared out to 4"),
        ({"num_key_value_heads": 7}, "6 query heads cannot be shared out to 7"),
        ({"head_dim": None, "hidden_size": 3}, "6 heads cannot share 3 dimensions|cannot be understood"),
        ({"head_dim": 23}, "even"),
        ({"layer_types": ["full_attention"] * 2}, "cannot be understood|another length"),
        ({"layer_types": ["full_attention"] * 10_000}, "cannot be understood|another length"),
        ({"layer_types": [[]] * 3}, "cannot be understood"),
        ({"layer_types": ["magic_attention"] * 3}, "cannot be understood: .*layer_types"),
        ({"hidden_act": ["silu"]}, "hidden_act"),
        ({"hidden_act": "x" * 5000}, "is not supported"),
        ({"rms_norm_eps": float("nan")}, "epsilon of norms"),
        ({"rms_norm_eps": float("inf")}, "epsilon of norms"),
        ({"rms_norm_eps": -1e-6}, "epsilon of norms"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"rms_norm_eps": None}, "rms_norm_eps"),
        ({"sliding_window": 0, "use_sliding_window": True}, "sliding_window must be at least 1"),
        ({"sliding_window": 1.5, "use_sliding_window": True}, "sliding_window"),
        ({"tie_word_embeddings": "maybe"}, "tie_word_embeddings"),
        ({"rope_parameters": [1]}, "rope_parameters must be an object"),
        ({"rope_scaling": "yarn"}, "rope_scaling must be an object"),
        ({"rope_parameters": {"rope_type": [1]}}, "cannot be understood|rope scaling .1. is not supported"),
        ({"rope_parameters": {"rope_type": "magic"}}, "rope scaling 'magic' is not supported"),
        (
            {
                "layer_types": ["full_attention", "full_attention", "sliding_attention"],
                "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}},
            },
            "no settings for sliding_attention",
        ),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "factor"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0}}, "factor"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "low_freq_factor": None}}, "low_freq_factor"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1.0, "factor": 2.0}}, "cannot be understood"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 0}},
            "original_max_position_embeddings",
        ),
        (
            {
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 1e4,
                    "factor": 4.0,
                    "original_max_position_embeddings": [],
                }
            },
            "original_max_position_embeddings",
        ),
        ({"architectures": "Qwen3"}, "architecture Qwen3 .* not supported"),
        ({"architectures": ["x" * 10**5]}, "not supported"),
        ({"architectures": {}}, "not supported"),
        ({"architectures": [], "model_type": [[]]}, "model_type .* not supported"),
        ({"quantization_config": DEEP[:500]}, "quantized checkpoints of quant_method None"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    edit(folder, **changes)
    assert re.search(said, refused(plan_without_weights, folder))


@pytest.mark.parametrize("theta", [0, 0.0, -1e4, float("nan"), float("inf"), 10**400, "1e4", True, [], 1e300])
@pytest.mark.parametrize("spelling", ["rope_theta", "rope_parameters"])
def test_a_rope_theta_that_is_no_number_above_0_is_refused(folder: Path, spelling: str, theta: object) -> None:
    """A theta of 0 was once taken for none."""
    edit(folder, "rope_parameters", "rope_theta")
    edit(folder, **({"rope_theta": theta} if spelling == "rope_theta" else {"rope_parameters": {"rope_theta": theta}}))
    assert "rope_theta of the rotary embedding must be a number above 0" in refused(plan_without_weights, folder)


@pytest.mark.parametrize("field", ["num_labels", "id2label", "max_window_layers", "auto_map", "per_layer_config", "n_ctx"])
@pytest.mark.parametrize("value", [10**12, -1, {"0": 1}, []])
def test_fields_that_no_family_reads_do_no_harm(folder: Path, field: str, value: object) -> None:
    edit(folder, **{field: value})
    with within(SECONDS):
        if field == "max_window_layers" and not isinstance(value, int):
            assert "max_window_layers" in refused(plan, folder)
        else:
            assert plan(folder).fits


BROKEN = {
    "deep": DEEP.encode(),
    "deep objects": b'{"a":' * 200_000,
    "deep and closed": ("[" * 200_000 + "]" * 200_000).encode(),
    "a deep field": b'{"a":' + DEEP.encode() + b"]" * 200_000 + b"}",
    "no UTF-8": b'{"a": "\xff\xfe"}',
    "null": b"null",
    "a list": b"[]",
    "a number": b"1" * 5000,
    "nothing": b"",
    "a beginning": b'{"a": ',
}


def as_fifo(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def as_loop(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to(file.name)


def as_folder(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.mkdir()


def as_giant(file: Path) -> None:
    """A sparse file of a terabyte."""
    with file.open("wb") as stream:
        stream.truncate(2**40)


NO_FILES = [as_fifo, as_loop, as_folder, as_giant]


def read_with_generation_config(folder: Path) -> object:
    return default_params(folder), end_of_text_ids(folder)


READERS = [("config.json", plan), ("config.json", find_architecture), ("config.json", load_tokenizer)]
READERS += [("generation_config.json", read_with_generation_config), ("generation_config.json", load_tokenizer)]
READERS += [("special_tokens_map.json", load_tokenizer), ("added_tokens.json", load_tokenizer)]
READERS += [("tokenizer_config.json", load_tokenizer), ("tokenizer.json", load_tokenizer), (INDEX, plan)]


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_file_that_is_no_json_object_is_named(folder: Path, name: str, read: Callable[[Path], Any], content: bytes) -> None:
    if name == INDEX:
        (folder / SINGLE).unlink()
    (folder / name).write_bytes(content)
    assert name in refused(read, folder) or name == "tokenizer.json"


@pytest.mark.parametrize("become", NO_FILES)
@pytest.mark.parametrize(("name", "read"), [reader for reader in READERS if reader[0] != INDEX])
def test_what_is_no_file_or_a_giant_is_refused(
    folder: Path, name: str, read: Callable[[Path], Any], become: Callable[[Path], None]
) -> None:
    become(folder / name)
    refused(read, folder)


def _safetensors(header: Any, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def _tensor(*shape: int, dtype: str = "F32", offsets: tuple[int, int] = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


MILLION = "a million tensors"
WEIGHTS: dict[str, Callable[[], bytes]] = {  # made when they are tested: some are large
    "overlapping": lambda: _safetensors({"a": _tensor(2), "b": _tensor(2, offsets=(4, 12))}, bytes(12)),
    "the same bytes": lambda: _safetensors({"a": _tensor(2), "b": _tensor(2)}, bytes(8)),
    "beyond the end": lambda: _safetensors({"a": _tensor(20, offsets=(0, 80))}, bytes(8)),
    "backwards": lambda: _safetensors({"a": _tensor(2, offsets=(8, 0))}, bytes(8)),
    "not as long as its shape": lambda: _safetensors({"a": _tensor(3)}, bytes(8)),
    "a product that overflows": lambda: _safetensors({"a": _tensor(2**62, 4)}, bytes(8)),
    "a negative size": lambda: _safetensors({"a": _tensor(-2)}, bytes(8)),
    "an unknown dtype": lambda: _safetensors({"a": _tensor(2, dtype="X9")}, bytes(8)),
    "deep": lambda: _safetensors(DEEP.encode()),
    "deep objects": lambda: _safetensors(b'{"a":' * 200_000),
    "no UTF-8": lambda: _safetensors(b'{"\xff": {}}'),
    "a list": lambda: _safetensors([]),
    "no tensors": lambda: _safetensors({}),
    "a header longer than the file": lambda: _safetensors({}, size=10**6),
    "an endless header": lambda: _safetensors({}, size=2**63),
    MILLION: lambda: _safetensors({f"t{i}": _tensor(0, offsets=(0, 0)) for i in range(10**6)}),
    "200000 tensors": lambda: _safetensors({f"t{i}": _tensor(0, offsets=(0, 0)) for i in range(200_000)}),
    "nothing": lambda: b"",
    "seven bytes": lambda: b"1234567",
}


@pytest.mark.parametrize("name", part(*(name for name in WEIGHTS if name != MILLION), full=[MILLION]))
def test_headers_of_weights_are_not_trusted(folder: Path, name: str) -> None:
    content = WEIGHTS[name]
    (folder / SINGLE).write_bytes(content())
    refused(plan, folder)


@pytest.mark.parametrize("become", [as_fifo, as_loop, as_folder])
def test_weights_that_are_no_file_are_missing(folder: Path, become: Callable[[Path], None]) -> None:
    become(folder / SINGLE)
    assert "weight files are missing" in refused(plan, folder)


@pytest.mark.parametrize("shard", ["../model/model.safetensors", "/etc/passwd", "a\0b", "x" * 5000, 7, None, ["a"], ""])
def test_an_index_names_files_of_its_folder(folder: Path, shard: object) -> None:
    (folder / SINGLE).rename(folder / "kept.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": shard}}))
    refused(plan, folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_k": 1.5},
        {"top_p": []},
        {"max_new_tokens": -1},
        {"repetition_penalty": {}},
        {"temperature": ["x"] * 10_000},
    ],
)
def test_a_generation_config_that_asks_for_the_impossible_is_refused(folder: Path, fields: dict[str, Any]) -> None:
    (folder / "generation_config.json").write_text(json.dumps(fields))
    assert "generation_config.json" in refused(default_params, folder)


@pytest.mark.parametrize("eos", [[[5]], {"a": 5}, "5", True, -1, 1.5, 10**30, [None, 5]])
def test_ids_that_end_a_text_are_whole_numbers(folder: Path, eos: object) -> None:
    edit(folder, eos_token_id=eos)
    assert end_of_text_ids(folder) in (set(), {5}, {10**30})
    assert plan(folder).fits


@pytest.mark.parametrize(
    "command",
    [
        ("generate", "hi", "--model"),
        ("info", "--model"),
        ("plan",),
        ("simulate", "--requests", "2", "--model"),
        ("bench", "offline", "--requests", "2", "--model"),
        ("chat", "--model"),
        ("calibrate", "--model"),
        ("profile",),
        ("demo", "--model"),
    ],
)
@pytest.mark.parametrize(
    "damage", [lambda f: edit(f, num_hidden_layers=10**12), lambda f: (f / "config.json").write_text(DEEP)]
)
def test_every_command_says_so_in_one_line(folder: Path, command: tuple[str, ...], damage: Callable[[Path], Any]) -> None:
    damage(folder)
    done = orcinus(*command, str(folder))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    "damage", part(lambda f: edit(f, vocab_size=-1), full=[lambda f: (f / "generation_config.json").write_text(DEEP)])
)
def test_a_server_says_so_in_one_line(folder: Path, damage: Callable[[Path], Any]) -> None:
    damage(folder)
    (done,) = refusals(("--model", str(folder))).values()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr


KEYS = [*SIZES, "rms_norm_eps", "hidden_act", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types"]
KEYS += ["tie_word_embeddings", "rope_parameters", "rope_scaling", "rope_theta", "dtype", "torch_dtype", "architectures"]
KEYS += ["model_type", "attention_bias", "eos_token_id", "partial_rotary_factor", "original_max_position_embeddings"]
SMALL = st.integers(-3, 200) | st.sampled_from([2**31, 2**63, 10**12, 10**30])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | SMALL
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["yarn", "linear", "float16", "gelu"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["rope_type", "type", "factor", "rope_theta", "full_attention"]), inner, max_size=4)
    ),
    max_leaves=6,
)


ANY_GEOMETRY = "auto" if whole() else "reference"  # the CPU's kernel would be compiled for each of them


@contextmanager
def _one_line() -> Iterator[list[Any]]:
    """Whatever our own errors say here, they say it in one line."""
    try:
        yield []
    except OrcinusError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1, lines


@examples(100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    changes=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3),
    without=st.sets(st.sampled_from(KEYS), max_size=2),
)
def test_any_config_gives_an_engine_or_one_line(folder: Path, changes: dict[str, Any], without: set[str]) -> None:
    good = (folder / "config.json").read_bytes()
    try:
        edit(folder, *without - changes.keys(), **changes)
        with _one_line() as planned:
            planned.append(plan(folder))
        made = planned[0] if planned else None
        if made and made.fits:
            longest = min(16, made.resolved.limits.max_model_len)
            with LLM(folder, max_model_len=longest, num_blocks=4, attention=ANY_GEOMETRY) as llm:
                output = llm.generate([[1, 2]], SamplingParams(max_tokens=2, temperature=0, ignore_eos=True))[0]
            assert len(output.token_ids) == 2
    finally:
        (folder / "config.json").write_bytes(good)
