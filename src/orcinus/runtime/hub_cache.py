"""The models in the hub's cache on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orcinus.model_config import CONFIG
from orcinus.runtime.hub import Repository, gguf_commands, gguf_models, whole_name


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model folder or GGUF file in the cache."""

    name: str  # under which commands find it
    refs: tuple[str, ...]  # branches and tags
    commit: str
    path: Path
    num_bytes: int


def cached_models() -> list[CachedModel]:
    """All models in the cache by name; repositories without a config and without a GGUF file are left out."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    found = [
        model
        for repository in repositories
        if repository.repo_type == "model"
        for revision in repository.revisions
        for model in _models(repository.repo_id, revision)
    ]
    return sorted(found, key=lambda model: (model.name.lower(), model.commit))


def _models(name: str, revision: Any) -> Iterator[CachedModel]:
    """The models of a cached commit."""
    refs, commit, folder = tuple(sorted(revision.refs)), revision.commit_hash, revision.snapshot_path
    repository = Repository(name, None if "main" in refs else (*refs, commit)[0])
    sizes = {file.file_path.relative_to(folder).as_posix(): file.size_on_disk for file in revision.files}
    files = gguf_models(list(sizes))
    if CONFIG in sizes and (not files or any(file.endswith(".safetensors") for file in sizes)):
        yield CachedModel(str(repository), refs, commit, folder, revision.size_on_disk)
        return
    for file, command in zip(files, gguf_commands(repository, files), strict=True):
        size = sum(size for part, size in sizes.items() if whole_name(part) == whole_name(file))
        yield CachedModel(command, refs, commit, folder / file, size)
