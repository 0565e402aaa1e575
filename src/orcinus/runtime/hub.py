"""Models by name: a local folder or file, or a Hugging Face repository.

Only the files that are needed are downloaded, by `huggingface_hub`, which keeps them in its cache.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import NamedTuple

from orcinus.errors import ModelError, shown, unreadable
from orcinus.gguf_file import PART, gguf_in, is_gguf
from orcinus.model_config import CONFIG, check_file, check_folder, read_config
from orcinus.runtime.hub_bytes import SILENT, count_bytes
from orcinus.runtime.hub_errors import hub_errors, unreachable
from orcinus.runtime.hub_resume import complete_left_files
from orcinus.runtime.weight_files import TensorHeader, read_headers, some, weight_names

ADAPTER_FILES = ["adapter_config.json", "adapter_model.*"]
TEXTS = ["*.json", "*.txt", "*.model", "*.tiktoken"]  # config, tokenizer, index of the weights, defaults of sampling
TEMPLATES = "*.jinja"  # some lie in a folder of their own
PROJECTORS = "*mmproj*"  # GGUF files of image encoders
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
KIND = re.compile(r"[-._/]((?:I?Q|TQ|BF|F|MXFP)\d+\w*)\.gguf", re.IGNORECASE)  # a number format at the end of a name
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^:]*))?(?::([\w.-]+)|/([\w.-]+(?:/[\w.-]+)*\.gguf))?", re.DOTALL)
REVISION = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
ABANDONED = "*.????????.incomplete"  # parts of downloads that no other process goes on with
ABANDONED_S = 3600  # without a byte; a transfer waits for seconds
GIB = 2**30
Progress = Callable[[int, int], None]  # bytes that were downloaded, and bytes in all


class Repository(NamedTuple):
    """A hub repository at a branch, tag or commit (None: main), and which of its GGUF files is meant, if one is."""

    name: str
    revision: str | None = None
    gguf: str | None = None  # the file's name, or the number format at its end, such as Q4_K_M

    def __str__(self) -> str:
        named = self.name if self.revision is None else f"{self.name}@{self.revision}"
        return named if self.gguf is None else f"{named}/{self.gguf}" if self.gguf.endswith(".gguf") else f"{named}:{self.gguf}"


def find_model(
    model: str | Path,
    revision: str | None = None,
    *,
    commit: str | None = None,
    weights: bool = True,
    progress: Progress | None = None,
) -> Path:
    """The folder or GGUF file of a model, downloaded if needed.

    Without `weights` a folder's weights are not downloaded. `commit` is the commit that the revision meant before, wherever it
    points now. `progress` is told of downloaded weights; without it a terminal shows the bars of `huggingface_hub`.

    Raises `ModelError` if there is no such model.
    """
    found = locate(model, revision)
    if isinstance(found, Path):
        return found
    found = found._replace(revision=commit or found.revision)
    with hub_errors(str(found), found.revision):
        return _download(found, progress, weights=weights)


def find_adapter(path: str) -> Path:
    """The folder of a LoRA adapter: a local one, or a hub repository's, downloaded. Raises `ModelError` if there is none."""
    folder = Path(os.path.expanduser(path))
    if os.path.isdir(folder):
        check_folder(folder)
        return folder
    found = None
    with suppress(ModelError):
        found = locate(path, None)
    if not isinstance(found, Repository) or found.gguf is not None:
        raise ModelError(
            f"no adapter at {shown(path)}: give a folder in which peft saved one, or a hub repository like OWNER/NAME"
        )
    with hub_errors(str(found), found.revision):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(found.name, revision=found.revision, allow_patterns=ADAPTER_FILES, tqdm_class=SILENT))


def find_config(model: str | Path, revision: str | None = None) -> Path:
    """A folder with at least config.json, or a GGUF file.

    Nothing else is downloaded. Raises `ModelError` if there is none.
    """
    found = locate(model, revision)
    if isinstance(found, Path):
        return found
    with hub_errors(str(found), found.revision):
        return _download_config(found)


def find_headers(model: str | Path, revision: str | None = None) -> tuple[Path, dict[str, TensorHeader]]:
    """A folder with config.json, or a GGUF file, and the headers of its weights.

    No weight is read, and none is downloaded but those of a GGUF file.

    Raises `ModelError` if there is no such model.
    """
    found = locate(model, revision)
    if isinstance(found, Path):
        read_config(found)  # a folder without it is no model's, whatever it lacks besides
        return found, read_headers(found)
    with hub_errors(str(found), found.revision):
        return _download_headers(found)


