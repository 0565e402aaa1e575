"""Token counts of texts, for traces without lengths."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from pathlib import Path

from orcinus.errors import ConfigError
from orcinus.text.tokenizer import load_tokenizer

CountTokens = Callable[[str], int]


@lru_cache(maxsize=2)
def token_counter(tokenizer: str = "") -> CountTokens:
    """A counter by the tokenizer in a folder, or the bundled one.

    Equal texts are counted once. Raises `ConfigError` if the folder holds no tokenizer.
    """
    folder = Path(tokenizer) if tokenizer else Path(str(files("orcinus").joinpath("tiny/model")))
    found = load_tokenizer(folder.parent if folder.name == "tokenizer.json" else folder)
    if found is None:
        raise ConfigError(f"there is no tokenizer in {folder}: give the folder of a model, which holds a tokenizer.json")
    known: dict[bytes, int] = {}

    def count(text: str) -> int:
        name = blake2b(text.encode(), digest_size=16).digest()
        if name not in known:
            known[name] = len(found.encode(text, special=False))
        return known[name]

    return count
