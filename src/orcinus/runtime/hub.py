"""From a name to a folder, or to what its headers say: a local path, or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from orcinus.errors import ModelError
from orcinus.runtime.weight_files import TensorHeader, read_headers

WEIGHTS = "*.safetensors"
FILES = ["*.json", WEIGHTS, "*.txt", "*.model", "*.jinja"]
COPIES = ["consolidated*", "original/*"]  # the same weights once more, in their authors' own format
Found = TypeVar("Found")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def find_model(model: str | Path, *, weights: bool = True) -> Path:
    """The folder with the model's files, downloaded first if need be: all of them, or all but the weights.

    Raises `ModelError` if there is none.
    """
    folder = _local(model)
    return folder if folder is not None else _ask(str(model), _download if weights else _download_the_rest)


def find_config(model: str | Path) -> Path:
    """A folder with at least config.json, if there is one; nothing else is downloaded. Raises `ModelError` if there is none."""
    folder = _local(model)
    return folder if folder is not None else _ask(str(model), _download_config)


def find_headers(model: str | Path) -> tuple[Path, dict[str, TensorHeader]]:
    """A folder with at least config.json, and what the weight files say of their tensors; no weight is downloaded or read.

    Raises `ModelError` if there is no such model.
    """
    folder = _local(model)
    return (folder, read_headers(folder)) if folder is not None else _ask(str(model), _download_headers)


def _local(model: str | Path) -> Path | None:
    """The folder that a path leads to; None if it can only be a repository's name."""
    try:
        folder = Path(model).expanduser()
    except RuntimeError:  # ~nobody
        folder = Path(model)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ModelError(f"{model} is a file: give the folder that holds config.json and the safetensors files")
    if not REPOSITORY.fullmatch(str(model)) or str(model).startswith("."):
        raise ModelError(
            f"no model folder at {model}: give a folder with config.json, or a hub repository like Qwen/Qwen3-0.6B"
        )
    return None


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, allow_patterns=FILES, ignore_patterns=COPIES))


def _download_the_rest(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, allow_patterns=FILES, ignore_patterns=[*COPIES, WEIGHTS]))


def _download_config(repository: str) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repository, "config.json")).parent


def _download_headers(repository: str) -> tuple[Path, dict[str, TensorHeader]]:
    from huggingface_hub import get_safetensors_metadata

    folder = _download_config(repository)
    with suppress(ModelError):  # perhaps the weights were downloaded before
        return folder, read_headers(folder)
    files = get_safetensors_metadata(repository).files_metadata.values()
    tensors = [(name, tensor) for file in files for name, tensor in file.tensors.items()]
    return folder, {name: TensorHeader(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors}


def _ask(repository: str, request: Callable[[str], Found]) -> Found:
    """What a request to the hub gives. Raises `ModelError` if it fails."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        NotASafetensorsRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        SafetensorsParsingError,
    )

    # the second is the HTTP client's own, and which client it is differs from version to version
    unreachable: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)
    try:
        return request(repository)
    except GatedRepoError:
        raise ModelError(f"{repository} asks for a licence: accept it on the hub, then log in with `hf auth login`") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"no folder and no hub repository named {repository}: check the spelling, or log in if it is private"
        ) from None
    except HFValidationError as error:
        raise ModelError(f"{repository} is no local folder and no name of a hub repository: {error}") from None
    except (NotASafetensorsRepoError, SafetensorsParsingError):
        raise ModelError(f"{repository} holds no weights in safetensors that can be read: convert them first") from None
    except RemoteEntryNotFoundError:
        raise ModelError(f"{repository} has no config.json: it is no model that can be loaded") from None
    except unreachable as error:
        raise ModelError(
            f"{repository} is no local folder, and the Hugging Face hub cannot be reached ({type(error).__name__}): "
            "connect to the network, or give the path of a folder that was downloaded elsewhere"
        ) from None