def model_name(model: str | Path | None) -> str:
    """What a model is called in the API and in results: a repository's name, or the last part of a path."""
    if model is None:
        return "orcinus-tiny"
    path = Path(model).expanduser() if str(model).startswith("~/") else Path(model)
    if not os.path.exists(path):
        return str(model)
    snapshots = [
        each for each in path.absolute().parents if each.name == "snapshots" and each.parent.name.startswith("models--")
    ]
    if snapshots:
        return snapshots[0].parent.name.removeprefix("models--").replace("--", "/")
    named = path if path.name not in ("", "..") else path.resolve()
    return named.stem if named.suffix == ".gguf" else named.name or str(model)


def commit_of(folder: Path) -> str | None:
    """The commit of a folder, or of a file, in the hub's cache; None elsewhere."""
    inside = [path for path in (folder, *folder.parents) if path.parent.name == "snapshots" and COMMIT.fullmatch(path.name)]
    return inside[0].name if inside else None


def locate(model: str | Path, revision: str | None) -> Path | Repository:
    """The folder or file at this path, or the hub repository of this name. Raises `ModelError` if it can be neither."""
    try:
        folder = Path(model).expanduser()
    except RuntimeError:  # ~nobody
        folder = Path(model)
    try:
        is_folder, exists = folder.is_dir(), folder.exists()
    except OSError as error:  # error of a parent folder, or of the name
        raise ModelError(f"{shown(str(model))} cannot be read: {unreadable(error)}") from None
    if is_folder:
        if revision is not None:
            raise ModelError(f"{model} is a folder, which has no revision {revision}: leave the revision out")
        check_folder(folder)
        return gguf_in(folder) or folder
    if exists:
        check_file(folder, sys.maxsize)
        if not is_gguf(folder):
            raise ModelError(f"{model} is a file: give a GGUF file, or the folder that holds config.json and safetensors files")
        if revision is not None:
            raise ModelError(f"{model} is a file, which has no revision {revision}: leave the revision out")
        return folder
    match = REPOSITORY.fullmatch(str(model))
    if match is None or str(model).startswith("."):
        where = repr(str(model))[1:-1]  # in one line
        raise ModelError(
            f"no model folder at {where}: give a folder with config.json, a GGUF file, or a hub repository like Qwen/Qwen3-0.6B"
        )
    name, named, kind, file = match.groups()
    if named is not None and revision is not None and named != revision:
        raise ModelError(f"two revisions were given, {named} in {model} and {revision}: leave one of them out")
    wanted = revision if named is None else named
    if wanted is not None and (not REVISION.fullmatch(wanted) or ".." in wanted):
        raise ModelError(f"{shown(wanted)} is not a revision of {name}: give a branch, a tag or a commit")
    return Repository(name, wanted, kind or file)


