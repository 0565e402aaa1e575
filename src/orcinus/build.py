"""The composition root: config in, wired engine out. The only module that knows every concrete class."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from orcinus.config import EngineConfig, Resolved
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Clock, Observer
from orcinus.core.request import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.spelled import make_order, make_policy, spell
from orcinus.core.view import Limits
from orcinus.errors import ConfigError
from orcinus.observe.recorder import StepRecorder
from orcinus.runtime import kv_cache
from orcinus.runtime.attention import ATTENTION
from orcinus.runtime.checkpoint import Checkpoint, load_model, open_checkpoint
from orcinus.runtime.device import Device, choose_device, memory_available
from orcinus.runtime.executor import TorchExecutor
from orcinus.runtime.hub import find_model
from orcinus.runtime.models import Decoder, DecoderSpec, Factory
from orcinus.text.generation import default_params, end_of_text_ids
from orcinus.text.tokenizer import Tokenizer, load_tokenizer
from orcinus.tiny import MODEL_DIR

MIB = 2**20


class MonotonicClock:
    """Seconds of the machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Built:
    """A wired engine and what belongs to its model."""

    engine: Engine
    tokenizer: Tokenizer | None
    eos_ids: frozenset[int]
    default_params: SamplingParams
    resolved: Resolved


@dataclass(frozen=True, slots=True)
class _Plan:
    checkpoint: Checkpoint
    device: Device
    resolved: Resolved


def resolve(config: EngineConfig) -> Resolved:
    """Decide everything without reading a weight. Raises `ConfigError` or `ModelError` if it cannot be built."""
    return _plan(config).resolved


def build(config: EngineConfig, observers: Sequence[Observer] = (), clock: Clock | None = None) -> Built:
    """Load the model and wire the engine. Raises `ConfigError` or `ModelError`."""
    plan = _plan(config)
    resolved, spec = plan.resolved, plan.checkpoint.spec
    recorders = [StepRecorder(config.record, _header(resolved))] if config.record is not None else []
    tokenizer, params = load_tokenizer(plan.checkpoint.folder), default_params(plan.checkpoint.folder)
    model = load_model(plan.checkpoint, plan.device, ATTENTION[resolved.attention]())
    kv = kv_cache.allocate(
        spec.num_layers,
        resolved.num_blocks,
        spec.num_kv_heads,
        resolved.block_size,
        spec.head_dim,
        plan.device.dtype,
        plan.device.device,
    )
    executor = TorchExecutor(model, kv, plan.device)
    executor.warm_up()
    manager = KV_MANAGERS[resolved.kv](resolved.num_blocks, resolved.block_size, resolved.limits)
    scheduler = Scheduler(resolved.policy, manager, resolved.limits, make_order(resolved.order))
    engine = Engine(scheduler, executor, clock or MonotonicClock(), [*observers, *recorders])
    eos_ids = tokenizer.eos_ids if tokenizer else end_of_text_ids(plan.checkpoint.folder)
    eos_ids = frozenset(token for token in eos_ids if token < spec.vocab_size)  # a config may name what the model lacks
    return Built(engine, tokenizer, eos_ids, params, resolved)


