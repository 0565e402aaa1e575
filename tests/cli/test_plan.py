"""`orcinus plan`, with models in folders and on a hub that a small local server plays."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest

from tests.checkpoints import edited, save
from tests.commands import Done, orcinus
from tests.fake_hub import Hub, Repository, files_of, running
from tests.gpus import MIB, pretend_gpu

Made = Callable[[str], tuple[Any, Path]]
COMMIT = "0" * 40


@contextmanager
def online(address: str, folder: Path) -> Iterator[None]:
    """For the block, a hub at the address is asked, and nothing is known from before.

    The client reads both when it is imported, and so it is imported anew.
    """
    environment = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "home")}
    logger, kept = logging.getLogger("huggingface_hub"), clients()
    with patch.dict(os.environ, environment), patch.object(logger, "handlers", []):
        for name in kept:
            del sys.modules[name]
        try:
            yield
        finally:
            for name in clients():
                del sys.modules[name]
            sys.modules.update(kept)


def clients() -> dict[str, ModuleType]:
    """The modules of the hub's client that are imported."""
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "huggingface_hub"}


def plan(*arguments: str, status: int = 0) -> dict[str, Any]:
    return planned(orcinus("plan", "--json", *arguments), status)


def planned(done: Done, status: int = 0) -> dict[str, Any]:
    """The object that `orcinus plan --json` printed."""
    assert done.returncode == status, done.stderr
    assert len(done.stdout.splitlines()) == 1
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def test_a_plan_in_words() -> None:
    done = orcinus("plan", "--max-batch-size", "2", "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    for words in ("4.0 M parameters", "weights", "5120 bytes", "8 (the batch takes 2)", "GB/s", "It fits."):
        assert words in done.stdout
    assert done.stderr == ""


def test_a_plan_reads_the_files_of_texts_as_an_engine_does(checkpoint: Made, tmp_path: Path) -> None:
    folder = edited(checkpoint("llama2")[1], tmp_path / "model")
    assert plan(str(folder))["has_tokenizer"] is False
    assert "none: it takes token ids from Python, and cannot be served" in orcinus("plan", str(folder)).stdout
    for name in ("generation_config.json", "tokenizer.json"):
        (folder / name).write_text("{")
        done = orcinus("plan", str(folder))
        assert (done.returncode, done.stdout) == (1, "")
        assert name.partition(".")[0] in done.stderr
        (folder / name).unlink()
    for empty in ([""], ["--model", ""]):  # as from a variable without a value
        assert "no config.json in .: this is not a model folder" in orcinus("plan", *empty).stderr


def test_a_plan_as_json_for_a_folder_given_in_either_way(checkpoint: Made) -> None:
    folder = str(checkpoint("llama2")[1])
    records = [plan(*given, "--max-model-len", "100") for given in ([folder], ["--model", folder], [folder, "--model", folder])]
    for record in records:
        assert record["model"] == folder
        assert record["fits"]
        assert record["memory"]["weights"] == record["saved_bytes"] == 4 * record["num_parameters"]
        assert record["kv_bytes_per_token"] == 2 * 3 * 6 * 8 * 4
        assert record["sequences"] == [{"tokens": 100, "at_once": 8}]
        assert [speed["requests"] for speed in record["speed_at_most"]["decode"]] == [1, 8]


def test_a_plan_of_several_devices_says_what_each_holds() -> None:
    given = ["llama-2-7b", "--device", "h100", "--tp", "2", "--pp", "3"]
    done = orcinus("plan", *given)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    for words in (
        "ranks 0 to 1 stage 0: layers 0 to 10, 16 query and 16 key/value heads",
        "ranks 4 to 5 stage 2: layers 22 to 31",
        "rank 0: it rules how many blocks there are",
        "a data sheet's",
    ):
        assert words in told
    record = plan(*given)
    assert (record["tp"], record["pp"], record["device"]) == (2, 3, "h100")
    assert [rank["layers"] for rank in record["ranks"]] == [[0, 11]] * 2 + [[11, 22]] * 2 + [[22, 32]] * 2
    first = record["ranks"][0]
    assert (first["stage"], first["tensor"], first["kv_bytes_per_token"]) == (0, 0, 11 * 16 * 128 * 2 * 2)
    assert first["weights"] + first["working"] < record["memory"]["available"]


def test_what_does_not_fit_has_status_1_and_says_what_would() -> None:
    options = ["--kv-memory-mib", "1000000000", "--dtype", "float32"]
    record = plan(*options, status=1)
    assert not record["fits"]
    assert record["missing_mib"] > 0
    assert record["speed_at_most"] is None
    value = record["remedies"]["kv_memory_mib"]
    done = orcinus("plan", *options)
    assert done.returncode == 1
    assert "It does not fit: " in done.stdout
    assert "would be enough for" in done.stdout
    assert "requests at once, if it fitted" in done.stdout
    assert "Use --kv-memory-mib" in done.stdout
    assert plan("--kv-memory-mib", str(value // 2), "--dtype", "float32")["fits"]  # others use this machine's memory too


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["somewhere", "--model", "elsewhere"], "two models were given, somewhere and --model elsewhere"),
        (["nowhere"], "no model folder at nowhere"),
        (["someone/something"], "HF_HUB_OFFLINE forbids downloads"),
        (["--dtype", "int8"], "unknown dtype"),
        (["--load-format", "pt"], "unknown load_format 'pt': choose auto or dummy"),
        (["--gpu-memory-utilization", "0.9"], "gpu_memory_utilization is for a GPU"),
        (["--device", "cuda", "--gpu-memory-utilization", "1.5"], "gpu_memory_utilization must be above 0 and at most 1"),
        (["--max-model-len", "9999"], "max_model_len 9999"),
        (["--num-blocks", "1", "--max-model-len", "2000"], "not even one request of max_model_len 2000"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], message: str) -> None:
    done = orcinus("plan", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stdout == ""


REFUSED = {
    "no/such": "no folder and no hub repository named no/such",
    "shut/away": "shut/away is gated",
    "no/model": "no/model holds no weights in safetensors or GGUF",
    "owner/bare": "owner/bare holds no weights in safetensors or GGUF",
    "owner/gone": "cannot be reached",  # config.json is there from before, the hub is not
}
FOUND = ("owner/whole", "owner/shards", "owner/gone")
MADE_UP = "owner/geometry"  # which has a config.json and nothing else


def test_a_plan_for_a_gpu_in_words_and_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, 15_000, 16_000)
    monkeypatch.setattr("orcinus.decode_speed.measure", lambda plan: None)
    options = ["--device", "cuda", "--gpu-memory-utilization", "0.8", "--load-format", "dummy"]
    done = orcinus("plan", *options)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    for words in (
        "made up at random",
        "of the GPU 16,000.0 MiB free 15,000.0 MiB margin 3,000.0 MiB stay free",
        "gpu_memory_utilization 0.8",
        "weights 7.6 MiB",
        "estimated for an iteration of at most 8192 tokens and 8 requests",
        "all that weights and working memory leave",
        "It fits.",
    ):
        assert words in said
    record = plan(*options)
    memory = record["memory"]
    assert (memory["total"], memory["available"], memory["margin"]) == (16_000 * MIB, 15_000 * MIB, 3_000 * MIB)
    assert memory["measured"] is False
    assert "8192 keep a GPU busy" in record["max_batch_tokens_because"]
    told = orcinus("info", *options).stdout
    for words in ("a GPU of dreams", "16,000.0 MiB", "8192 keep a GPU busy", "requests of the full model length"):
        assert words in told


def test_what_does_not_fit_on_a_gpu_says_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, 1000)
    record = plan("--device", "cuda", "--kv-memory-mib", "892", status=1)
    assert record["remedies"]["gpu_memory_utilization"] <= 0.97
    said = orcinus("plan", "--device", "cuda", "--kv-memory-mib", "892").stdout
    assert "--gpu-memory-utilization 0.9" in said


