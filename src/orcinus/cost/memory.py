"""What fits into the memory of the devices of one replica: weights, activations, and keys and values with the rest."""

from __future__ import annotations

from dataclasses import dataclass

from orcinus.cost.architecture import BYTES, Architecture, Parallel
from orcinus.cost.devices import Device
from orcinus.errors import ConfigError

GIB = 2**30


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes on the fullest device of a replica (all stages hold equally many tokens)."""

    usable: int
    weights: int
    activations: int
    kv_token: int  # bytes of one token's keys and values

    @property
    def kv(self) -> int:
        """Bytes left for keys and values; negative if not even the rest fits."""
        return self.usable - self.weights - self.activations

    @property
    def kv_tokens(self) -> int:
        """Tokens whose keys and values fit (Orca's n_slots)."""
        return max(0, self.kv // self.kv_token)


def plan_memory(
    model: Architecture,
    device: Device,
    parallel: Parallel,
    max_batch_tokens: int,
    max_batch_size: int,
    utilization: float = 0.9,
) -> MemoryPlan:
    """How the memory of a device is divided. `utilization` is the share of it that may be used (vLLM's name and default).

    Activations are those of an iteration of `max_batch_tokens` tokens that samples for `max_batch_size` requests: two
    hidden states and a residual, the widest product, and logits in 32 bits. Raises `ConfigError` if the model does not fit.
    """
    if not 0 < utilization <= 1:
        raise ConfigError(f"gpu_memory_utilization must be above 0 and at most 1, not {utilization!r}")
    parallel.check(model)
    layers = max(parallel.layers(model))
    ends = model.embedding_weights if parallel.pp == 1 else model.vocab * model.hidden  # the first or the last stage has one
    weights = BYTES * (layers * model.layer_weights + ends) // parallel.tp
    wide = 3 * model.hidden + max(model.qkv_width, model.up_width) // parallel.tp
    activations = BYTES * max_batch_tokens * wide + 4 * max_batch_size * model.vocab // parallel.tp
    kv_token = layers * model.layer_kv_bytes(parallel.tp)
    plan = MemoryPlan(int(device.memory_bytes * utilization), weights, activations, kv_token)
    if plan.kv_tokens == 0:
        raise ConfigError(_does_not_fit(model, device, parallel, plan))
    return plan


def _does_not_fit(model: Architecture, device: Device, parallel: Parallel, plan: MemoryPlan) -> str:
    need, have = (plan.weights + plan.activations) / GIB, plan.usable / GIB
    return (
        f"{model.name} does not fit on {parallel.devices} x {device.name}: weights take {plan.weights / GIB:.1f} GiB and "
        f"activations {plan.activations / GIB:.1f} GiB of each, {need:.1f} GiB in all of {have:.1f} GiB usable: raise tp or pp"
    )
