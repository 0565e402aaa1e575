"""Downloads from a hub: what is downloaded, what is kept, and what is said if it fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from orcinus import LLM, EngineConfig, SamplingParams
from orcinus.errors import ModelError
from orcinus.plan import make_plan
from orcinus.runtime.hub import commit_of, find_config, find_headers, find_model
from orcinus.runtime.weight_files import read_headers
from tests.adapters import save_adapter, updates
from tests.commands import orcinus
from tests.fake_hub import TOKEN, Hub, Repository, files_of, running, use
from tests.gguf_files import write_gguf
from tests.waiting import wait_until, within

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"
NAME = "some-owner/some.model"
BESIDE = {"README.md": b"read", "onnx/config.json": b"{}", "onnx/model.onnx": b"o", "pytorch_model.bin": b"p", "code.py": b"c"}
KEPT = {"config.json", "model.safetensors"}
Made = Callable[[str], tuple[Any, Path]]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with an empty cache."""
    with running(Hub()) as hub:
        use(hub, tmp_path, monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
        yield hub


@pytest.fixture
def model(hub: Hub, checkpoint: Made) -> dict[str, bytes]:
    """The files of a model's main branch; the tag v1.0 is another model."""
    files = files_of(checkpoint("qwen3")[1])
    commits = {COMMIT: files | BESIDE, OTHER: files_of(checkpoint("mistral-sliding-window")[1])}
    hub.repositories[NAME] = Repository(commits, {"main": COMMIT, "v1.0": OTHER})
    return files


def test_only_the_files_that_are_needed_are_downloaded(hub: Hub, model: dict[str, bytes]) -> None:
    folder = find_model(NAME)
    assert commit_of(folder) == COMMIT
    assert files_of(folder) == {name: data for name, data in model.items() if name in hub.sent()}
    assert KEPT <= hub.sent() <= model.keys()


def test_headers_come_without_weights(hub: Hub, model: dict[str, bytes]) -> None:
    plan = make_plan(EngineConfig(model=NAME, revision="v1.0"))
    assert (plan.resolved.architecture, plan.resolved.revision) == ("MistralForCausalLM", OTHER)
    assert not plan.model.complete
    assert {path.name for path in plan.resolved.folder.iterdir()} == {"config.json"}


def test_a_folder_without_weights(hub: Hub, model: dict[str, bytes]) -> None:
    """As for a tokenizer, or for weights that are made up."""
    assert files_of(find_model(NAME, weights=False)).keys() == model.keys() - {"model.safetensors"}


def test_an_index_names_the_weights(hub: Hub, model: dict[str, bytes], tmp_path: Path) -> None:
    tensors, folder = list(read_headers_of(model, tmp_path)), tmp_path / "sharded"
    folder.mkdir()
    whole = load_file(tmp_path / "model.safetensors")
    for number, names in enumerate((tensors[::2], tensors[1::2])):
        save_file({name: whole[name].contiguous() for name in names}, folder / f"part{number}.safetensors")
    index = {name: f"part{number % 2}.safetensors" for number, name in enumerate(tensors)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_bytes(model["config.json"])
    (folder / "fp16.safetensors").write_bytes(b"other weights")
    hub.repositories[NAME] = Repository({COMMIT: files_of(folder)}, {"main": COMMIT})
    assert read_headers(find_model(NAME)) == find_headers(NAME)[1] == read_headers(tmp_path)
    assert "fp16.safetensors" not in hub.sent()


def read_headers_of(files: dict[str, bytes], folder: Path) -> dict[str, Any]:
    (folder / "model.safetensors").write_bytes(files["model.safetensors"])
    return {**read_headers(folder)}


def test_a_transfer_that_breaks_off_goes_on_where_it_was(hub: Hub, model: dict[str, bytes]) -> None:
    hub.broken_off["model.safetensors"] = 1
    told = list[tuple[int, int]]()
    folder = find_model(NAME, progress=lambda done, total: told.append((done, total)))
    size = len(model["model.safetensors"])
    assert (folder / "model.safetensors").read_bytes() == model["model.safetensors"]
    assert told[-1] == (size, size)
    assert told == sorted(told)
    start, rest = [asked for _, path, asked in hub.asked if path.endswith(".safetensors")][-2:]
    assert start == ""
    assert int(rest.removeprefix("bytes=").removesuffix("-")) >= size // 2 - 1000


@pytest.mark.parametrize("damaged", [False, True])
def test_a_process_goes_on_with_what_another_one_left(hub: Hub, model: dict[str, bytes], tmp_path: Path, damaged: bool) -> None:
    """What was killed, or ended by Ctrl-C. A file that is not what its tag says is downloaded anew."""
    blobs = tmp_path / "cache" / "models--some-owner--some.model" / "blobs"
    blobs.mkdir(parents=True)
    data = model["model.safetensors"]
    half = len(data) // 2
    left = blobs / f"{sha256(data).hexdigest()}.0123abcd.incomplete"
    left.write_bytes(b"?" * half if damaged else data[:half])
    assert (find_model(NAME) / "model.safetensors").read_bytes() == data
    assert not left.exists()
    asked = [part for method, path, part in hub.asked if method == "GET" and path.endswith(".safetensors")]
    assert asked == [f"bytes={half}-", ""] if damaged else [f"bytes={half}-"]


def test_what_a_killed_process_left_is_used(hub: Hub, model: dict[str, bytes], tmp_path: Path) -> None:
    """The library's own file of a process that ends in the middle of a transfer."""
    hub.stalls.add("model.safetensors")
    code = (
        "import huggingface_hub.constants as c, sys;"
        "c.ENDPOINT, c.HF_HUB_CACHE, c.DOWNLOAD_CHUNK_SIZE, c.HF_HUB_OFFLINE = sys.argv[1], sys.argv[2], 1000, False;"
        "c.HUGGINGFACE_CO_URL_TEMPLATE = sys.argv[1] + '/{repo_id}/resolve/{revision}/{filename}';"
        "from orcinus.runtime.hub import find_model; find_model(sys.argv[3])"
    )
    with subprocess.Popen([sys.executable, "-c", code, hub.url, str(tmp_path / "cache"), NAME]) as process:
        assert hub.stalled.wait(60)
        wait_until(lambda: any(part.stat().st_size for part in tmp_path.rglob("*.incomplete")))
        process.kill()
    hub.stalls.clear()
    hub.ended.set()
    hub.asked.clear()
    assert (find_model(NAME) / "model.safetensors").read_bytes() == model["model.safetensors"]
    ((_, _, part),) = [each for each in hub.asked if each[0] == "GET" and each[1].endswith(".safetensors")]
    assert int(part.removeprefix("bytes=").removesuffix("-")) > 0


def test_what_interrupted_processes_left_is_removed(hub: Hub, model: dict[str, bytes], tmp_path: Path) -> None:
    blobs = tmp_path / "cache" / "models--some-owner--some.model" / "blobs"
    blobs.mkdir(parents=True)
    old, new, resumed = blobs / "etag.0123abcd.incomplete", blobs / "etag.4567abcd.incomplete", blobs / "etag.incomplete"
    for part in (old, new, resumed):
        part.write_bytes(b"half")
    for part in (old, resumed):
        os.utime(part, (0, 0))
    find_model(NAME)
    assert [part.exists() for part in (old, new, resumed)] == [False, True, True]


def test_complete_files_are_not_sent_again(hub: Hub, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_model(NAME)
    hub.asked.clear()
    assert find_model(NAME) == folder
    assert hub.sent() == set()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_model(NAME) == find_config(NAME) == find_headers(NAME)[0] == folder


def test_without_a_network_the_cache_is_used(hub: Hub, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=f"{NAME} is not in the cache .*, and HF_HUB_OFFLINE forbids downloads: unset HF_HUB_OFFLINE"
    ):
        find_model(NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    make_plan(EngineConfig(model=NAME))  # which keeps the config
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_config(NAME).name == COMMIT
    with pytest.raises(ModelError, match="is .* in the cache .*, and HF_HUB_OFFLINE forbids downloads"):
        find_model(NAME)


@pytest.mark.parametrize("how", ["gone", "silent"])
def test_a_hub_that_does_not_answer_is_not_waited_for(
    hub: Hub, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The library alone waits half a minute and more; a model in the cache starts."""
    folder = find_model(NAME)
    hub.asked.clear()
    setattr(hub, how, True)
    monkeypatch.setattr("orcinus.runtime.hub_probe._answered", float("-inf"))
    monkeypatch.setattr("orcinus.runtime.hub_probe.PROBE_S", 0.1)
    with within(20):
        assert find_model(NAME) == find_config(NAME) == folder
        assert "does not answer" in caplog.text
        assert "only its cache is used" in caplog.text
        with pytest.raises(
            ModelError, match=f"other/name is not in the cache, and the hub at {hub.url} cannot be reached.*: connect"
        ):
            find_model("other/name")
    setattr(hub, how, False)
    assert find_model(NAME, "v1.0") != folder, "asked again as soon as it answers"


def test_adapters_come_from_the_hub(hub: Hub, checkpoint: Made, tmp_path: Path) -> None:
    """Only the files of peft; a repository without them is no adapter."""
    model, folder = checkpoint("qwen3")
    made = files_of(save_adapter(tmp_path / "adapter", updates(model, 1)))
    hub.repositories["x/adapter"] = Repository({COMMIT: made | {"optimizer.pt": b"o", "README.md": b"r"}}, {"main": COMMIT})
    hub.repositories["x/none"] = Repository({COMMIT: {"README.md": b"r"}}, {"main": COMMIT})
    answers = []
    for source in ("x/adapter", f"x/adapter@{COMMIT}", str(tmp_path / "adapter")):
        with LLM(folder, lora={"one": source}, max_model_len=32) as llm:
            answers.append(llm.generate([[5, 6, 7]], SamplingParams(max_tokens=4, temperature=0), lora="one")[0].token_ids)
    assert answers[0] == answers[1] == answers[2]
    assert hub.sent() == {"adapter_config.json", "adapter_model.safetensors"}
    for name, message in (
        ("x/none", "no adapter_config.json"),
        ("x/unknown", "no folder and no hub repository named x/unknown"),
    ):
        with pytest.raises(ModelError, match=message):
            make_plan(EngineConfig(model=folder, lora=(f"one={name}",)))


@pytest.mark.parametrize(
    ("asked", "token", "message"),
    [
        ("some-owner/none", None, "no hub repository named some-owner/none: check the spelling; if it is private, log in"),
        ("some-owner/none", TOKEN, "no hub repository named .*; if it is private, see that your token may read it"),
        (
            "some-owner/private",
            None,
            "no hub repository named .*; if it is private, log in with `hf auth login`, or set HF_TOKEN",
        ),
        ("some-owner/private", "hf_wrong", "does not accept your token: log in"),
        ("some-owner/gated", None, "some-owner/gated is gated: accept its licence on the hub, then log in"),
        ("some-owner/gated", TOKEN, "some-owner/gated is gated"),
        (f"{NAME}@v9", None, f"{NAME}@v9 has no revision v9: give a branch, a tag or a commit of it"),
        ("some-owner/pickled", None, r"some-owner/pickled holds pickled weights only \(pytorch_model.bin\), .*: convert them"),
        ("some-owner/empty", None, "some-owner/empty holds no weights in safetensors or GGUF"),
    ],
)
def test_a_repository_that_cannot_be_used_is_refused_in_one_line(
    hub: Hub, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, asked: str, token: str | None, message: str
) -> None:
    for name, files in (("private", model), ("gated", model), ("empty", {"README.md": b""})):
        hub.repositories[f"some-owner/{name}"] = Repository(
            {COMMIT: files}, {"main": COMMIT}, name == "private", name == "gated"
        )
    pickled = {"config.json": model["config.json"], "pytorch_model.bin": b"\x80"}
    hub.repositories["some-owner/pickled"] = Repository({COMMIT: pickled}, {"main": COMMIT})
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    for find in (find_headers, find_model):
        with pytest.raises(ModelError, match=message) as caught:
            find(asked)
        assert "\n" not in str(caught.value)


def test_a_token_opens_a_private_repository(hub: Hub, model: dict[str, bytes], tmp_path: Path) -> None:
    hub.repositories[NAME] = Repository({COMMIT: model}, {"main": COMMIT}, private=True)
    (tmp_path / "token").write_text(TOKEN)  # as `hf auth login` leaves it
    assert commit_of(find_model(NAME)) == COMMIT


def test_a_hub_that_forbids_is_not_called_unreachable(hub: Hub, model: dict[str, bytes]) -> None:
    hub.status = 403
    with pytest.raises(
        ModelError, match=f"the hub at {hub.url} does not let you read {NAME}: accept its licence there, or log in"
    ):
        find_model(NAME)


def test_a_full_disk_is_told_before_the_download(hub: Hub, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=len(model["model.safetensors"]) - 1))
    with pytest.raises(
        ModelError, match=f"{NAME} takes .* GiB more, and 0.0 GiB are free in .*cache: make room, or set HF_HOME"
    ):
        find_model(NAME)
    assert "model.safetensors" not in hub.sent()


def test_a_disk_that_fills_meanwhile_is_no_fault_of_the_network(
    hub: Hub, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", fail)
    with pytest.raises(ModelError, match=r"cannot be kept \(No space left on device\): make room, or set HF_HOME"):
        find_model(NAME)


def test_a_cache_that_cannot_be_written_is_told(hub: Hub, model: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with pytest.raises(ModelError, match="a download cannot be kept .*: make room, or set HF_HOME to a folder") as caught:
        find_model(NAME)
    assert "\n" not in str(caught.value)


@pytest.fixture
def gguf(hub: Hub, checkpoint: Made, tmp_path: Path) -> dict[str, bytes]:
    """A repository of GGUF files alone: two number formats, one of them split, and the encoder of images."""
    folder = tmp_path / "gguf"
    folder.mkdir()
    write_gguf(checkpoint("qwen3")[1], folder / "some.model-Q8_0.gguf")
    write_gguf(checkpoint("qwen3")[1], folder / "some.model-q4_k_m.gguf", split=20)
    (folder / "mmproj-Q8_0.gguf").write_bytes(b"images")
    (folder / "README.md").write_bytes(b"read")
    hub.repositories[NAME] = Repository({COMMIT: files_of(folder)}, {"main": COMMIT})
    return files_of(folder)


def test_one_of_several_gguf_files(hub: Hub, gguf: dict[str, bytes]) -> None:
    assert find_model(f"{NAME}:Q8_0").name == "some.model-Q8_0.gguf"
    assert hub.sent() == {"some.model-Q8_0.gguf"}
    plan = make_plan(EngineConfig(model=f"{NAME}:Q4_K_M", max_model_len=32))
    assert (plan.resolved.architecture, plan.resolved.revision) == ("Qwen3ForCausalLM", COMMIT)
    assert hub.sent() == {name for name in gguf if name.startswith("some.model")}


def test_a_repository_of_several_gguf_files_says_how_they_are_named(hub: Hub, gguf: dict[str, bytes]) -> None:
    names = f"{NAME}:Q8_0, {NAME}:q4_k_m"
    for find in (find_config, find_headers, find_model):
        with pytest.raises(ModelError, match=f"{NAME} holds 2 models in GGUF: give one, such as {names}"):
            find(NAME)
    with pytest.raises(ModelError, match=f"{NAME}:Q6_K names a GGUF file, and {NAME} has none: give one like {names}"):
        find_model(f"{NAME}:Q6_K")


def test_a_repository_with_one_gguf_file_is_that_file(
    hub: Hub, gguf: dict[str, bytes], model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without a config.json beside it."""
    one = {name: gguf[name] for name in ("some.model-Q8_0.gguf", "mmproj-Q8_0.gguf")}
    for name, files in (("alone", one), ("with-config", one | {"config.json": model["config.json"]})):
        hub.repositories[f"x/{name}"] = Repository({COMMIT: files}, {"main": COMMIT})
        found = make_plan(EngineConfig(model=f"x/{name}", max_model_len=32)).resolved.folder
        assert found.name == "some.model-Q8_0.gguf"
        assert find_model(f"x/{name}") == find_model(f"x/{name}", weights=False) == found
    assert "mmproj-Q8_0.gguf" not in hub.sent()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert find_config("x/alone") == find_model("x/alone")


def test_pull(hub: Hub, model: dict[str, bytes]) -> None:
    done = orcinus("pull", NAME)
    assert (done.returncode, done.stdout.splitlines()[0].startswith(f"{NAME} at {COMMIT}: ")) == (0, True)
    assert f"`orcinus serve {NAME}`" in done.stdout
    assert done.stderr.splitlines()[-1].split(": ")[0] == NAME  # bytes, line by line: it is no terminal
    assert orcinus("plan", NAME).returncode == 0
    refused = orcinus("pull", str(Path(__file__).parent))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_models_of_the_cache(hub: Hub, model: dict[str, bytes], gguf: dict[str, bytes]) -> None:
    assert "no model in the hub's cache" in orcinus("models", "--local").stdout
    hub.repositories["x/gguf"], unknown = hub.repositories[NAME], json.dumps({"architectures": ["Unknown"]}).encode()
    commits = {COMMIT: model, OTHER: model | {"config.json": unknown}}
    for name in (NAME, "some-owner/early"):
        hub.repositories[name] = Repository(commits, {"main": COMMIT, "v2": OTHER})
    find_model(NAME)
    find_model(NAME, "v2")
    find_config("some-owner/early")
    find_model("x/gguf:q4_k_m")
    found = {each["name"]: each for each in json.loads(orcinus("models", "--local", "--json").stdout)["models"]}
    assert found.keys() == {NAME, f"{NAME}@v2", "some-owner/early", "x/gguf:q4_k_m"}
    assert (found[NAME]["runs"], found[NAME]["commit"], found[NAME]["revisions"]) == (True, COMMIT, ["main"])
    assert (found[NAME]["format"], found["x/gguf:q4_k_m"]["format"]) == ("F32 safetensors", "F32 GGUF")
    assert found["x/gguf:q4_k_m"]["bytes"] == sum(len(data) for name, data in gguf.items() if "q4_k_m" in name)
    assert "architecture Unknown" in found[f"{NAME}@v2"]["problem"]
    assert found["some-owner/early"]["problem"] == "its weights are not all here: orcinus pull some-owner/early"
    for name in found:
        assert find_config(name) in (Path(found[name]["path"]), Path(found[name]["path"]).parent)
    shown = orcinus("models", "--local").stdout
    assert all(part in shown for part in (NAME, COMMIT[:8], "yes", "no: its weights"))


def test_what_cannot_be_loaded_is_not_downloaded(hub: Hub, model: dict[str, bytes]) -> None:
    config = json.dumps({"architectures": ["UnknownForCausalLM"]}).encode()
    hub.repositories[NAME] = Repository({COMMIT: model | {"config.json": config}}, {"main": COMMIT})
    refused = orcinus("pull", NAME)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "architecture UnknownForCausalLM" in refused.stderr
    assert "model.safetensors" not in hub.sent()


def test_a_head_is_compared_once_the_weights_are_there(hub: Hub, model: dict[str, bytes], tmp_path: Path) -> None:
    """Headers of the hub do not tell whether it differs: what was planned with them is planned again."""
    (tmp_path / "model.safetensors").write_bytes(model["model.safetensors"])
    tensors = load_file(tmp_path / "model.safetensors")
    head = tensors["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(tensors | {"lm_head.weight": head}, tmp_path / "model.safetensors")
    files = model | {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()}
    hub.repositories[NAME] = Repository({COMMIT: files}, {"main": COMMIT})
    planned = make_plan(EngineConfig(model=NAME))
    assert planned.model.checkpoint.spec.tied
    assert not planned.model.complete
    with LLM(NAME, max_model_len=32, block_size=8) as llm:
        assert llm.resolved.num_parameters == planned.resolved.num_parameters + 97 * 48
        assert "lm_head.weight differs" in llm.resolved.notes[0]
