"""The plan of an engine, from headers alone: format, limits, memory, remedies.

Engine construction, `orcinus info` and `orcinus plan` all use it, so a lack of memory is reported before a weight is read or
downloaded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from orcinus.config import QUANTIZATIONS, EngineConfig, Resolved, adapter_pairs
from orcinus.core.component_spec import make_drafter, make_order, make_policy
from orcinus.core.drafts import most_rows
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Policy
from orcinus.core.view import Limits
from orcinus.cost.devices import DeviceSpec
from orcinus.errors import ConfigError, plural
from orcinus.memory.budget import MIB, MemoryBudget, mib
from orcinus.memory.footprint import FIXED, working_bytes
from orcinus.memory.sizes import Profiled, Space, decide_for_ranks, largest, rounded_down
from orcinus.runtime.attention import WITH_KERNELS, choose_backend
from orcinus.runtime.attention import check as check_backend
from orcinus.runtime.checkpoint import Checkpoint, open_checkpoint, outline, used_tensors, with_quantized, with_weights
from orcinus.runtime.data_sheets import device_of, known_device, known_model
from orcinus.runtime.device import Device, check_threads, choose_device, device_kind
from orcinus.runtime.device_memory import memory_available, memory_total
from orcinus.runtime.hub import commit_of, find_config, find_headers, model_name
from orcinus.runtime.lora.adapter import Adapter, base_notes, named, open_adapters
from orcinus.runtime.models import DecoderSpec
from orcinus.runtime.models.rope import rope_notes
from orcinus.runtime.parallel.mesh import Mesh
from orcinus.runtime.parallel.rank_sizes import RankSizes
from orcinus.runtime.quantization import keeps_integers, planned_ranks, quantization_notes
from orcinus.runtime.switches import check_model_impl, check_switches, is_deterministic
from orcinus.runtime.transformers_backend import TransformersSpec
from orcinus.runtime.weight_files import has_weights
from orcinus.tiny import MODEL_DIR

GPU_UTILIZATION = 0.9  # share of the free memory; vLLM takes this share of all memory
MOST_UTILIZATION = 0.97  # the largest that is suggested: what torch does not allocate needs the rest
SIZES = ("num_blocks", "kv_memory_mib", "max_batch_tokens", "max_model_len", "max_batch_size")


@dataclass(frozen=True, slots=True)
class PlannedModel:
    """A model as its config and its weights' headers describe it."""

    checkpoint: Checkpoint
    num_parameters: int
    saved_bytes: int  # bytes of the weights in their files; 0 for random weights
    complete: bool  # whether all its files are here; else its weights are still to be downloaded
    adapters: tuple[Adapter, ...] = ()
    shape_only: bool = False  # whether it is a model of the simulator, which has no files


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine before it is built, with its memory budget."""

    config: EngineConfig
    model: PlannedModel
    device: Device
    resolved: Resolved
    ranks: tuple[RankSizes, ...]
    budgets: tuple[MemoryBudget, ...]  # one per rank's device; on a CPU one for all ranks, which share its memory
    profiled: Profiled | None = None
    sheet: DeviceSpec | None = None  # the device, if only its data sheet is known
    sharers: int = 1  # engines of this machine with equal shares of the available memory

    @property
    def mesh(self) -> Mesh:
        return Mesh(self.config.tp, self.config.pp)

    @property
    def ruling_rank(self) -> int:
        """The rank whose device has least room."""
        return min(range(len(self.budgets)), key=lambda rank: self.budgets[rank].left)

    @property
    def memory(self) -> MemoryBudget:
        """The budget of the device with least room, which rules `num_blocks`."""
        return self.budgets[self.ruling_rank]

    @property
    def fits(self) -> bool:
        return self.memory.fits

    @property
    def kv_token_bytes(self) -> int:
        """Bytes of one token's keys and values on the ruling rank."""
        return self.memory.kv // self.resolved.kv_tokens

    def rank_working(self, rank: RankSizes) -> int:
        """Estimated bytes of the largest iteration on a rank."""
        limits, attention = self.resolved.limits, self.resolved.attention
        tokens = min(limits.max_batch_tokens, limits.max_batch_size * limits.max_model_len, self.resolved.kv_tokens)
        rows = most_rows(make_drafter(self.config.speculative), limits.max_batch_size)
        return _rank_estimate(rank, self.device, attention, tokens, rows, limits.max_model_len)

    def sequences(self, length: int) -> int:
        """Requests of this total length that fit into the K/V memory."""
        return self.resolved.num_blocks // -(-length // self.resolved.block_size)

    def check(self, found: str = "the model does not fit") -> None:
        """Raise `ConfigError`, with remedies, if the plan does not fit."""
        if self.fits:
            return
        m = self.memory
        knobs = [f"{name}={value}" for name, value in self.remedies()]
        margin = f" ({m.margin // MIB} more stay free)" if m.margin else ""
        margin += f" to each of {self.sharers} engines" if self.sharers > 1 else ""
        margin += f" on the device of rank {self.ruling_rank}" if len(self.budgets) > 1 else ""
        raise ConfigError(
            f"{found}: {mib(m.weights)} MiB of weights, {mib(m.kv)} of K/V and {mib(m.working)} to work with, "
            f"where {(m.available - m.margin) // MIB} are available{margin}: {m.missing_mib} MiB are missing; "
            f"use {', or '.join([*knobs, 'a smaller model'])}"
        )

    def of(self, config: EngineConfig) -> Plan:
        """The plan of another config for the same model and free memory.

        Memory that this model has taken since must not count twice. Raises `ConfigError` as `make_plan` does.
        """
        _check_names(config)
        return self._again(config)

    def measured(self, working: int) -> Plan:
        """The plan for the same config, with its largest iteration measured.

        Keys and values get more or less memory. No iteration becomes larger than the measured one, unless a user asked for it.
        Raises `ConfigError`.
        """
        limits, spec = self.resolved.limits, self.ranks[self.ruling_rank].spec
        tokens = min(limits.max_batch_tokens, limits.max_batch_size * limits.max_model_len)
        estimate = partial(_estimate, spec, self.device, self.resolved.attention)
        estimated = estimate(tokens, limits.max_batch_size, limits.max_model_len)
        return replace(self, profiled=Profiled(working, estimated, tokens))._again(self.config)

    def _again(self, config: EngineConfig) -> Plan:
        plan = _decide(config, self.model, self.memory.total, self.memory.available, self.profiled, self.sheet)
        return replace(plan, sharers=self.sharers)

    def summary(self) -> str:
        """The sizes in one line."""
        m, resolved = self.memory, self.resolved
        work = "measured" if m.measured else "estimated"
        return (
            f"{m.available // MIB} of {m.total // MIB} MiB are free on {resolved.device}: {mib(m.weights)} for weights, "
            f"{mib(m.working)} to work with ({work}), {m.kv // MIB} for keys and values of {resolved.kv_tokens} tokens "
            f"({plural(self.sequences(resolved.limits.max_model_len), 'request')} of {resolved.limits.max_model_len}), "
            f"{m.margin // MIB} stay free"
        )

    def remedies(self) -> list[tuple[str, Any]]:
        """Options (name, value) that each make it fit alone; all tried."""
        return [] if self.fits else list(_remedies(self))


