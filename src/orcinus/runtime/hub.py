"""Models by name: a local folder, or a Hugging Face repository."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple, TypeVar

from orcinus.errors import ModelError, shown
from orcinus.gguf_file import PART, gguf_in, is_gguf
from orcinus.runtime.weight_files import TensorHeader, read_headers

WEIGHTS = "*.safetensors"
FILES = ["*.json", WEIGHTS, "*.txt", "*.model", "*.jinja"]
PROJECTORS = "*mmproj*"  # GGUF files of image encoders
COPIES = ["consolidated*", "original/*"]  # other formats of the same weights
Found = TypeVar("Found")
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([^:]*))?(?::([\w.-]+)|/([\w.-]+(?:/[\w.-]+)*\.gguf))?", re.DOTALL)
REVISION = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
COMMIT = re.compile(r"[0-9a-f]{40}")


class Repository(NamedTuple):
    """A hub repository at a branch, tag or commit (None: main), and which of its GGUF files is meant, if one is."""

    name: str
    revision: str | None = None
    gguf: str | None = None  # the file's name, or the number format at its end, such as Q4_K_M

    def __str__(self) -> str:
        named = self.name if self.revision is None else f"{self.name}@{self.revision}"
        return named if self.gguf is None else f"{named}/{self.gguf}" if self.gguf.endswith(".gguf") else f"{named}:{self.gguf}"


def find_model(model: str | Path, revision: str | None = None, *, commit: str | None = None, weights: bool = True) -> Path:
    """The folder or GGUF file of a model, downloaded if needed.

    Without `weights` a folder's weights are not downloaded. `commit` is the commit that the revision meant before, wherever it
    points now. Raises `ModelError` if there is no such model.
    """
    found = _locate(model, revision)
    if isinstance(found, Path):
        return found
    if found.gguf is not None:
        weights = True  # all is in one file
    return _ask(found._replace(revision=commit or found.revision), _download if weights else _download_the_rest)


def find_config(model: str | Path, revision: str | None = None) -> Path:
    """A folder with at least config.json, or a GGUF file.

    Nothing else is downloaded. Raises `ModelError` if there is none.
    """
    found = _locate(model, revision)
    if isinstance(found, Path):
        return found
    return _ask(found, _download_config if found.gguf is None else _download)


def find_headers(model: str | Path, revision: str | None = None) -> tuple[Path, dict[str, TensorHeader]]:
    """A folder with config.json, or a GGUF file, and the headers of its weights.

    No weight is read, and none is downloaded but those of a GGUF file.

    Raises `ModelError` if there is no such model.
    """
    found = _locate(model, revision)
    if isinstance(found, Repository) and found.gguf is not None:
        found = _ask(found, _download)
    return (found, read_headers(found)) if isinstance(found, Path) else _ask(found, _download_headers)


def commit_of(folder: Path) -> str | None:
    """The commit of a folder, or of a file, in the hub's cache; None elsewhere."""
    inside = [path for path in (folder, *folder.parents) if path.parent.name == "snapshots" and COMMIT.fullmatch(path.name)]
    return inside[0].name if inside else None


def _locate(model: str | Path, revision: str | None) -> Path | Repository:
    """The folder at this path, or the hub repository of this name."""
    try:
        folder = Path(model).expanduser()
    except RuntimeError:  # ~nobody
        folder = Path(model)
    try:
        is_folder, exists = folder.is_dir(), folder.exists()
    except OSError as error:  # error of a parent folder, or of the name
        raise ModelError(f"{shown(str(model))} cannot be read: {error.strerror}") from None
    if is_folder:
        if revision is not None:
            raise ModelError(f"{model} is a folder, which has no revision {revision}: leave the revision out")
        return gguf_in(folder) or folder
    if exists:
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


def _download(repository: Repository) -> Path:
    from huggingface_hub import snapshot_download

    name, revision, gguf = repository
    if gguf is not None:
        return _download_gguf(repository, gguf)
    return Path(snapshot_download(name, revision=revision, allow_patterns=FILES, ignore_patterns=COPIES))


