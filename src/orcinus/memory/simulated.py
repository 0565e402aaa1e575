"""The memory budget of a simulated replica's devices."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orcinus.cost.architecture import BYTES, Architecture, Parallel
from orcinus.cost.devices import DeviceSpec
from orcinus.errors import ConfigError
from orcinus.memory.budget import MemoryBudget

GIB = 2**30


@dataclass(frozen=True, slots=True)
class SimulatedMemory:
    """Memory of a replica's fullest device.

    All stages hold equally many tokens.
    """

    budget: MemoryBudget  # `kv` is what its blocks take
    kv_token: int  # bytes of one token's keys and values
    num_blocks: int


def plan_memory(
    model: Architecture,
    device: DeviceSpec,
    parallel: Parallel,
    max_batch_tokens: int,
    max_batch_size: int,
    *,
    utilization: float = 0.9,
    block_size: int = 1,
    num_blocks: int | None = None,
) -> SimulatedMemory:
    """The memory plan of a simulated device.

    `utilization` is the share of it that may be used (vLLM's name and default).

    Activations are those of an iteration of `max_batch_tokens` tokens that samples for `max_batch_size` requests: two
    hidden states and a residual, the widest product, and logits in 32 bits. Blocks are as many as there is room for;
    `num_blocks`, if it is given, may take the place of activations and margin, too. Raises `ConfigError` if it does not fit.
    """
    if not 0 < utilization <= 1:
        raise ConfigError(f"gpu_memory_utilization must be above 0 and at most 1, not {utilization!r}")
    parallel.check(model)
    layers = max(parallel.layers(model))
    ends = model.embedding_weights if parallel.pp == 1 else model.vocab * model.hidden  # the first or the last stage has one
    wide = 3 * model.hidden + max(model.qkv_width, model.up_width) // parallel.tp
    kv_token = layers * model.layer_kv_bytes(parallel.tp)
    budget = MemoryBudget(
        total=device.memory_bytes,
        available=device.memory_bytes,
        margin=device.memory_bytes - int(device.memory_bytes * utilization),
        weights=BYTES * (layers * model.layer_weights + ends) // parallel.tp,
        working=BYTES * max_batch_tokens * wide + 4 * max_batch_size * model.vocab // parallel.tp,
        kv=kv_token,  # one token at least
    )
    if not budget.fits:
        raise ConfigError(_does_not_fit(model, device, parallel, budget))
    block = block_size * kv_token
    if num_blocks is None:
        one = replace(budget, kv=block)
        if not one.fits:
            raise ConfigError(f"not one K/V block of {block_size} tokens fits: lower block_size or raise tp or pp")
        num_blocks = 1 + one.left // block
        return SimulatedMemory(replace(budget, kv=num_blocks * block), kv_token, num_blocks)
    asked = replace(budget, margin=0, working=0, kv=num_blocks * block)
    if not asked.fits:
        most = replace(asked, kv=0).left // block
        raise ConfigError(f"num_blocks={num_blocks} does not fit beside the weights on {device.name}: at most {most}")
    return SimulatedMemory(asked, kv_token, num_blocks)


def _does_not_fit(model: Architecture, device: DeviceSpec, parallel: Parallel, budget: MemoryBudget) -> str:
    need, have = (budget.weights + budget.working) / GIB, (budget.available - budget.margin) / GIB
    return (
        f"{model.name} does not fit on {parallel.devices} x {device.name}: weights take {budget.weights / GIB:.1f} GiB and "
        f"activations {budget.working / GIB:.1f} GiB of each, {need:.1f} GiB in all of {have:.1f} GiB usable: raise tp or pp"
    )