def make_plan(config: EngineConfig, *, known: bool = False, memory_sharers: int = 1) -> Plan:
    """The plan of a config, from headers alone.

    One thing more is read: a stored head that should be tied, to compare it with the embedding. `known` also takes the
    simulator's models and devices, which can be planned and not built. The engine's share of the free memory is that among
    `memory_sharers` engines about to start.

    Raises `ConfigError` or `ModelError` for errors that memory could not mend.
    """
    _check_names(config)  # checked first, because it needs no file
    shape = known_model(config.model) if known and config.model is not None else None
    if shape is None:
        model = _find(config)
    else:
        model = PlannedModel(shape, outline(shape.spec).num_parameters, 0, complete=False, shape_only=True)
    check_model_impl(config, model.checkpoint.spec, shape_only=shape is not None)
    model = replace(model, adapters=open_adapters(adapter_pairs(config.lora), model.checkpoint))
    if (sheet := known_device(config.device) if known else None) is not None:
        return _decide(config, model, sheet.memory_bytes, sheet.memory_bytes, None, sheet)
    check_threads(config.threads)
    device = choose_device(config.device, config.dtype, model.checkpoint.dtype).device
    available = memory_available(device) // memory_sharers
    return replace(_decide(config, model, memory_total(device), available, None), sharers=memory_sharers)