def _download(repository: Repository, progress: Progress | None, *, weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    folder = _download_config(repository, progress)
    if not folder.is_dir():
        return folder
    name, revision = repository.name, commit_of(folder) or repository.revision
    inside = [f"*/{pattern}" for pattern in TEXTS]  # those of other formats of the model
    snapshot_download(name, revision=revision, allow_patterns=[*TEXTS, TEMPLATES], ignore_patterns=inside, tqdm_class=SILENT)
    if not weights:
        return gguf_in(folder) or folder
    wanted = weight_names(folder)
    if all((folder / file).is_file() for file in wanted):
        return folder
    stored = _file_names(repository._replace(revision=revision))
    if not set(wanted) & set(stored):
        return _only_gguf(repository, progress)
    _fetch(name, revision, wanted, progress)
    return folder


def _download_config(repository: Repository, progress: Progress | None = None) -> Path:
    """A folder with config.json, or the GGUF file that is meant."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

    if repository.gguf is not None:
        return _download_gguf(repository, repository.gguf, progress)
    try:
        return Path(hf_hub_download(repository.name, CONFIG, revision=repository.revision)).parent
    except RemoteEntryNotFoundError:
        return _only_gguf(repository, progress)
    except LocalEntryNotFoundError:
        folder = _cached(repository)
        if folder is None or (file := gguf_in(folder)) is None:
            raise
        return file


def _download_headers(repository: Repository) -> tuple[Path, dict[str, TensorHeader]]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import NotASafetensorsRepoError

    folder = _download_config(repository)
    if not folder.is_dir():
        return folder, read_headers(folder)
    with suppress(ModelError):  # the weights may have been downloaded before
        return folder, read_headers(folder)
    revision = commit_of(folder) or repository.revision  # the config's commit, even if the branch moved meanwhile
    try:
        files = HfApi().get_safetensors_metadata(repository.name, revision=revision).files_metadata.values()
    except NotASafetensorsRepoError:
        file = _only_gguf(repository)
        return file, read_headers(file)
    tensors = [(name, tensor) for file in files for name, tensor in file.tensors.items()]
    return folder, {name: TensorHeader(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors}


def _only_gguf(repository: Repository, progress: Progress | None = None) -> Path:
    """The GGUF file of a repository without safetensors files, if it holds one model.

    Raises `ModelError` if it holds several or none.
    """
    name, names = repository.name, _file_names(repository)
    models = gguf_models(names)
    if len(models) == 1:
        return _download_gguf(repository, models[0], progress)
    if models:
        raise ModelError(
            f"{name} holds {len(models)} models in GGUF: give one, such as {some(gguf_commands(repository, models))}"
        )
    pickled = [file for file in names if any(fnmatchcase(file, pattern) for pattern in PICKLES)]
    if pickled:
        kind = f"pickled weights only ({some(pickled)}), which can run code when they are read"
        raise ModelError(f"{name} holds {kind}: convert them to safetensors, or choose another repository")
    raise ModelError(f"{name} holds no weights in safetensors or GGUF: it is not a model that can be loaded")


def _download_gguf(repository: Repository, wanted: str, progress: Progress | None) -> Path:
    """One model among a repository's GGUF files, with all of its parts. Raises `ModelError` if it is not one."""
    names = _file_names(repository)
    models = gguf_models(names)
    ending = re.compile(rf".*[-._/]{re.escape(wanted)}\.gguf", re.IGNORECASE)
    found = [name for name in models if name == wanted or ending.fullmatch(f"/{whole_name(name)}")]
    if len(found) != 1:
        several = f"several of it: {some(found)}" if found else "none"
        choose = f"give one like {some(gguf_commands(repository, models))}" if models else "it holds no GGUF files at all"
        raise ModelError(f"{repository} names a GGUF file, and {repository.name} has {several}: {choose}")
    parts = [name for name in names if whole_name(name) == whole_name(found[0])]
    return _fetch(repository.name, repository.revision, parts, progress) / found[0]


def gguf_models(names: Sequence[str]) -> list[str]:
    """The GGUF files that are models of language; of split ones the first parts."""
    files = [name for name in sorted(names) if name.endswith(".gguf") and not fnmatchcase(name, PROJECTORS)]
    return [name for name in files if (part := PART.fullmatch(name)) is None or int(part[2]) == 1]


def whole_name(name: str) -> str:
    """A GGUF file's name without the number of its part."""
    part = PART.fullmatch(name)
    return name if part is None else f"{part[1]}.gguf"


def gguf_commands(repository: Repository, models: Sequence[str]) -> list[str]:
    """What commands call GGUF files: by their number formats, or in full where these do not tell which is meant."""
    plain = repository._replace(gguf=None)
    kinds = [match[1] if (match := KIND.search(f"/{whole_name(name)}")) else None for name in models]
    in_full = [kind is None or kinds.count(kind) > 1 for kind in kinds]
    return [f"{plain}/{name}" if full else f"{plain}:{kind}" for name, kind, full in zip(models, kinds, in_full, strict=True)]


def _file_names(repository: Repository) -> list[str]:
    """The files of a repository; where the hub cannot be asked, those in the cache, if there are weights among them."""
    from huggingface_hub import HfApi

    try:
        return HfApi().list_repo_files(repository.name, revision=repository.revision)
    except unreachable():
        folder = _cached(repository)
        names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] if folder else []
        if not any(name.endswith((".gguf", ".safetensors")) for name in names):
            raise
        return names


def _cached(repository: Repository) -> Path | None:
    """What the cache holds of a repository, complete or not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(repository.name, revision=repository.revision, local_files_only=True, allow_patterns=[""])
        )
    except LocalEntryNotFoundError:
        return None


def _fetch(name: str, revision: str | None, files: Sequence[str], progress: Progress | None) -> Path:
    """The folder of a repository with these files in it. Raises `ModelError` if the disk has no room for them."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import DryRunError

    patterns = [escape(file) for file in files]
    cache, missing = Path(constants.HF_HUB_CACHE), 0
    bars = None if progress is None and sys.stderr.isatty() else SILENT
    if not constants.HF_HUB_OFFLINE:
        complete_left_files(name, revision, files, cache, bars)
    with suppress(DryRunError):  # the hub cannot be asked: the files are in the cache, or the download tells why
        planned = snapshot_download(name, revision=revision, allow_patterns=patterns, dry_run=True, tqdm_class=SILENT)
        missing = sum(file.file_size or 0 for file in planned if file.will_download)
    _remove_abandoned(cache / f"models--{name.replace('/', '--')}" / "blobs")
    free = shutil.disk_usage(next(path for path in (cache, *cache.absolute().parents) if path.exists())).free
    if missing > free:
        raise ModelError(
            f"{name} takes {missing / GIB:.1f} GiB more, and {free / GIB:.1f} GiB are free in {cache}: make room, or set "
            "HF_HOME to a folder on another disk"
        )
    counted = count_bytes(progress, missing) if progress else bars
    return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, tqdm_class=counted))


def _remove_abandoned(blobs: Path) -> None:
    """Remove what interrupted processes left of files that were not asked for again."""
    for part in blobs.glob(ABANDONED):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_S:
                part.unlink()
