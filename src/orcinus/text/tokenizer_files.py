"""Reads a model folder's tokenizer: as transformers does, which is asked once per tokenizer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from orcinus.disk_cache import DiskCache
from orcinus.errors import ModelError, unreadable
from orcinus.gguf_file import is_gguf, read_gguf
from orcinus.model_config import MIB, check_file, read_config, read_optional
from orcinus.text import fast_tokenizer, pattern_process, patterns
from orcinus.text.fast_tokenizer import FastTokenizer, TokenizerFacts
from orcinus.text.gguf_tokenizer import KIND, gguf_tokenizer
from orcinus.text.patterns import check_patterns, is_panic

VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")  # any of them makes a tokenizer
OBJECTS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
BESIDE = (
    "vocab.txt",
    "merges.txt",
    "tekken.json",
    "spiece.model",
    "chat_template.json",
    "chat_template.jinja",
)
MOST_BYTES = 128 * MIB  # of a tokenizer's file: the largest published ones have about 35 MiB
READ = (
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "*.tiktoken",
    "additional_chat_templates/*.jinja",
)
KEPT = DiskCache(
    "tokenizers",
    libraries=("transformers", "tokenizers"),
    sources=(__file__, fast_tokenizer.__file__, patterns.__file__, pattern_process.__file__),
)


def has_tokenizer(folder: Path) -> bool:
    """Whether a model folder or GGUF file holds a tokenizer, readable or not."""
    if is_gguf(folder):
        return read_gguf(folder).get(KIND, str) is not None
    return any(os.path.lexists(folder / name) for name in VOCABULARIES)


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder or GGUF file, with the interface that transformers gives it; None if it holds none.

    Raises `ModelError` if the tokenizer is broken.
    """
    if is_gguf(folder):
        return _read_gguf_tokenizer(folder)
    if not has_tokenizer(folder):
        return None
    _check_files(folder)
    question = _contents(folder)
    if question is not None and (kept := KEPT.find(question)) is not None:
        return FastTokenizer(TokenizerFacts.from_json(kept))
    try:
        tokenizer, usual = _ask_transformers(folder)
        tried = check_patterns(getattr(tokenizer, "backend_tokenizer", None), folder)
        facts = TokenizerFacts.of(tokenizer, usual)
    except ModelError:
        raise
    except BaseException as error:  # the tokenizers library raises bare Exception, and panics
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ModelError(f"the tokenizer in {folder} cannot be read: {unreadable(error)}") from error
    if facts is None:
        tokenizer.model_max_length = sys.maxsize  # the engine has its own limit and says so; no warning is needed before that
        return tokenizer
    if question is not None and tried:
        KEPT.keep(question, facts.to_json())
    return FastTokenizer(facts)


def _read_gguf_tokenizer(file: Path) -> FastTokenizer | None:
    try:
        facts = gguf_tokenizer(read_gguf(file))
        return None if facts is None else FastTokenizer(facts)
    except ModelError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ModelError(f"the tokenizer in {file} cannot be read: {unreadable(error)}") from error


def _check_files(folder: Path) -> None:
    """Raise `ModelError` for files that would take too long to read.

    config.json is among them, because it names the class of some tokenizers.
    """
    for name in (*VOCABULARIES, *BESIDE):
        if os.path.lexists(folder / name):
            check_file(folder / name, MOST_BYTES)
    for name in OBJECTS:
        read_optional(folder / name)
    if os.path.lexists(folder / "config.json"):
        read_config(folder)


def _contents(folder: Path) -> bytes | None:
    """The names and bytes of all files that a tokenizer may be read from; None if they are too much."""
    found = sorted({file for pattern in READ for file in folder.glob(pattern)})
    try:
        if sum(file.stat().st_size for file in found) > MOST_BYTES:
            return None
        parts = [(str(file.relative_to(folder)), file.read_bytes()) for file in found if file.is_file()]
    except OSError:
        return None
    return repr(parts).encode()


def _ask_transformers(folder: Path) -> tuple[Any, type]:
    """The tokenizer as transformers loads it, and transformers' class of tokenizers with a fast backend.

    Its class is the one that the folder names, or that of the model type.
    """
    from transformers import PreTrainedTokenizerFast

    named = read_optional(folder / "tokenizer_config.json").get("tokenizer_class")
    local = {"local_files_only": True, "trust_remote_code": False}
    if named == "PreTrainedTokenizerFast":  # any other way to find it imports torch
        return PreTrainedTokenizerFast.from_pretrained(folder, **local), PreTrainedTokenizerFast
    from transformers import AutoTokenizer, PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = read_optional(
        folder / "config.json"
    )  # else transformers reads all of it, and fails on fields that do not concern it
    kind = config.get("model_type")
    make = CONFIG_MAPPING[kind] if isinstance(kind, str) and kind in CONFIG_MAPPING else PreTrainedConfig
    facts = make(name_or_path=str(folder), tokenizer_class=config.get("tokenizer_class"))
    return AutoTokenizer.from_pretrained(folder, config=facts, **local), PreTrainedTokenizerFast
