"""`orcinus plan`, with models in folders and on a hub that a small local server plays."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import save
from tests.commands import Done, orcinus, orcinus_commands, orcinus_process
from tests.gpus import MIB, pretend_gpu

Made = Callable[[str], tuple[Any, Path]]
COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """The part of a hub that a plan asks: files whole or in ranges, and errors that a header names."""

    folder: Path
    sent: dict[str, int]  # bytes of each file
    errors = {"no/such": (401, "RepoNotFound"), "shut/away": (403, "GatedRepo"), "no/model": (404, "EntryNotFound")}  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        repository, _, name = self.path.strip("/").replace("/resolve/main/", " ").partition(" ")
        status, error = self.errors.get(repository, (200, ""))
        file = self.folder / name
        if status == 200 and not (name and file.is_file()):
            status, error = 404, "EntryNotFound"
        data = file.read_bytes() if status == 200 else b""
        size = len(data)
        if match := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or ""):
            status, data = 206 if status == 200 else status, data[int(match[1]) : int(match[2]) + 1]
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{name}-{size}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.sent[name] = self.sent.get(name, 0) + len(data)
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, dict[str, int]]]:
    """Its address, and how many bytes of each file it has sent."""
    sent: dict[str, int] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Hub,), {"folder": folder, "sent": sent}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def online(address: str, folder: Path) -> dict[str, str]:
    """The environment in which a hub at the address is asked, and nothing is known from before."""
    return {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "home")}


def plan(*arguments: str, status: int = 0) -> dict[str, Any]:
    return planned(orcinus("plan", "--json", *arguments), status)


def planned(done: Done, status: int = 0) -> dict[str, Any]:
    """The object that `orcinus plan --json` printed."""
    assert done.returncode == status, done.stderr
    assert len(done.stdout.splitlines()) == 1
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def test_a_plan_in_words() -> None:
    done = orcinus_process("plan", "--max-batch-size", "2", "--dtype", "float32")
    assert done.returncode == 0, done.stderr
    for words in ("4.0 M parameters", "weights", "5120 bytes", "8 (the batch takes 2)", "GB/s", "It fits."):
        assert words in done.stdout
    assert done.stderr == ""


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
    assert "Use --kv-memory-mib" in done.stdout
    assert plan("--kv-memory-mib", str(value // 2), "--dtype", "float32")["fits"]  # others use this machine's memory too


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["somewhere", "--model", "elsewhere"], "two models were given, somewhere and --model elsewhere"),
        (["nowhere"], "no model folder at nowhere"),
        (["someone/something"], "hub cannot be reached"),
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


@pytest.mark.parametrize("shards", [False, True])
def test_a_repository_is_planned_without_its_weights(checkpoint: Made, tmp_path: Path, shards: bool) -> None:
    model, folder = checkpoint("llama2")
    if shards:
        folder = save(model, tmp_path / "model", max_shard_size="40KB")
    with hub(folder) as (address, sent):
        record = planned(orcinus_process("plan", "--json", "owner/name", **online(address, tmp_path)))
        assert record["fits"]
        assert record["saved_bytes"] == 4 * record["num_parameters"]
        assert not list(tmp_path.rglob("home/**/*.safetensors"))
        assert sent["config.json"] > 0
        assert sum(size for name, size in sent.items() if name.endswith(".safetensors")) > 0


def test_a_repository_whose_weights_are_made_up_needs_none(checkpoint: Made, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((checkpoint("llama2")[1] / "config.json").read_bytes())
    with hub(folder) as (address, sent):
        done = orcinus_process("plan", "--json", "owner/name", "--load-format", "dummy", **online(address, tmp_path))
    record = planned(done)
    assert record["fits"]
    assert record["saved_bytes"] == 0
    assert record["memory"]["weights"] >= 2 * record["num_parameters"]
    assert not any("safetensors" in name for name in sent), "not even headers were asked for"


def test_a_plan_for_a_gpu_in_words_and_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, 15_000, 16_000)
    monkeypatch.setattr("orcinus.plan.measure", lambda plan: None)
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


def test_a_repository_that_cannot_be_planned_is_one_line_that_says_why(checkpoint: Made, tmp_path: Path) -> None:
    said = {
        "no/such": "no folder and no hub repository named no/such",
        "shut/away": "asks for a licence",
        "no/model": "no/model has no config.json",
    }
    folder = checkpoint("llama2")[1]
    with hub(folder) as (address, _):
        known, *refused = orcinus_commands(
            *(["plan", "--json", name] for name in ("owner/name", *said)), **online(address, tmp_path)
        )
        assert planned(known)["fits"]
    gone = orcinus_process(
        "plan", "owner/name", **online(address, tmp_path)
    )  # config.json is there from before, the hub is not
    for done, words in zip([*refused, gone], [*said.values(), "the Hugging Face hub cannot be reached"], strict=True):
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_repository_without_safetensors_is_named(checkpoint: Made, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((checkpoint("llama2")[1] / "config.json").read_bytes())
    with hub(folder) as (address, _):
        done = orcinus_process("plan", "owner/name", **online(address, tmp_path))
    assert done.returncode == 1
    assert "holds no weights in safetensors" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