def _find(config: EngineConfig) -> PlannedModel:
    """The model that a config names, with its weights' headers."""
    asked = MODEL_DIR if config.model is None else config.model
    dummy = config.load_format == "dummy"
    folder, files = (find_config(asked, config.revision), {}) if dummy else find_headers(asked, config.revision)
    complete = dummy or has_weights(folder)
    keeps = keeps_integers(config.quantization, folder)
    checkpoint = with_quantized(
        open_checkpoint(folder, config.model_impl), files, device_kind(config.device), keeps=keeps, dummy=dummy
    )
    checkpoint = with_weights(checkpoint, files, readable=complete)
    shape = outline(checkpoint.spec, formats=checkpoint.formats)
    used = () if dummy else used_tensors(checkpoint, files)
    return PlannedModel(checkpoint, shape.num_parameters, checkpoint.saved_bytes(used, files), complete)


def _decide(
    config: EngineConfig,
    model: PlannedModel,
    total: int,
    available: int,
    profiled: Profiled | None,
    sheet: DeviceSpec | None = None,
) -> Plan:
    """The plan for `available` bytes. Raises `ConfigError` if options conflict."""
    spec, mesh = model.checkpoint.spec, Mesh(config.tp, config.pp)
    device = device_of(sheet, config.dtype) if sheet else choose_device(config.device, config.dtype, model.checkpoint.dtype)
    attention = _attention(config, device, spec, known=sheet is not None)
    ranks = planned_ranks(model.checkpoint, device, mesh, config, model.adapters)
    margin = _margin(config, device, available)
    groups = [ranks] if device.device.type == "cpu" else [(rank,) for rank in ranks]  # that share a memory
    spaces = [_space(config, model, device, attention, group, available - margin, profiled) for group in groups]
    shared = (sizes := decide_for_ranks(config, spaces))[0]
    budgets = tuple(
        MemoryBudget(
            total=total,
            available=available,
            margin=margin,
            weights=sum(rank.weights for rank in group),
            kv=shared.num_blocks * space.block_bytes,
            working=each.working,
            measured=profiled is not None,
        )
        for group, space, each in zip(groups, spaces, sizes, strict=True)
    )
    resolved = Resolved(
        folder=model.checkpoint.folder,
        revision=commit_of(model.checkpoint.folder),
        architecture=model.checkpoint.architecture,
        num_parameters=model.num_parameters,
        vocab_size=spec.vocab_size,
        device=sheet.name if sheet else str(device.device),
        dtype=device.dtype_name,
        dtype_reason=device.dtype_reason,
        quantization=config.rounds_to,
        adapters=named(model.adapters),
        kv_cache_dtype=device.dtype_name if config.kv_cache_dtype == "auto" else config.kv_cache_dtype,
        attention=attention,
        deterministic=is_deterministic(config, device, attention, spec),
        cuda_graphs=_captures(config, device, attention, spec),
        policy=_policy(config),
        order=config.order,
        kv=config.kv,
        limits=Limits(config.max_batch_size, shared.tokens, shared.model_len),
        tokens_reason=shared.tokens_reason,
        block_size=config.block_size,
        num_blocks=shared.num_blocks,
        kv_bytes=shared.num_blocks * config.block_size * sum(rank.kv_token_bytes for rank in ranks),
        kv_reason=shared.kv_reason,
        speculative=config.speculative,
        tp=mesh.tp,
        pp=mesh.pp,
        stages=tuple(rank.layers for rank in ranks[:: mesh.tp]),
        notes=_notes(config, model, shared.model_len),
    )
    return Plan(config, model, device, resolved, ranks, budgets, profiled, sheet)


def _notes(config: EngineConfig, model: PlannedModel, model_len: int) -> tuple[str, ...]:
    """What a user should know."""
    checkpoint = model.checkpoint
    ropes = rope_notes(checkpoint.spec, config.max_model_len, model_len, checkpoint.config_name)
    adapters = base_notes(model.adapters, model_name(config.model))
    return (*checkpoint.notes, *ropes, *quantization_notes(config.quantization, checkpoint), *adapters)


