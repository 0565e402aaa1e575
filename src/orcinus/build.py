"""The composition root: a config in, a wired engine out.

Only this module knows every concrete class.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from orcinus.cache import lend
from orcinus.clock import MonotonicClock
from orcinus.config import EngineConfig, Resolved
from orcinus.core.component_spec import make_drafter, make_order, spell
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.ports import Clock, Executor, Observer, Preparation
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.distribution import needs
from orcinus.observe.dropped_observers import warn_of_dropped
from orcinus.observe.recorder import StepRecorder
from orcinus.plan import Plan, make_plan
from orcinus.runtime.attention import ATTENTION, WITH_KERNELS, operators_of
from orcinus.runtime.batch_invariant import make_batch_invariant
from orcinus.runtime.checkpoint import Checkpoint, load_model
from orcinus.runtime.device_memory import told_if_short
from orcinus.runtime.executor import Chooser
from orcinus.runtime.hub import find_model
from orcinus.runtime.lora.adapt import adapt
from orcinus.runtime.models import Decoder
from orcinus.runtime.parallel.mesh import Mesh, RankProcess
from orcinus.runtime.profile_run import CudaMeter, profile
from orcinus.runtime.ready_executor import allocate_kv, ready_executor
from orcinus.runtime.sampling import choose
from orcinus.runtime.transfers import Link
from orcinus.text.generation_config import default_params, end_of_text_ids
from orcinus.text.grammars import Grammars, vocabulary_of
from orcinus.text.tokenizer import Tokenizer, load_tokenizer
from orcinus.threads import claim_process, engine_threads, limit_spinning
from orcinus.tiny import MODEL_DIR

if TYPE_CHECKING:
    from orcinus.runtime.parallel.executor import ParallelExecutor
    from orcinus.runtime.parallel.launch import Launcher

log = logging.getLogger(__name__)
# A stage ("weights", "profile run" on a GPU, "warm-up"), its bytes done, and its bytes in all.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """A progress callback that shows nothing."""


@dataclass(frozen=True, slots=True)
class Built:
    """A wired engine and what belongs to its model."""

    engine: Engine
    tokenizer: Tokenizer | None
    eos_ids: frozenset[int]
    default_params: SamplingParams
    resolved: Resolved
    plan: Plan
    preparation: Preparation  # of requests with structured output
    grammars: Grammars
    ranks: tuple[RankProcess, ...]  # of a model on several ranks; () on one device
    check: Callable[[], None]  # raises `EngineError` if the engine cannot go on; for idle engines, which run no iteration

    def another(self, config: EngineConfig, observers: Sequence[Observer] = ()) -> Engine:
        """An empty engine over the same weights and K/V tensors.

        For comparisons: only one of a model's engines may have requests at a time. Raises `ConfigError`.
        """
        plan = self.plan.of(replace(config, num_blocks=self.resolved.num_blocks, kv_memory_mib=None))
        plan.check()
        return _wire(plan.resolved, self.engine.executor, self.engine.clock, observers, self.preparation)


def resolve(config: EngineConfig) -> Resolved:
    """Decide everything without reading a weight.

    Raises `ConfigError` or `ModelError` if the engine cannot be built.
    """
    plan = make_plan(config)
    plan.check()
    return plan.resolved


def build(
    config: EngineConfig,
    observers: Sequence[Observer] = (),
    clock: Clock | None = None,
    progress: Progress = silent,
    memory_sharers: int = 1,
) -> Built:
    """Load the model and wire the engine.

    It plans with its share of the machine's free memory among `memory_sharers` engines. Raises `ConfigError` or `ModelError`,
    and `EngineError` after a fork.
    """
    claim_process()
    torch.set_num_threads(engine_threads(config.threads, torch.get_num_threads()))
    limit_spinning()
    plan, folder = _planned(config, memory_sharers)
    spec = plan.model.checkpoint.spec.for_length(plan.resolved.limits.max_model_len)
    checkpoint = replace(plan.model.checkpoint, folder=folder, spec=spec)
    recorders = [StepRecorder(config.record)] if config.record is not None else []  # fails now if unwritable
    tokenizer, params = load_tokenizer(folder), default_params(folder)
    eos_ids = tokenizer.eos_ids if tokenizer else end_of_text_ids(folder)
    eos_ids = frozenset(token for token in eos_ids if token < spec.vocab_size)  # a config may name ids beyond the vocabulary
    grammars = Grammars(partial(vocabulary_of, tokenizer, eos_ids, spec.vocab_size), for_engine=True)
    executor: Executor
    processes: tuple[RankProcess, ...]
    preparation: Preparation = grammars
    if plan.mesh.size > 1:
        executor = ranks = _ranks(plan.resolved, checkpoint, config, progress)
        preparation = ranks.preparation(grammars)
        check, processes = ranks.check, ranks.processes(plan.resolved.stages)
    else:
        executor, plan = _this_process(plan, checkpoint, progress, grammars)
        check, processes = _cannot_fail, ()
    resolved = replace(plan.resolved, folder=folder)
    for recorder in recorders:
        recorder.describe(_header(resolved, executor))
    engine = _wire(resolved, executor, clock or MonotonicClock(), [*observers, *recorders], preparation)
    return Built(engine, tokenizer, eos_ids, params, resolved, plan, preparation, grammars, processes, check)


def _planned(config: EngineConfig, memory_sharers: int) -> tuple[Plan, Path]:
    """Plan the model; return the plan and the folder of its files.

    Weights are downloaded only if the model fits.
    """
    plan = make_plan(config, memory_sharers=memory_sharers)
    plan.check()
    dummy = config.load_format == "dummy"
    folder, commit = MODEL_DIR, plan.resolved.revision
    if config.model is not None:  # weights are downloaded only now
        folder = find_model(config.model, config.revision, commit=commit, weights=not dummy)
    if not plan.model.complete:  # checked again with the weights, because headers alone left something open
        plan = make_plan(replace(config, model=folder, revision=None), memory_sharers=memory_sharers)
        plan.check()
    for note in plan.resolved.notes:
        log.warning(note)
    return plan, folder


def _cannot_fail() -> None:
    """The check of a device in this process: it needs none.

    Such a device can fail only in an iteration.
    """


def _ranks(resolved: Resolved, checkpoint: Checkpoint, config: EngineConfig, progress: Progress) -> ParallelExecutor:
    """The executor of a model on several ranks, each its own process.

    Raises `ConfigError`.
    """
    with needs("a model on several ranks (tp, pp)", "serve"):
        from orcinus.runtime.parallel.start import start_ranks  # which needs ZeroMQ
    mesh, dummy = Mesh(resolved.tp, resolved.pp), config.load_format == "dummy"
    launcher = _launcher(config, mesh, resolved.device.partition(":")[0])
    return start_ranks(
        resolved, checkpoint, mesh, launcher,
        dummy=dummy, merge_lora=config.merge_lora, step_timeout=config.step_timeout, progress=progress,
    )  # fmt: skip


def _launcher(config: EngineConfig, mesh: Mesh, kind: str) -> Launcher:
    if config.launcher == "local":
        from orcinus.runtime.parallel.start_local import LocalLauncher  # which needs ZeroMQ

        return LocalLauncher(threads=config.threads)
    with needs("launcher ray", "cluster"):
        from orcinus.runtime.parallel.start_ray import RayLauncher
    return RayLauncher(config.ray_address, mesh, kind, config.threads)


def _this_process(plan: Plan, checkpoint: Checkpoint, progress: Progress, grammars: Grammars) -> tuple[Executor, Plan]:
    """The executor of a model on one device, and its measured plan."""
    dummy = plan.config.load_format == "dummy"
    exact, name = plan.resolved.deterministic, plan.resolved.attention
    attend, operators = ATTENTION[name](), operators_of(name)
    complete = adapt(plan.model.adapters, checkpoint.spec, plan.device.dtype, name, merged=plan.config.merge_lora)
    with told_if_short("weights"):
        model = load_model(
            checkpoint, plan.device, attend, operators, partial(progress, "weights"),
            dummy=dummy, quantization=plan.resolved.quantization, complete=complete,
        )  # fmt: skip
    if exact:
        make_batch_invariant(model, plan.device.dtype)
    if plan.device.device.type == "cuda":
        lend("TRITON_CACHE_DIR")
        progress("profile run", 0, 0)
        _tune(plan)
        plan = _measure(plan, model)
    resolved = plan.resolved
    kv = allocate_kv(model, plan.device, resolved.num_blocks, resolved.block_size, resolved.kv_cache_dtype)
    progress("warm-up", 0, 0)
    link, graphs = Link(plan.device.device), resolved.cuda_graphs
    executor = ready_executor(model, kv, link, resolved.attention, resolved.limits, cuda_graphs=graphs)
    executor.grammars = grammars
    return executor, plan


def _tune(plan: Plan) -> None:
    """Tune attention's launch configs on this device, once.

    It runs before keys and values take the memory.
    """
    if plan.resolved.attention in WITH_KERNELS:
        from orcinus.runtime.gpu.executor import tune_attention  # needs triton

        with told_if_short("the tuning of attention"):
            tune_attention(plan.model.checkpoint.spec, plan.device.dtype, Link(plan.device.device))


def _measure(plan: Plan, model: Decoder) -> Plan:
    """The plan with its largest iteration's measured memory.

    Raises `ConfigError` if that does not fit.
    """
    log.info("planned: %s", plan.summary())
    working = None
    while working is None:
        working, found = _working_bytes(plan, model), "the model does not fit"
        if working is None:  # the iteration needs more than the memory beside the weights
            found = f"an iteration of {plan.resolved.limits.max_batch_tokens} tokens runs out of memory"
            log.info(found)
        memory = plan.memory
        plan = plan.measured(memory.available - memory.weights if working is None else working)
        plan.check(found)
    log.info("measured: %s", plan.summary())
    return plan


def _working_bytes(plan: Plan, model: Decoder) -> int | None:
    """Bytes of the largest iteration, measured on the GPU.

    None if it runs out of memory.
    """
    link, dtype, resolved = Link(plan.device.device), plan.device.dtype, plan.resolved
    meter = CudaMeter(link.device)
    try:
        with link.on():
            return profile(model, dtype, link.device, resolved.block_size, resolved.limits, _chooser(plan, link), meter)
    except torch.OutOfMemoryError:
        return None


def _chooser(plan: Plan, link: Link) -> Chooser:
    if plan.resolved.attention not in WITH_KERNELS:
        return choose
    from orcinus.runtime.gpu.choose import KernelChooser  # needs triton

    return KernelChooser(link)


def _wire(
    resolved: Resolved, executor: Executor, clock: Clock, observers: Sequence[Observer], preparation: Preparation
) -> Engine:
    """An engine that has no requests yet."""
    manager = KV_MANAGERS[resolved.kv](resolved.num_blocks, resolved.block_size, resolved.limits)
    order, drafter = make_order(resolved.order), make_drafter(resolved.speculative)
    scheduler = Scheduler(resolved.policy, manager, resolved.limits, order, drafter)
    return Engine(scheduler, executor, clock, observers, on_dropped=warn_of_dropped, preparation=preparation)


def _header(resolved: Resolved, executor: Executor) -> dict[str, object]:
    """The record's header: what a replay needs to build the engine."""
    return {
        "revision": resolved.revision,
        "policy": spell(resolved.policy),
        "order": resolved.order,
        "kv": resolved.kv,
        "limits": asdict(resolved.limits),
        "num_blocks": resolved.num_blocks,
        "block_size": resolved.block_size,
        "depth": executor.depth,
        "overlap": list(executor.overlap),
        "speculative": resolved.speculative,
    }