@dataclass(frozen=True, slots=True)
class Asked:
    """What was planned of the repositories of a hub, which parts of files the hub sent for it, and what was kept."""

    said: dict[str, Done]
    sent: list[tuple[str, str]]  # path and range
    home: Path


@pytest.fixture(scope="module")
def asked(checkpoint: Made, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The last one when the hub can no longer be reached."""
    model, home = checkpoint("llama2")[0], tmp_path_factory.mktemp("hub")
    whole = files_of(save(model, home / "whole"))
    bare = {"config.json": whole["config.json"]}
    models = {
        "owner/whole": whole,
        "owner/gone": whole,
        "owner/shards": files_of(save(model, home / "shards", max_shard_size="40KB")),
    }
    models |= {"owner/bare": bare, MADE_UP: bare, "shut/away": whole, "no/model": {"README.md": b"read"}}
    repositories = {
        name: Repository({COMMIT: files}, {"main": COMMIT}, gated=name == "shut/away") for name, files in models.items()
    }
    names = [*FOUND, *(name for name in REFUSED if name not in FOUND)]
    commands = [*(["plan", "--json", name] for name in names), ["plan", "--json", MADE_UP, "--load-format", "dummy"]]
    with running(Hub(repositories)) as hub, online(hub.url, home):
        done = [orcinus(*command) for command in commands]
        hub.gone = True
        gone = orcinus("plan", "owner/gone")
    said = dict(zip([*names, MADE_UP], done, strict=True))
    assert planned(said["owner/gone"])["fits"]
    return Asked(said | {"owner/gone": gone}, [(path, part) for method, path, part in hub.asked if method == "GET"], home)


@pytest.mark.parametrize("name", ["owner/whole", "owner/shards"])
def test_a_repository_is_planned_without_its_weights(asked: Asked, name: str) -> None:
    record, sent = planned(asked.said[name]), [(path, part) for path, part in asked.sent if path.startswith(f"/{name}/")]
    assert record["fits"]
    assert record["saved_bytes"] == 4 * record["num_parameters"]
    assert not list(asked.home.rglob("home/**/*.safetensors"))
    assert (f"/{name}/resolve/main/config.json", "") in sent
    assert [part for path, part in sent if path.endswith(".safetensors") and part.startswith("bytes=0-")]


def test_a_repository_whose_weights_are_made_up_needs_none(asked: Asked) -> None:
    record = planned(asked.said[MADE_UP])
    assert record["fits"]
    assert record["saved_bytes"] == 0
    assert record["memory"]["weights"] >= 2 * record["num_parameters"]
    assert not any("safetensors" in path for path, _ in asked.sent if MADE_UP in path), "not even headers were asked for"


@pytest.mark.parametrize("name", REFUSED)
def test_a_repository_that_cannot_be_planned_is_one_line_that_says_why(asked: Asked, name: str) -> None:
    done = asked.said[name]
    assert done.returncode == 1
    assert REFUSED[name] in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
