"""The plan of an engine, from headers alone: format, limits, memory, remedies.

Building an engine, `orcinus info` and `orcinus plan` all ask here, so that what runs out of memory is told before a weight is
read, or downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from orcinus.config import EngineConfig, Resolved
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Policy
from orcinus.core.view import Limits
from orcinus.errors import ConfigError
from orcinus.memory.budget import MIB, MemoryBudget, mib
from orcinus.memory.footprint import FIXED, decode_kv_bytes, kv_token_bytes, working_bytes
from orcinus.memory.sizes import Profiled, Space, decide_sizes, largest
from orcinus.runtime import kernels
from orcinus.runtime.attention import ATTENTION, WITH_KERNELS
from orcinus.runtime.attention import check as check_backend
from orcinus.runtime.checkpoint import Checkpoint, match, open_checkpoint, outline, with_weights
from orcinus.runtime.device import Device, choose_device
from orcinus.runtime.device_memory import memory_available, memory_total, product_bandwidth, read_bandwidth
from orcinus.runtime.hub import commit_of, find_config, find_headers
from orcinus.runtime.models import DecoderSpec
from orcinus.runtime.onednn_weights import can_prepack
from orcinus.runtime.weight_files import has_weights
from orcinus.tiny import MODEL_DIR

GPU_UTILIZATION = 0.9  # of its free memory, as vLLM takes of all its memory
MOST_UTILIZATION = 0.97  # that is suggested: something has to be left for what torch does not allocate
SIZES = ("num_blocks", "kv_memory_mib", "max_batch_tokens", "max_model_len", "max_batch_size")


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model as its config and its weights' headers describe it."""

    checkpoint: Checkpoint
    num_parameters: int
    saved_bytes: int  # of the weights in their files; 0 if they will be made up
    complete: bool  # whether all its files are at hand; else its weights are still to be downloaded


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine before it is built, with its memory budget."""

    config: EngineConfig
    model: PlannedModel
    device: Device
    resolved: Resolved
    memory: MemoryBudget
    profiled: Profiled | None = None

    @property
    def fits(self) -> bool:
        return self.memory.fits

    @property
    def kv_token_bytes(self) -> int:
        spec = self.model.checkpoint.spec
        return kv_token_bytes(spec.num_layers, spec.num_kv_heads, spec.head_dim, self.device.dtype.itemsize)

    def sequences(self, length: int) -> int:
        """How many requests of this total length the K/V memory holds at once."""
        return self.resolved.num_blocks // -(-length // self.resolved.block_size)

    def check(self, found: str = "the model does not fit") -> None:
        """Raise `ConfigError`, with what would help, if it does not fit."""
        if self.fits:
            return
        m = self.memory
        knobs = [f"{name}={value}" for name, value in self.remedies()]
        margin = f" ({m.margin // MIB} more stay free)" if m.margin else ""
        raise ConfigError(
            f"{found}: {mib(m.weights)} MiB of weights, {mib(m.kv)} of K/V and {mib(m.working)} to work with, "
            f"where {(m.available - m.margin) // MIB} are available{margin}: {m.missing_mib} MiB are missing; "
            f"use {', or '.join([*knobs, 'a smaller model'])}"
        )

    def of(self, config: EngineConfig) -> Plan:
        """The plan of another config for the same model and free memory.

        What this model has taken since must not count twice. Raises `ConfigError` as `make_plan` does.
        """
        _check_names(config)
        return self._again(config)

    def measured(self, working: int) -> Plan:
        """The plan for the same config, with its largest iteration measured.

        Keys and values get more or less memory. No iteration becomes larger than the one that was measured, unless a user
        asked for it. Raises `ConfigError`.
        """
        limits, spec = self.resolved.limits, self.model.checkpoint.spec
        tokens = min(limits.max_batch_tokens, limits.max_batch_size * limits.max_model_len)
        estimate = partial(_estimate, spec, self.device, self.resolved.attention)
        estimated = estimate(tokens, limits.max_batch_size, limits.max_model_len)
        return replace(self, profiled=Profiled(working, estimated, tokens))._again(self.config)

    def _again(self, config: EngineConfig) -> Plan:
        return _decide(config, self.model, self.memory.total, self.memory.available, self.profiled)

    def summary(self) -> str:
        """The sizes in one line."""
        m, resolved = self.memory, self.resolved
        work = "measured" if m.measured else "estimated"
        return (
            f"{m.available // MIB} of {m.total // MIB} MiB are free on {resolved.device}: {mib(m.weights)} for weights, "
            f"{mib(m.working)} to work with ({work}), {m.kv // MIB} for keys and values of {resolved.kv_tokens} tokens "
            f"({self.sequences(resolved.limits.max_model_len)} requests of {resolved.limits.max_model_len}), "
            f"{m.margin // MIB} stay free"
        )

    def remedies(self) -> list[tuple[str, Any]]:
        """Options (name, value), each of which alone makes it fit; all tried."""
        return [] if self.fits else list(_remedies(self))


def make_plan(config: EngineConfig) -> Plan:
    """The plan of a config, from headers alone.

    Only a stored head that should be tied is read, and compared with the embedding.

    Raises `ConfigError` or `ModelError` for what memory could not mend.
    """
    _check_names(config)  # first of all, because nothing has to be read for it
    model = _find(config)
    device = choose_device(config.device, config.dtype, model.checkpoint.dtype).device
    return _decide(config, model, memory_total(device), memory_available(device), None)


def _find(config: EngineConfig) -> PlannedModel:
    """The model that a config names, from headers; weights that will be made up have none."""
    asked = MODEL_DIR if config.model is None else config.model
    dummy = config.load_format == "dummy"
    folder, headers = (find_config(asked, config.revision), {}) if dummy else find_headers(asked, config.revision)
    complete = dummy or has_weights(folder)
    checkpoint = with_weights(open_checkpoint(folder), headers, readable=complete)
    shape = outline(checkpoint.spec, linear_weight=checkpoint.linear_weight)
    places = {} if dummy else match(checkpoint, shape, headers)
    return PlannedModel(checkpoint, shape.num_parameters, sum(headers[name].num_bytes for name in places), complete)


@dataclass(frozen=True, slots=True)
class Speed:
    """An upper bound of decoding speed for one batch size."""

    requests: int
    weights_bytes_per_s: float  # measured: read by a product with so many rows
    iterations_per_s: float

    @property
    def tokens_per_s(self) -> float:
        return self.requests * self.iterations_per_s


@dataclass(frozen=True, slots=True)
class Speeds:
    """Upper bounds of decoding speed on this machine: only memory reads count."""

    context: int  # tokens behind every decode: half of the longest request
    kv_bytes_per_s: float  # measured
    decode: tuple[Speed, ...]  # of one request, and of as many as there may be


def measure(plan: Plan) -> Speeds:
    """Upper bounds of decoding speed, from measured memory bandwidth.

    Takes a second or two.

    An iteration of decodes reads the weights once for all requests, and the keys and values of each.
    """
    spec, dtype, device = plan.model.checkpoint.spec, plan.device.dtype, plan.device.device
    limits = plan.resolved.limits
    context = -(-limits.max_model_len // 2)
    weights = outline(spec, dtype, plan.model.checkpoint.linear_weight).decode_bytes
    kv = decode_kv_bytes(spec, dtype.itemsize, context)
    most = min(limits.max_batch_size, plan.sequences(context))
    kv_rate = read_bandwidth(device, weights + most * kv)
    speeds = []
    for requests in sorted({1, most}):
        rate = product_bandwidth(device, dtype, weights, spec.hidden_size, requests)
        speeds.append(Speed(requests, rate, 1 / (weights / rate + requests * kv / kv_rate)))
    return Speeds(context, kv_rate, tuple(speeds))


def _decide(config: EngineConfig, model: PlannedModel, total: int, available: int, profiled: Profiled | None) -> Plan:
    """The plan for so many bytes of memory. Raises `ConfigError` if options contradict the model or each other."""
    spec = model.checkpoint.spec
    device = choose_device(config.device, config.dtype, model.checkpoint.dtype)
    attention = _attention(config.attention, device, spec.head_dim)
    if config.enforce_eager and device.device.type == "cpu":
        raise ConfigError("enforce_eager is for GPUs, where it turns CUDA graphs off: leave it out on a CPU")
    shape = outline(spec, device.dtype, model.checkpoint.linear_weight)
    weights = shape.num_bytes(prepacked=can_prepack(device.device.type, device.dtype))
    margin = _margin(config, device, available)

    space = Space(
        free=available - margin - weights,
        block_bytes=config.block_size
        * kv_token_bytes(spec.num_layers, spec.num_kv_heads, spec.head_dim, device.dtype.itemsize),
        estimate=lambda tokens, length: _estimate(spec, device, attention, tokens, config.max_batch_size, length),
        positions=spec.max_position_embeddings,
        longest=spec.longest_request,
        on_gpu=device.device.type == "cuda",
        profiled=profiled,
    )
    sizes = decide_sizes(config, space)
    resolved = Resolved(
        folder=model.checkpoint.folder,
        revision=commit_of(model.checkpoint.folder),
        architecture=model.checkpoint.architecture,
        num_parameters=model.num_parameters,
        vocab_size=spec.vocab_size,
        device=str(device.device),
        dtype=device.dtype_name,
        dtype_reason=device.dtype_reason,
        attention=attention,
        cuda_graphs=device.device.type == "cuda" and attention in WITH_KERNELS and not config.enforce_eager,
        policy=_policy(config),
        order=config.order,
        kv=config.kv,
        limits=Limits(config.max_batch_size, sizes.tokens, sizes.model_len),
        tokens_reason=sizes.tokens_reason,
        block_size=config.block_size,
        num_blocks=sizes.num_blocks,
        kv_bytes=sizes.num_blocks * space.block_bytes,
        kv_reason=sizes.kv_reason,
        notes=(*model.checkpoint.notes, *_stretched(config, spec)),
    )
    memory = MemoryBudget(
        total=total,
        available=available,
        margin=margin,
        weights=weights,
        kv=resolved.kv_bytes,
        working=sizes.working,
        measured=profiled is not None,
    )
    return Plan(config, model, device, resolved, memory, profiled)


def _estimate(spec: DecoderSpec, device: Device, attention: str, tokens: int, requests: int, model_len: int) -> int:
    """Bytes that an iteration works with; on a GPU, what does not grow with it is the margin's."""
    fixed = 0 if device.device.type == "cuda" else FIXED
    gathered = model_len
    if attention == "flash":  # contexts of all chunks at once, in one copy instead of two
        gathered = min(requests, tokens // 2) * model_len // 2
    elif attention in WITH_KERNELS:  # which read contexts where they are
        gathered = 0
    return working_bytes(spec, device.dtype.itemsize, tokens, requests, gathered, fixed)


def _stretched(config: EngineConfig, spec: DecoderSpec) -> Iterator[str]:
    """What it means to ask for requests longer than config.json says."""
    asked, made_for = config.max_model_len, spec.max_position_embeddings
    if asked is not None and asked > made_for and spec.rope:
        yield (
            f"max_model_len {asked} is beyond the {made_for} positions of config.json: its {spec.rope.kind} scaling, which "
            f"holds for requests of every length, stretches the model to {spec.longest_request}"
        )


def _margin(config: EngineConfig, device: Device, available: int) -> int:
    """Bytes of a GPU that stay free."""
    share = config.gpu_memory_utilization
    if device.device.type == "cuda":
        return available - int(available * (GPU_UTILIZATION if share is None else share))
    if share is not None:
        raise ConfigError(
            f"gpu_memory_utilization is for a GPU, and this engine runs on {device.device}: leave it out, or say how much "
            "memory keys and values may take with kv_memory_mib"
        )
    return 0


def _check_names(config: EngineConfig) -> None:
    _policy(config)
    make_order(config.order)
    if config.kv not in KV_MANAGERS:
        raise ConfigError(f"unknown K/V manager {config.kv!r}: choose {', '.join(KV_MANAGERS)}")


def _policy(config: EngineConfig) -> Policy:
    return make_policy(config.policy) if isinstance(config.policy, str) else config.policy


def _attention(asked: str, device: Device, head_dim: int) -> str:
    if asked == "auto":
        return "cpu" if device.device.type == "cpu" else "triton" if kernels.available() else "reference"
    if asked not in ATTENTION:
        raise ConfigError(f"unknown attention backend {asked!r}: choose auto, {', '.join(ATTENTION)}")
    check_backend(asked, device.device, device.dtype, head_dim)
    return asked


def _remedies(plan: Plan) -> Iterator[tuple[str, Any]]:
    def tried(name: str, value: Any) -> bool | None:
        """Whether it fits; None if the value contradicts other options, or cannot be had on this device."""
        try:
            return plan.of(replace(plan.config, **{name: value})).fits
        except ConfigError:
            return None

    lengths = {"max_model_len": plan.model.checkpoint.spec.max_position_embeddings}
    for name in SIZES:
        asked = getattr(plan.config, name) or lengths.get(name)
        if asked is not None:
            best = largest(lambda value, name=name: tried(name, value) is not False, 1, asked - 1)  # type: ignore[misc]
            if best is not None and tried(name, _round(best)):
                yield name, _round(best)
    usual = EngineConfig()
    for name, value in (("block_size", usual.block_size), ("dtype", "bfloat16")):
        if getattr(plan.config, name) != value and tried(name, value):
            yield name, value
    share = _enough(plan.memory)
    if plan.memory.margin and share <= MOST_UTILIZATION and tried("gpu_memory_utilization", share):
        yield "gpu_memory_utilization", share


def _round(number: int) -> int:
    """The number, rounded down to four significant binary digits."""
    digits = max(0, number.bit_length() - 4)
    return number >> digits << digits


def _enough(memory: MemoryBudget) -> float:
    """The gpu_memory_utilization that would do, in hundredths, rounded up."""
    return -(-100 * (memory.weights + memory.kv + memory.working) // max(1, memory.available)) / 100
