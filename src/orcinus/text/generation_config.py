"""Reads `generation_config.json`: default sampling and end-of-text ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orcinus.core.sampling_params import DefaultLength, SamplingParams
from orcinus.errors import ModelError, RequestError, one_line
from orcinus.gguf_file import GgufFile, is_gguf, read_gguf
from orcinus.model_config import read_optional
from orcinus.text.gguf_tokenizer import gguf_end_ids

FIELDS = {  # theirs -> ours
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}

GGUF_FIELDS = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}  # of general.sampling -> theirs


def default_params(folder: Path) -> SamplingParams:
    """The model's default sampling parameters, as in vLLM.

    Raises `ModelError` if the file is broken or has impossible values.
    """
    file = "generation_config.json"
    if is_gguf(folder):
        found, file = _of_gguf(read_gguf(folder)), "general.sampling"
    else:
        found = read_optional(folder / file)
    asked = {ours: found[theirs] for theirs, ours in FIELDS.items() if found.get(theirs) is not None}
    if type(length := asked.get("max_tokens")) is int:
        asked["max_tokens"] = DefaultLength(length)
    try:
        return SamplingParams(**asked)
    except RequestError as error:
        raise ModelError(f"{file} in {folder}: {one_line(error)}; mend or remove it") from None


def _of_gguf(file: GgufFile) -> dict[str, Any]:
    """The sampling that a GGUF file recommends, as in generation_config.json."""
    return {name: file.fields.get(f"general.sampling.{key}") for key, name in GGUF_FIELDS.items()}


def end_of_text_ids(folder: Path, tokenizer_eos: int | None = None) -> frozenset[int]:
    """Every token id that ends a text of this model.

    They come from the tokenizer, generation_config.json and config.json. Raises `ModelError` if one of the files is broken.
    """
    if is_gguf(folder):
        return gguf_end_ids(read_gguf(folder))
    found: list[Any] = [tokenizer_eos]
    for name in ("generation_config.json", "config.json"):
        ids = read_optional(folder / name).get("eos_token_id")
        found += ids if isinstance(ids, list) else [ids]
    return frozenset(token for token in found if isinstance(token, int) and not isinstance(token, bool) and token >= 0)
