"""Repositories of the hub: names, revisions and commits, from a cache as the hub's own client keeps it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orcinus import LLM, EngineConfig
from orcinus.bench.offline import Engines
from orcinus.errors import ConfigError, ModelError
from orcinus.observe.recorder import read_lines
from orcinus.plan import make_plan
from orcinus.runtime.hub import commit_of, find_config, find_headers, find_model, model_name
from tests.commands import orcinus
from tests.gguf_files import write_gguf

MAIN, OTHER = "0123456789abcdef" * 2 + "01234567", "fedcba9876543210" * 2 + "fedcba98"
NAME = "some-owner/some.model"


@pytest.fixture
def cache(checkpoint: Callable[[str], tuple[Any, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two commits of a repository: the branch main, and one that a branch and a pull request point to."""
    folder = tmp_path / "models--some-owner--some.model"
    for commit, name, refs in ((MAIN, "qwen3", ["main"]), (OTHER, "mistral-sliding-window", ["v1.0", "refs/pr/7"])):
        shutil.copytree(checkpoint(name)[1], folder / "snapshots" / commit)
        for ref in refs:
            (folder / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
            (folder / "refs" / ref).write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder / "snapshots"


@pytest.mark.parametrize(
    ("model", "revision", "commit"),
    [
        (NAME, None, MAIN),
        (NAME, "main", MAIN),
        (f"{NAME}@main", None, MAIN),
        (f"{NAME}@v1.0", None, OTHER),
        (NAME, "v1.0", OTHER),
        (f"{NAME}@v1.0", "v1.0", OTHER),
        (f"{NAME}@refs/pr/7", None, OTHER),
        (NAME, OTHER, OTHER),
        (f"{NAME}@{MAIN}", None, MAIN),
    ],
)
def test_a_revision_leads_to_its_commit(cache: Path, model: str, revision: str | None, commit: str) -> None:
    assert find_model(model, revision) == find_config(model, revision) == find_headers(model, revision)[0] == cache / commit
    assert commit_of(find_model(model, revision)) == commit
    plan = make_plan(EngineConfig(model=model, revision=revision))
    assert plan.resolved.revision == commit
    assert plan.resolved.architecture == ("Qwen3ForCausalLM" if commit == MAIN else "MistralForCausalLM")


def test_what_was_planned_is_what_is_loaded(cache: Path) -> None:
    """A branch may move between the two."""
    assert find_model(f"{NAME}@main", commit=OTHER) == find_model(NAME, "main", commit=OTHER) == cache / OTHER


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        (f"{NAME}@main", "v1.0", "two revisions were given, main in .* and v1.0: leave one of them out"),
        (f"{NAME}@", None, "'' is not a revision of some-owner/some.model: give a branch, a tag or a commit"),
        (f"{NAME}@../../x", None, "is not a revision"),
        (NAME, "/etc", "is not a revision"),
        (NAME, "a b", "is not a revision"),
        (NAME, "", "is not a revision"),
        (f"{NAME}@.", None, "is not a revision"),
        (NAME, "-q", "is not a revision"),
        (NAME, "x\n" * 200, "is not a revision"),
        ("some-owner/\nmodel", None, "no model folder at some-owner/"),
        (f"{NAME}@{'x' * 5000}", None, "cannot be read: File name too long"),
        ("x" * 5000, None, "cannot be read: File name too long"),
        (f"{NAME}@gone", None, "is not in the cache .*, and HF_HUB_OFFLINE forbids downloads"),
        (None, "main", "is a folder, which has no revision main: leave the revision out"),
        ("some@owner/model", None, "no model folder at some@owner/model"),
    ],
)
def test_a_revision_that_cannot_be_is_refused(cache: Path, model: str | None, revision: str | None, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        make_plan(EngineConfig(model=model, revision=revision))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_revision_is_a_word() -> None:
    with pytest.raises(ConfigError, match="revision must be a branch, a tag or a commit, not 7"):
        EngineConfig(model=NAME, revision=7)  # type: ignore[arg-type]


def test_what_a_model_is_called(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my models" / "Qwen 3"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    (folder / "some.model-Q8_0.gguf").touch()
    monkeypatch.chdir(folder)
    for model in (folder, f"{folder}/", "../Qwen 3/", ".", "./"):
        assert model_name(model) == "Qwen 3"
    assert model_name(tmp_path / "link") == model_name(f"{tmp_path}/link/") == "link"
    assert model_name("some.model-Q8_0.gguf") == "some.model-Q8_0"
    assert model_name("..") == "my models"
    assert model_name(cache / MAIN) == NAME
    assert model_name(f"{NAME}@v1.0") == f"{NAME}@v1.0"
    assert model_name(None) == "orcinus-tiny"
    assert model_name("~nobody/x") == "~nobody/x"


@pytest.mark.parametrize("name", ["model@v1", "owner@x/model", "owner/model@main"])
def test_a_folder_may_have_an_at_in_its_name(
    checkpoint: Callable[[str], tuple[Any, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint("qwen3")[1], tmp_path / name)
    assert find_model(name) == Path(name)
    assert make_plan(EngineConfig(model=name)).resolved.revision is None
    with pytest.raises(ModelError, match="is a folder, which has no revision"):
        find_model(name, "main")


def test_the_commit_is_told_and_recorded(cache: Path, tmp_path: Path) -> None:
    with LLM(f"{NAME}@v1.0", record=tmp_path / "record", max_model_len=32, block_size=8) as llm:
        assert llm.resolved.revision == OTHER
    assert read_lines(tmp_path / "record")[0]["revision"] == OTHER
    engines = Engines({"only": EngineConfig(model=NAME, revision="v1.0", max_model_len=32, block_size=8)})
    assert engines.settings["only"]["revision"] == OTHER


def test_commands_take_a_revision_and_tell_the_commit(cache: Path) -> None:
    told = json.loads(orcinus("plan", NAME, "--revision", "v1.0", "--json").stdout)
    assert told["revision"] == OTHER
    assert OTHER in orcinus("info", "--model", f"{NAME}@v1.0").stdout
    refused = orcinus("plan", "--revision", "v1.0")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


@pytest.fixture
def gguf_cache(cache: Path) -> Path:
    """The same repository with GGUF files in its commits: two number formats, one of them split, and something else."""
    folder = cache / MAIN
    whole = write_gguf(folder, folder / "some.model-Q8_0.gguf")
    (folder / "split").mkdir()
    write_gguf(folder, folder / "split" / "some.model-q4_k_m.gguf", split=20)
    (folder / "mmproj-Q8_0.gguf").write_bytes(b"GGUF of images")
    (folder / "other-Q5_0.gguf").symlink_to(whole)
    (folder / "another-Q5_0.gguf").symlink_to(whole)
    return folder


@pytest.mark.parametrize(
    ("model", "file"),
    [
        (f"{NAME}:Q8_0", "some.model-Q8_0.gguf"),
        (f"{NAME}:q8_0", "some.model-Q8_0.gguf"),
        (f"{NAME}@main:Q8_0", "some.model-Q8_0.gguf"),
        (f"{NAME}/some.model-Q8_0.gguf", "some.model-Q8_0.gguf"),
        (f"{NAME}:Q4_K_M", "split/some.model-q4_k_m-00001-of-00002.gguf"),
        (f"{NAME}/split/some.model-q4_k_m-00001-of-00002.gguf", "split/some.model-q4_k_m-00001-of-00002.gguf"),
    ],
)
def test_a_gguf_file_of_a_repository(gguf_cache: Path, model: str, file: str) -> None:
    assert find_model(model) == find_config(model) == find_headers(model)[0] == gguf_cache / file
    assert find_model(model, weights=False) == gguf_cache / file
    plan = make_plan(EngineConfig(model=model, max_model_len=32))
    assert (plan.resolved.architecture, plan.resolved.revision) == ("Qwen3ForCausalLM", MAIN)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (f"{NAME}:Q6_K", f"{NAME}:Q6_K names a GGUF file, and {NAME} has none: give one like {NAME}/another-Q5_0.gguf"),
        (f"{NAME}:Q5_0", f"has several of it: another-Q5_0.gguf, other-Q5_0.gguf: give one like {NAME}/another-Q5_0.gguf"),
        (f"{NAME}/gone.gguf", f"{NAME}/gone.gguf names a GGUF file, and {NAME} has none"),
        (f"{NAME}:", "no model folder at"),
    ],
)
def test_a_gguf_file_that_a_repository_lacks(gguf_cache: Path, model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_plan(EngineConfig(model=model))
