"""From a name to a folder: a local path, or a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from orcinus.errors import ModelError

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
COPIES = ["consolidated*", "original/*"]  # the same weights once more, in their authors' own format
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def find_model(model: str | Path) -> Path:
    """The folder with the model's files, downloaded first if need be. Raises `ModelError` if there is none."""
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
    return _download(str(model))


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(repository, allow_patterns=FILES, ignore_patterns=COPIES))
    except GatedRepoError:
        raise ModelError(f"{repository} asks for a licence: accept it on the hub, then log in with `hf auth login`") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"no folder and no hub repository named {repository}: check the spelling, or log in if it is private"
        ) from None
    except HFValidationError as error:
        raise ModelError(f"{repository} is no local folder and no name of a hub repository: {error}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{repository} is no local folder, and the Hugging Face hub cannot be reached ({type(error).__name__}): "
            "connect to the network, or give the path of a folder that was downloaded elsewhere"
        ) from None
