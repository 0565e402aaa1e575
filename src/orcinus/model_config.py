"""A model folder's JSON files, read within time and memory limits."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orcinus.errors import ModelError, one_line, shortened, unreadable
from orcinus.gguf_config import gguf_config
from orcinus.gguf_file import is_gguf, read_gguf

MIB = 2**20
MOST_BYTES = 16 * MIB  # ten times the largest config files of published models
CONFIG = "config.json"
# No published decoder comes near these; their products still fit into the 64 bits in which torch counts elements.
BOUNDS = {
    2**9: ("num_hidden_layers", "n_layer", "n_layers"),
    2**14: ("num_attention_heads", "n_head", "n_heads", "num_key_value_heads", "num_kv_heads", "n_head_kv", "head_dim"),
    2**20: ("hidden_size", "n_embd", "d_model"),
    2**24: ("vocab_size", "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    2**27: ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "original_max_position_embeddings"),
}
LARGEST = {name: bound for bound, names in BOUNDS.items() for name in names}


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder, or what the metadata of a GGUF file say instead.

    Raises `ModelError` if it is missing, broken or absurd.
    """
    if is_gguf(folder):
        config = gguf_config(read_gguf(folder))
        check_sizes(config, config_of(folder))
        return config
    if not os.path.lexists(folder / CONFIG):
        raise ModelError(f"no {CONFIG} in {folder}: this is not a model folder")
    config = read_object(folder / CONFIG)
    check_sizes(config, config_of(folder))
    return config


def config_name(model: Path) -> str:
    """The name of what describes the model in a folder or GGUF file, for messages."""
    return "the file's metadata" if is_gguf(model) else CONFIG


def config_of(model: Path) -> str:
    """What describes the model in a folder or GGUF file, and where it is, for messages."""
    return f"the metadata of {model}" if is_gguf(model) else f"{CONFIG} in {model}"


def read_object(file: Path, most_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises `ModelError` if the file cannot be read, is too large or holds no object.
    """
    where = f"{file.name} in {file.parent}"
    check_file(file, most_bytes)
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{where} cannot be read: {unreadable(error)}") from None
    except RecursionError:
        raise ModelError(f"{where} is not a JSON object that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise ModelError(f"{where} is not a JSON object: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{where} is not a JSON object: it is a {type(found).__name__}")
    return found


def read_optional(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is no file."""
    return read_object(file) if os.path.lexists(file) else {}


def check_folder(folder: Path) -> None:
    """Raise `ModelError` if this user may not look for files in a folder."""
    try:
        os.lstat(folder / CONFIG)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {unreadable(error)}") from None


def check_file(file: Path, most_bytes: int) -> None:
    """Raise `ModelError` unless it is a file of at most `most_bytes`."""
    where = f"{file.name} in {file.parent}"
    try:
        size = file.stat().st_size
    except OSError as error:
        raise ModelError(f"{where} cannot be read: {unreadable(error)}") from None
    if not file.is_file():
        raise ModelError(f"{where} is not a file: download the model again")
    try:
        file.open("rb").close()
    except OSError as error:
        raise ModelError(f"{where} cannot be read: {unreadable(error)}") from None
    if size > most_bytes:
        raise ModelError(f"{where} has {size} bytes, and at most {most_bytes} are read: download the model again")


def check_sizes(config: Mapping[str, Any], where: str) -> None:
    """Raise `ModelError` for sizes that no model can have.

    None is not checked.
    """
    for name, most in LARGEST.items():
        value = config.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most):
            raise ModelError(
                f"{where} cannot be understood: {name} must be a whole number from 1 to {most}, not {shown(value)}"
            )


def shown(value: object) -> str:
    """A value of a file, cut to fit into a message."""
    return shortened(reprlib.repr(value))