def _plan(config: EngineConfig) -> _Plan:
    policy = make_policy(config.policy) if isinstance(config.policy, str) else config.policy
    make_order(config.order)
    if config.kv not in KV_MANAGERS:
        raise ConfigError(f"unknown K/V manager {config.kv!r}: choose {', '.join(KV_MANAGERS)}")
    folder = MODEL_DIR if config.model is None else find_model(config.model)
    checkpoint = open_checkpoint(folder)
    spec = checkpoint.spec
    device = choose_device(config.device, config.dtype, checkpoint.dtype)
    attention = _attention(config.attention, device)
    asked_len = config.max_model_len
    if asked_len is not None and asked_len > spec.max_position_embeddings:
        raise ConfigError(
            f"max_model_len {asked_len} is more than the {spec.max_position_embeddings} positions of this model: lower it"
        )
    model_len = asked_len or spec.max_position_embeddings
    num_parameters = _count(spec)
    num_blocks, reason = _num_blocks(config, spec, device, model_len, num_parameters)
    if num_blocks * config.block_size < model_len:
        if asked_len is not None:
            raise ConfigError(
                f"the K/V pool holds {num_blocks * config.block_size} tokens, not even one request of max_model_len {asked_len}"
                ": lower max_model_len or give the pool more memory"
            )
        model_len = num_blocks * config.block_size
        reason += f"; the model length is lowered to it from {spec.max_position_embeddings}"
    limits = Limits(config.max_batch_size, config.max_batch_tokens or config.max_batch_size * model_len, model_len)
    token_bytes = kv_cache.bytes_per_token(spec.num_layers, spec.num_kv_heads, spec.head_dim, device.dtype)
    resolved = Resolved(
        folder=folder,
        architecture=checkpoint.architecture,
        num_parameters=num_parameters,
        vocab_size=spec.vocab_size,
        device=str(device.device),
        dtype=device.dtype_name,
        dtype_reason=device.dtype_reason,
        attention=attention,
        policy=policy,
        order=config.order,
        kv=config.kv,
        limits=limits,
        block_size=config.block_size,
        num_blocks=num_blocks,
        kv_bytes=num_blocks * config.block_size * token_bytes,
        kv_reason=reason,
    )
    return _Plan(checkpoint, device, resolved)


def _header(resolved: Resolved) -> dict[str, object]:
    """What a replay has to build again."""
    return {
        "policy": spell(resolved.policy),
        "order": resolved.order,
        "kv": resolved.kv,
        "limits": asdict(resolved.limits),
        "num_blocks": resolved.num_blocks,
        "block_size": resolved.block_size,
        "depth": TorchExecutor.depth,
    }


def _attention(asked: str, device: Device) -> str:
    if asked == "auto":
        return "cpu" if device.device.type == "cpu" else "reference"
    if asked not in ATTENTION:
        raise ConfigError(f"unknown attention backend {asked!r}: choose auto, {', '.join(ATTENTION)}")
    if asked == "cpu" and device.device.type != "cpu":
        raise ConfigError("attention backend 'cpu' needs device cpu: choose auto")
    return asked


def _num_blocks(
    config: EngineConfig, spec: DecoderSpec, device: Device, model_len: int, num_parameters: int
) -> tuple[int, str]:
    """How many K/V blocks, and why."""
    block_bytes = config.block_size * kv_cache.bytes_per_token(spec.num_layers, spec.num_kv_heads, spec.head_dim, device.dtype)
    weights = num_parameters * device.dtype.itemsize
    free = memory_available(device.device) - weights
    if config.num_blocks is not None or config.kv_memory_mib is not None:
        name = "num_blocks" if config.num_blocks is not None else "kv_memory_mib"
        blocks = config.num_blocks or (config.kv_memory_mib or 0) * MIB // block_bytes
        if blocks < 1 or blocks * block_bytes > free:
            size = f"a block takes {block_bytes / MIB:.3g} MiB, and {free // MIB} MiB are free"
            raise ConfigError(f"{name} {getattr(config, name)} does not fit: {size}")
        return blocks, f"{name} was asked for"
    wanted = config.max_batch_size * -(-model_len // config.block_size)
    room = int(free * 0.5) // block_bytes
    if room < 1:
        size = f"one of {config.block_size} tokens takes {block_bytes // MIB} MiB, the weights {weights // MIB} MiB"
        raise ConfigError(
            f"no K/V block fits: {size}, {max(free, 0) // MIB} MiB are left: use smaller blocks or a smaller model"
        )
    if wanted <= room:
        return wanted, f"room for {config.max_batch_size} requests of {model_len} tokens"
    return (
        room,
        f"half of the {free // MIB} MiB beside the weights (a full batch would need {wanted * block_bytes // MIB} MiB)",
    )


def _count(spec: DecoderSpec) -> int:
    nowhere = Factory(torch.device("meta"), torch.float32)
    return sum(parameter.numel() for parameter in Decoder(spec, ATTENTION["reference"](), nowhere).parameters())
