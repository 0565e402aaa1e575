"""The machine of a simulated replica: computed from data sheets, or calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orcinus.core.view import Limits
from orcinus.cost.architecture import Parallel, find_architecture
from orcinus.cost.calibration import Calibration, read_calibration
from orcinus.cost.cluster import find_cluster
from orcinus.cost.curve import find_linears
from orcinus.cost.provenance import OperatorProvenance, provenance_of
from orcinus.cost.transformer import TransformerCost
from orcinus.cost.work import CostModel
from orcinus.errors import ConfigError
from orcinus.memory.simulated import plan_memory
from orcinus.sim.config import SimulationConfig
from orcinus.sim.jitter import Jitter, lognormal_factors

NOT_BESIDE_A_CALIBRATION = ("model", "tp", "pp", "network", "software", "gpu_memory_utilization", "in_flight")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMachine:
    """Costs, limits and memory of one simulated replica."""

    model: str
    device: str
    devices: int  # of a replica
    layout: str  # parallelism or number format, in words
    software: str  # the costs' source, in words
    cost: CostModel
    limits: Limits
    block_size: int  # tokens
    num_blocks: int
    origins: tuple[OperatorProvenance, ...]  # of the costs
    weights: int | None = None  # bytes per device, if known
    doubts: tuple[str, ...] = ()  # why its costs must not be believed
    factors: tuple[
        float, ...
    ] = ()  # actual over predicted seconds of consecutive iterations: measured, or the software's jitter

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values one replica holds (Orca's n_slots)."""
        return self.num_blocks * self.block_size

    def jitter(self, seed: str) -> Jitter | None:
        """How its iterations differ from their predicted times; None if that is unknown."""
        return Jitter(self.factors, seed) if self.factors else None


def find_machine(config: SimulationConfig) -> SimulatedMachine:
    """The machine that a config names. Raises `ConfigError`."""
    if config.measured:
        return _measured(config, read_calibration(Path(config.device)))
    return _computed(config)


def _computed(config: SimulationConfig) -> SimulatedMachine:
    """A model on devices of a data sheet."""
    model = find_architecture(config.model)
    cluster = find_cluster(config.device, config.network, config.software, Parallel(config.tp, config.pp))
    longest, batch, block_size = (
        config.max_model_len or model.max_model_len,
        config.max_batch_size or 128,
        config.block_size or 16,
    )
    limits = Limits(batch, config.max_batch_tokens or batch * longest, longest)
    at_once = config.max_batch_tokens or longest  # tokens whose activations are in memory at once
    memory = plan_memory(
        model,
        cluster.device,
        cluster.parallel,
        at_once,
        batch,
        utilization=config.gpu_memory_utilization,
        block_size=block_size,
        num_blocks=config.num_blocks,
    )
    linears = find_linears(config.software, model.name, cluster.device.name, config.tp)
    return SimulatedMachine(
        model=model.name,
        device=cluster.device.name,
        devices=cluster.parallel.devices,
        layout=f"tp {config.tp}, pp {config.pp}",
        software=f"{config.software} software",
        cost=TransformerCost(model, cluster, linears),
        limits=limits,
        block_size=block_size,
        num_blocks=memory.num_blocks,
        origins=provenance_of(cluster, config.software, curve=linears is not None),
        weights=memory.budget.weights,
        factors=lognormal_factors(cluster.software.jitter),
    )


def _measured(config: SimulationConfig, measured: Calibration) -> SimulatedMachine:
    """A calibrated engine, with limits no higher than the measured ones."""
    for name in NOT_BESIDE_A_CALIBRATION:
        if getattr(config, name) != type(config).__dataclass_fields__[name].default:
            flag = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{config.device} says what it was measured on: leave out {flag}, or give the name of a device")
    known, cost = measured.limits, measured.cost
    limits = Limits(
        _at_most(config, "max_batch_size", known.max_batch_size),
        _at_most(config, "max_batch_tokens", known.max_batch_tokens),
        _at_most(config, "max_model_len", known.max_model_len),
        known.lookahead,
    )
    return SimulatedMachine(
        model=measured.model,
        device=measured.machine,
        devices=1,
        layout=measured.dtype,
        software=f"fitted on {cost.iterations} iterations (error {cost.error.median:.0%} median, {cost.error.p90:.0%} P90)",
        cost=cost,
        limits=limits,
        block_size=config.block_size or measured.block_size,
        num_blocks=config.num_blocks or measured.num_blocks,
        origins=(OperatorProvenance("all operators", "fitted", f"on {cost.iterations} iterations of {measured.machine}"),),
        doubts=measured.doubts,
        factors=cost.factors,
    )


def _at_most(config: SimulationConfig, name: str, known: int) -> int:
    """The limit asked for. Raises `ConfigError` if it exceeds the measured one."""
    asked: int = getattr(config, name) or known
    if asked > known:
        raise ConfigError(
            f"{config.device} was measured with a {name} of {known}, which says nothing about {asked}: "
            f"calibrate with --{name.replace('_', '-')} {asked}"
        )
    return asked