def _space(
    config: EngineConfig,
    model: PlannedModel,
    device: Device,
    attention: str,
    ranks: Sequence[RankSizes],
    available: int,
    profiled: Profiled | None,
) -> Space:
    """The room of ranks that share a memory of `available` bytes."""
    spec, rows = model.checkpoint.spec, most_rows(make_drafter(config.speculative), config.max_batch_size)
    return Space(
        free=available - sum(rank.weights for rank in ranks),
        block_bytes=config.block_size * sum(rank.kv_token_bytes for rank in ranks),
        estimate=lambda tokens, length: sum(_rank_estimate(rank, device, attention, tokens, rows, length) for rank in ranks),
        positions=spec.max_position_embeddings,
        longest=spec.longest_request,
        on_gpu=device.device.type == "cuda",
        profiled=profiled,
    )


def _captures(config: EngineConfig, device: Device, attention: str, spec: DecoderSpec) -> bool:
    """Whether CUDA graphs capture forward passes: not what is untried (sums over ranks, transformers' layers), nor experts,
    whose tokens the CPU counts.
    """
    fixed = config.tp == 1 and not spec.num_experts and not isinstance(spec, TransformersSpec)
    return device.device.type == "cuda" and attention in WITH_KERNELS and not config.enforce_eager and fixed


def _estimate(spec: DecoderSpec, device: Device, attention: str, tokens: int, requests: int, model_len: int) -> int:
    """Estimated bytes of an iteration; a GPU's margin has the fixed part."""
    fixed = 0 if device.device.type == "cuda" else FIXED
    gathered = model_len
    if attention == "flash":  # one copy of all chunks' contexts instead of two
        gathered = min(requests, tokens // 2) * model_len // 2
    elif attention in WITH_KERNELS:  # these read contexts in place
        gathered = 0
    return working_bytes(spec, device.dtype.itemsize, tokens, requests, gathered, fixed)


def _rank_estimate(rank: RankSizes, device: Device, attention: str, tokens: int, requests: int, model_len: int) -> int:
    """The same for a rank; on CPUs with the bytes of its process and of quantised products."""
    own = rank.own_bytes(device.dtype.itemsize, tokens) if device.device.type == "cpu" else 0
    return own + _estimate(rank.spec, device, attention, tokens, requests, model_len)


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
    make_drafter(config.speculative)
    if config.kv not in KV_MANAGERS:
        raise ConfigError(f"unknown K/V manager {config.kv!r}: choose {', '.join(KV_MANAGERS)}")


def _policy(config: EngineConfig) -> Policy:
    return make_policy(config.policy) if isinstance(config.policy, str) else config.policy


def _attention(config: EngineConfig, device: Device, spec: DecoderSpec, *, known: bool) -> str:
    """The attention backend. A known device has triton, whatever this machine has. Raises `ConfigError`."""
    auto = known and config.attention == "auto"
    attention = "triton" if auto else choose_backend(config.attention, device.device)
    if not known:
        check_backend(attention, device.device, device.dtype, spec.head_dim, spec.soft_cap)
    check_switches(config, device, attention, spec)
    return attention


def _remedies(plan: Plan) -> Iterator[tuple[str, Any]]:
    def tried(name: str, value: Any) -> bool | None:
        """Whether it fits; None if the value is impossible here."""
        try:
            return plan.of(replace(plan.config, **{name: value})).fits
        except ConfigError:
            return None

    lengths = {"max_model_len": plan.model.checkpoint.spec.max_position_embeddings}
    for name in SIZES:
        asked = getattr(plan.config, name) or lengths.get(name)
        if asked is not None:
            best = largest(lambda value, name=name: tried(name, value) is not False, 1, asked - 1)  # type: ignore[misc]
            if best is not None and tried(name, rounded_down(best)):
                yield name, rounded_down(best)
    quantization = next((name for name in QUANTIZATIONS if tried("quantization", name)), None)
    smaller = {
        "block_size": EngineConfig().block_size,
        "dtype": "bfloat16",
        "quantization": quantization,
        "kv_cache_dtype": "int8",
    }
    for name, value in smaller.items():
        if getattr(plan.config, name) != value and tried(name, value):
            yield name, value
    if plan.device.device.type == "cuda":
        larger = (tp for tp in (2, 4, 8) if tp > plan.config.tp and tried("tp", tp))
        yield from (("tp", tp) for tp in itertools.islice(larger, 1))
    memory = plan.memory
    share = -(-100 * (memory.weights + memory.kv + memory.working) // max(1, memory.available)) / 100  # up to hundredths
    if memory.margin and share <= MOST_UTILIZATION and tried("gpu_memory_utilization", share):
        yield "gpu_memory_utilization", share
