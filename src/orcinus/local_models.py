"""The models in the hub's cache, and whether they run on this machine, from headers alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from orcinus.config import EngineConfig
from orcinus.errors import ConfigError, ModelError
from orcinus.gguf_file import is_gguf
from orcinus.model_config import read_config
from orcinus.plan import make_plan
from orcinus.runtime.hub_cache import CachedModel, cached_models
from orcinus.runtime.quant_methods import quantization_settings
from orcinus.runtime.weight_files import has_weights, read_headers


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model of the cache, its number format, and why it does not run here (empty: it runs)."""

    model: CachedModel
    format: str
    problem: str


def local_models() -> list[LocalModel]:
    """All models of the cache; with default options, and the memory that is free now."""
    return [LocalModel(model, _format(model.path), _problem(model)) for model in cached_models()]


def _problem(model: CachedModel) -> str:
    if not has_weights(model.path):
        return f"its weights are not all here: orcinus pull {model.name}"
    try:
        plan = make_plan(EngineConfig(model=model.path))
    except ConfigError as error:
        return str(error)
    return "" if plan.fits else f"{plan.memory.missing_mib} MiB of memory are missing: see orcinus plan {model.name}"


def _format(path: Path) -> str:
    """The format in which most bytes are stored."""
    try:
        config = {} if is_gguf(path) else read_config(path)
        sizes = defaultdict[str, int](int)
        for tensor in read_headers(path).values():
            sizes[tensor.dtype] += tensor.num_bytes
    except ModelError:
        return "unknown"
    settings = quantization_settings(config)
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    stored = max(sizes, key=lambda dtype: sizes[dtype], default="empty")
    return " ".join(filter(None, (stored, "GGUF" if is_gguf(path) else "safetensors", method and f"({method})")))
