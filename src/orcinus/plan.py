"""What an engine will be, decided from headers alone: format, limits, memory, and what to change if it does not fit.

Building an engine, `orcinus info` and `orcinus plan` all ask here, so that what runs out of memory is told before a weight is
read, or downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from orcinus.config import EngineConfig, Resolved
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Policy
from orcinus.core.spelled import make_order, make_policy
from orcinus.core.view import Limits
from orcinus.errors import ConfigError
from orcinus.runtime import kernels
from orcinus.runtime.attention import ATTENTION, WITH_KERNELS
from orcinus.runtime.bandwidth import product_bandwidth, read_bandwidth
from orcinus.runtime.checkpoint import Checkpoint, match, open_checkpoint, outline
from orcinus.runtime.device import Device, choose_device
from orcinus.runtime.footprint import decode_kv_bytes, decode_weight_bytes, kv_token_bytes, weight_bytes, working_bytes
from orcinus.runtime.hub import find_headers
from orcinus.runtime.memory import memory_available
from orcinus.runtime.packed import can_pack
from orcinus.tiny import MODEL_DIR

MIB = 2**20
SHARE = 0.5  # of the memory beside the weights, for keys and values that nobody asked for
SIZES = ("num_blocks", "kv_memory_mib", "max_batch_tokens", "max_model_len", "max_batch_size")


@dataclass(frozen=True, slots=True)
class Model:
    """A model as its config and the headers of its weights describe it."""

    checkpoint: Checkpoint
    num_parameters: int
    saved_bytes: int  # of the weights in their files


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes: what there is before anything is loaded, and what will be taken."""

    available: int
    weights: int
    kv: int
    working: int  # an estimate of the largest iteration

    @property
    def left(self) -> int:
        """Bytes that nobody needs; below 0 if it does not fit."""
        return self.available - self.weights - self.kv - self.working


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine that could be built, or could not for want of memory."""

    config: EngineConfig
    model: Model
    device: Device
    resolved: Resolved
    memory: Memory

    @property
    def fits(self) -> bool:
        return self.memory.left >= 0

    @property
    def missing_mib(self) -> int:
        """MiB that are short, rounded up; 0 if it fits."""
        return max(0, -(self.memory.left // MIB))

    @property
    def kv_token_bytes(self) -> int:
        return kv_token_bytes(self.model.checkpoint.spec, self.device.dtype)

    def sequences(self, length: int) -> int:
        """How many requests of so many tokens, prompt and answer, the K/V memory holds at once."""
        return self.resolved.num_blocks // -(-length // self.resolved.block_size)

    def check(self) -> None:
        """Raises `ConfigError` if it does not fit, saying what is short and what would help."""
        if self.fits:
            return
        m = self.memory
        knobs = [f"{name}={value}" for name, value in self.remedies()]
        raise ConfigError(
            f"the model does not fit: {mib(m.weights)} MiB of weights, {mib(m.kv)} of K/V and {mib(m.working)} to work with, "
            f"where {m.available // MIB} are available: {self.missing_mib} MiB are missing; "
            f"use {', or '.join([*knobs, 'a smaller model'])}"
        )

    def of(self, config: EngineConfig) -> Plan:
        """The plan of another config for the same model, with the memory that there was when this one was made.

        What this model has taken since must not count twice. Raises `ConfigError` as `make_plan` does.
        """
        _check_names(config)
        return _decide(config, self.model, self.memory.available)

    def remedies(self) -> list[tuple[str, Any]]:
        """Options of which each, changed alone to this value, makes it fit: tried, not guessed."""
        return [] if self.fits else list(_remedies(self))


def make_plan(config: EngineConfig) -> Plan:
    """Decide everything without reading a weight. Raises `ConfigError` or `ModelError` for what memory could not mend."""
    _check_names(config)  # first of all, because nothing has to be read for it
    folder, headers = find_headers(MODEL_DIR if config.model is None else config.model)
    checkpoint = open_checkpoint(folder)
    shape = outline(checkpoint.spec)
    places = match(checkpoint, shape, headers)
    model = Model(
        checkpoint,
        sum(parameter.numel() for parameter in shape.parameters()),
        sum(headers[name].num_bytes for name in places),
    )
    device = choose_device(config.device, config.dtype, checkpoint.dtype)
    return _decide(config, model, memory_available(device.device))


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast decoding can be, if reading weights, keys and values were all of it."""

    requests: int
    weights_bytes_per_s: float  # measured: read by a product with so many rows
    iterations_per_s: float

    @property
    def tokens_per_s(self) -> float:
        return self.requests * self.iterations_per_s


