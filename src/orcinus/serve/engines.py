"""Builds the engine to serve, of a real or simulated model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from orcinus.config import EngineConfig, adapter_pairs
from orcinus.core.engine import Engine
from orcinus.core.ports import Observer, PacedExecutor, StagedExecutor
from orcinus.errors import ConfigError
from orcinus.runtime.hub import model_name
from orcinus.runtime.parallel.mesh import RankProcess
from orcinus.serve.messages import Ready
from orcinus.sim.live_config import LiveConfig
from orcinus.tiny import MODEL_DIR

if TYPE_CHECKING:
    from orcinus.build import Progress

Asked = EngineConfig | LiveConfig


def served_name(config: Asked, wanted: str | None) -> str:
    """The model's name in the API: the wanted one, that of a merged adapter, or what the config calls the model.

    Raises `ConfigError` if an adapter has the same name, or if the wanted one is no name.
    """
    if wanted is not None and not (wanted.strip() and wanted.isprintable()):
        raise ConfigError(f"the model cannot have the name {wanted!r}: give one without control characters")
    merged = None if isinstance(config, LiveConfig) or not config.merge_lora else adapter_pairs(config.lora)[0][0]
    name = wanted or merged or model_name(config.model)
    if name in adapters_of(config):
        raise ConfigError(f"an adapter has the model's name, {name}: give either of them another one")
    return name


def adapters_of(config: Asked) -> tuple[str, ...]:
    """Adapters that requests may choose."""
    return () if isinstance(config, LiveConfig) else config.adapters


def to_wire(config: Asked, memory_sharers: int = 1) -> bytes:
    """Encode a configuration and `memory_sharers` for the engine process.

    `memory_sharers` is the number of engines that share the machine's memory.
    """
    settings = {name: value for name, value in asdict(config).items() if value is not None}
    return msgspec.json.encode([isinstance(config, LiveConfig), settings, memory_sharers], enc_hook=str)


def from_wire(wire: bytes) -> tuple[Asked, int]:
    """Decode both. Raises `ConfigError` if the configuration can never work."""
    simulated, settings, memory_sharers = msgspec.json.decode(wire)
    return LiveConfig(**settings) if simulated else EngineConfig(**settings), memory_sharers


class ServedEngine(NamedTuple):
    """An engine with its description for clients.

    `paced` is its executor if batches take time of their own, `staged` if it is a pipeline of several stages; `check` tests
    an idle engine.
    """

    engine: Engine
    ready: Ready
    paced: PacedExecutor | None = None
    check: Callable[[], None] = lambda: None  # raises `EngineError` if the engine cannot go on
    staged: StagedExecutor | None = None


def build_served(config: Asked, observers: Sequence[Observer], progress: Progress, memory_sharers: int = 1) -> ServedEngine:
    """Build the engine. Raises `ConfigError` or `ModelError`."""
    if isinstance(config, LiveConfig):
        return _simulated(config, observers)
    return _real(config, observers, progress, memory_sharers)


def _real(config: EngineConfig, observers: Sequence[Observer], progress: Progress, memory_sharers: int) -> ServedEngine:
    from orcinus.build import build
    from orcinus.runtime.parallel.executor import ParallelExecutor

    built = build(config, observers, progress=progress, memory_sharers=memory_sharers)
    known = built.resolved
    ready = _ready(built.engine, known.vocab_size, known.kv, known.kv_cache_dtype, known.revision, built.ranks)
    executor = built.engine.executor
    staged = executor if isinstance(executor, ParallelExecutor) and executor.group.mesh.pp > 1 else None
    return ServedEngine(built.engine, ready, check=built.check, staged=staged)


def _simulated(config: LiveConfig, observers: Sequence[Observer]) -> ServedEngine:
    from orcinus.sim.live import build_live

    engine, executor = build_live(config, MODEL_DIR, observers)
    ready = _ready(engine, executor.generator.vocabulary.size, config.kv, "simulated")
    return ServedEngine(engine, ready, executor, staged=executor if executor.cost.num_stages > 1 else None)


def _ready(
    engine: Engine,
    vocab_size: int,
    kv_manager: str,
    dtype: str,
    revision: str | None = None,
    ranks: tuple[RankProcess, ...] = (),
) -> Ready:
    kv, limits = engine.scheduler.kv, engine.scheduler.limits
    sizes = limits.max_model_len, vocab_size, kv.num_blocks * kv.block_size, kv.num_blocks
    return Ready(*sizes, revision, kv_manager, dtype, limits.max_batch_tokens, ranks)