def _download_gguf(repository: Repository, wanted: str) -> Path:
    """One model among a repository's GGUF files, with all of its parts. Raises `ModelError` if it is not one."""
    from huggingface_hub import snapshot_download

    if wanted.endswith(".gguf"):
        part = PART.fullmatch(wanted)
        patterns = [f"{part[1]}-?????-of-{part[3]}.gguf" if part else wanted]
    else:
        spellings = {wanted, wanted.lower(), wanted.upper()}
        patterns = [f"*[-._/]{kind}{end}.gguf" for kind in spellings for end in ("", "-?????-of-?????")]
    name, revision, _ = repository
    folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=[PROJECTORS]))
    found = [
        path
        for path in sorted(folder.rglob("*.gguf"))  # others may have been downloaded before
        if any(fnmatchcase(f"/{path.relative_to(folder)}", f"*{pattern}") for pattern in patterns)
        and not fnmatchcase(path.name, PROJECTORS)
    ]
    models = [path for path in found if (part := PART.fullmatch(path.name)) is None or int(part[2]) == 1]
    if len(models) != 1:
        several = ", ".join(str(path.relative_to(folder)) for path in models[:3])
        problem = f"several: {several}" if models else "none"
        raise ModelError(f"{repository} names a GGUF file, and {name} has {problem}: give one like {name}/FILE.gguf")
    return models[0]


def _download_the_rest(repository: Repository) -> Path:
    from huggingface_hub import snapshot_download

    name, revision, _ = repository
    return Path(snapshot_download(name, revision=revision, allow_patterns=FILES, ignore_patterns=[*COPIES, WEIGHTS]))


def _download_config(repository: Repository) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository.name, "config.json", revision=repository.revision)).parent


def _download_headers(repository: Repository) -> tuple[Path, dict[str, TensorHeader]]:
    from huggingface_hub import get_safetensors_metadata

    folder = _download_config(repository)
    with suppress(ModelError):  # the weights may have been downloaded before
        return folder, read_headers(folder)
    revision = commit_of(folder) or repository.revision  # the config's commit, even if the branch moved meanwhile
    files = get_safetensors_metadata(repository.name, revision=revision).files_metadata.values()
    tensors = [(name, tensor) for file in files for name, tensor in file.tensors.items()]
    return folder, {name: TensorHeader(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors}


def _ask(repository: Repository, request: Callable[[Repository], Found]) -> Found:
    """The result of a request to the hub. Raises `ModelError`."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        NotASafetensorsRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
        SafetensorsParsingError,
    )

    # the second is that of the HTTP client, which depends on the version
    unreachable: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)
    try:
        return request(repository)
    except GatedRepoError:
        raise ModelError(f"{repository} asks for a licence: accept it on the hub, then log in with `hf auth login`") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"no folder and no hub repository named {repository.name}: check the spelling, or log in if it is private"
        ) from None
    except RevisionNotFoundError:
        raise ModelError(
            f"{repository.name} has no revision {repository.revision}: give a branch, a tag or a commit of it"
        ) from None
    except HFValidationError as error:
        raise ModelError(f"{repository} is neither a local folder nor the name of a hub repository: {error}") from None
    except (NotASafetensorsRepoError, SafetensorsParsingError):
        raise ModelError(f"{repository} holds no weights in safetensors that can be read: convert them first") from None
    except RemoteEntryNotFoundError:
        problem = f"{repository} has no config.json: it is not a model that can be loaded"
        raise ModelError(f"{problem}; a GGUF file in it is named like {repository}:Q4_K_M") from None
    except unreachable as error:
        if isinstance(error, OSError) and error.filename is not None:  # error of a local file, not of a connection
            raise ModelError(_no_room(str(repository), f"{error.filename}: {error.strerror}")) from None
        raise ModelError(
            f"{repository} is not a local folder, and the Hugging Face hub cannot be reached ({type(error).__name__}): "
            "connect to the network, or give the path of a folder that was downloaded elsewhere"
        ) from None
    except RuntimeError as error:  # no home directory, hence no folder for downloads
        raise ModelError(_no_room(str(repository), str(error))) from None


def _no_room(repository: str, problem: str) -> str:
    unkept = f"{repository} is not a local folder, and a download cannot be kept ({problem})"
    return f"{unkept}: set HF_HOME to a folder that you can write to"