@dataclass(frozen=True, slots=True)
class Speeds:
    """What this machine, as busy as it is, can hardly exceed: nothing is counted but reading memory."""

    context: int  # tokens behind every decode: half of the longest request
    kv_bytes_per_s: float  # measured
    decode: tuple[Speed, ...]  # of one request, and of as many as there may be


def measure(plan: Plan) -> Speeds:
    """Measure for a second or two how fast memory is read, and what follows for decoding with the planned engine.

    An iteration of decodes reads the weights once for all requests, and the keys and values of each.
    """
    spec, dtype, device = plan.model.checkpoint.spec, plan.device.dtype, plan.device.device
    limits = plan.resolved.limits
    context = -(-limits.max_model_len // 2)
    weights = decode_weight_bytes(spec, dtype, plan.model.num_parameters)
    kv = decode_kv_bytes(spec, dtype, context)
    most = min(limits.max_batch_size, plan.sequences(context))
    kv_rate = read_bandwidth(device, weights + most * kv)
    speeds = []
    for requests in sorted({1, most}):
        rate = product_bandwidth(device, dtype, weights, spec.hidden_size, requests)
        speeds.append(Speed(requests, rate, 1 / (weights / rate + requests * kv / kv_rate)))
    return Speeds(context, kv_rate, tuple(speeds))


def mib(num_bytes: int) -> int:
    """MiB, rounded up."""
    return -(-num_bytes // MIB)


def _decide(config: EngineConfig, model: Model, available: int) -> Plan:
    """The plan for so many bytes of memory. Raises `ConfigError` if options contradict the model or each other."""
    spec = model.checkpoint.spec
    device = choose_device(config.device, config.dtype, model.checkpoint.dtype)
    attention = _attention(config.attention, device)
    if config.enforce_eager and device.device.type == "cpu":
        raise ConfigError("enforce_eager is for GPUs, where it turns CUDA graphs off: leave it out on a CPU")
    packed = can_pack(device.device.type, device.dtype)
    weights = weight_bytes(spec, device.dtype, model.num_parameters, packed=packed)
    asked_len = config.max_model_len
    if asked_len is not None and asked_len > spec.max_position_embeddings:
        raise ConfigError(
            f"max_model_len {asked_len} is more than the {spec.max_position_embeddings} positions of this model: lower it"
        )
    model_len = asked_len or spec.max_position_embeddings

    def working(num_tokens: int) -> int:
        return working_bytes(spec, device.dtype, num_tokens, config.max_batch_size, model_len)

    block_bytes = config.block_size * kv_token_bytes(spec, device.dtype)
    first = max(config.max_batch_size, min(config.max_batch_tokens or 0, config.max_batch_size * model_len))
    num_blocks, reason = _num_blocks(config, model_len, block_bytes, available - weights - working(first))
    room = num_blocks * config.block_size
    if room < model_len:
        if asked_len is not None:
            raise ConfigError(
                f"the K/V pool holds {room} tokens, not even one request of max_model_len {asked_len}"
                ": lower max_model_len or give the pool more memory"
            )
        model_len = room
        reason += f"; the model length is lowered to it from {spec.max_position_embeddings}"
    fullest = min(config.max_batch_size * model_len, room)  # every token of an iteration needs its place in the K/V memory
    most = config.max_batch_tokens or config.max_batch_size * model_len
    free = available - weights - num_blocks * block_bytes
    if config.max_batch_tokens is None and working(fullest) > free:
        least = min(fullest, config.max_batch_size)  # a token for everyone
        most = _largest(lambda tokens: working(tokens) <= free, least, fullest) or least
    resolved = Resolved(
        folder=model.checkpoint.folder,
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
        limits=Limits(config.max_batch_size, most, model_len),
        block_size=config.block_size,
        num_blocks=num_blocks,
        kv_bytes=num_blocks * block_bytes,
        kv_reason=reason,
    )
    memory = Memory(available=available, weights=weights, kv=resolved.kv_bytes, working=working(min(most, fullest)))
    return Plan(config, model, device, resolved, memory)


def _check_names(config: EngineConfig) -> None:
    _policy(config)
    make_order(config.order)
    if config.kv not in KV_MANAGERS:
        raise ConfigError(f"unknown K/V manager {config.kv!r}: choose {', '.join(KV_MANAGERS)}")


def _policy(config: EngineConfig) -> Policy:
    return make_policy(config.policy) if isinstance(config.policy, str) else config.policy


def _attention(asked: str, device: Device) -> str:
    if asked == "auto":
        return "cpu" if device.device.type == "cpu" else "triton" if kernels.available() else "reference"
    if asked not in ATTENTION:
        raise ConfigError(f"unknown attention backend {asked!r}: choose auto, {', '.join(ATTENTION)}")
    if asked == "cpu" and device.device.type != "cpu":
        raise ConfigError("attention backend 'cpu' needs device cpu: choose auto")
    if asked in WITH_KERNELS:
        if not kernels.available():
            raise ConfigError(f"attention backend {asked!r} needs triton, which is not installed: install it, or choose auto")
        if device.device.type == "cpu" and not kernels.interpreted():
            raise ConfigError(
                f"attention backend {asked!r} needs device cuda, or TRITON_INTERPRET=1, slow and for tests: choose auto"
            )
    return asked


def _num_blocks(config: EngineConfig, model_len: int, block_bytes: int, free: int) -> tuple[int, str]:
    """How many K/V blocks, and why. Without memory for them it is as many as are needed at least."""
    if config.num_blocks is not None:
        return config.num_blocks, "num_blocks was asked for"
    if config.kv_memory_mib is not None:
        if config.kv_memory_mib * MIB < block_bytes:
            raise ConfigError(f"kv_memory_mib {config.kv_memory_mib} is too little: one block takes {mib(block_bytes)} MiB")
        return config.kv_memory_mib * MIB // block_bytes, "kv_memory_mib was asked for"
    per_request = -(-model_len // config.block_size)
    wanted, least = config.max_batch_size * per_request, per_request if config.max_model_len else 1
    room = max(0, int(free * SHARE) // block_bytes)
    if wanted <= room:
        return wanted, f"room for {config.max_batch_size} requests of {model_len} tokens"
    if room < least:
        return least, "the least there can be: " + ("one request of max_model_len" if config.max_model_len else "one block")
    full = f"a full batch would need {mib(wanted * block_bytes)} MiB"
    return room, f"half of the {free // MIB} MiB beside the weights ({full})"


def _remedies(plan: Plan) -> Iterator[tuple[str, Any]]:
    def tried(name: str, value: Any) -> bool | None:
        """Whether it fits; None if the value contradicts other options, or cannot be had on this device."""
        try:
            return _decide(replace(plan.config, **{name: value}), plan.model, plan.memory.available).fits
        except ConfigError:
            return None

    for name in SIZES:
        asked = getattr(plan.config, name)
        if asked is not None:
            best = _largest(lambda value, name=name: tried(name, value) is not False, 1, asked - 1)  # type: ignore[misc]
            if best is not None and tried(name, _round(best)):
                yield name, _round(best)
    usual = EngineConfig()
    for name, value in (("block_size", usual.block_size), ("dtype", "bfloat16")):
        if getattr(plan.config, name) != value and tried(name, value):
            yield name, value


def _round(number: int) -> int:
    """The number, less what its binary digits after the first four are worth."""
    digits = max(0, number.bit_length() - 4)
    return number >> digits << digits


def _largest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest number of `low` to `high` for which something holds that holds up to some number; None if for none."""
    if low > high or not holds(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
