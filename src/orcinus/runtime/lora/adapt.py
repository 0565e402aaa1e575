"""Adapters' weights, read into a model while it is loaded: beside its own, or merged into them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orcinus.errors import ModelError
from orcinus.runtime.lora.adapter import Adapter, Pair
from orcinus.runtime.lora.kernel_updates import KernelUpdates, Tasks, compile_kernel
from orcinus.runtime.lora.product import LowRank, PlainUpdates
from orcinus.runtime.models import DecoderSpec, Linear
from orcinus.runtime.weight_files import map_tensors

MERGED_AT_ONCE = 2**20  # numbers of a product in float32, so that a large layer needs no second copy


Complete = Callable[[str, Linear], None]  # takes a linear layer, by its name, whose weights are as they were saved


def adapt(adapters: Sequence[Adapter], spec: DecoderSpec, dtype: torch.dtype, attention: str, *, merged: bool) -> Complete:
    """What gives each complete linear layer the updates of these adapters, or merges them into its weight.

    With the attention backend of CPUs the updates are a kernel's. It raises `ModelError` if an adapter's file cannot be read or
    holds numbers that are not finite.
    """
    names = [adapter.name for adapter in adapters]
    tasks, kernel = Tasks(names), attention == "cpu" and bool(adapters) and not merged
    if kernel:
        compile_kernel(dtype)

    def complete(name: str, linear: Linear) -> None:
        found = {
            adapter.name: [_read(adapter, pair, spec) for pair in adapter.pairs[name]]
            for adapter in adapters
            if name in adapter.pairs
        }
        if merged:
            for pairs in found.values():
                _merge(linear, pairs)
        elif found:
            updates = {adapter: _updates(linear, pairs, dtype) for adapter, pairs in found.items()}
            linear.updates = KernelUpdates(updates, tasks, names) if kernel else PlainUpdates(updates)

    return complete


def _read(adapter: Adapter, pair: Pair, spec: DecoderSpec) -> tuple[int | None, Tensor, Tensor]:
    """The part of the layer, A, and B · scale with the decoder's order of rows, both in float32."""
    found = map_tensors(dict.fromkeys((pair.a, pair.b), adapter.file), (pair.a, pair.b))
    a, b = found[pair.a].float(), found[pair.b].float() * pair.scale
    for name, tensor in ((pair.a, a), (pair.b, b)):
        if not bool(tensor.isfinite().all()):
            raise ModelError(f"adapter {adapter.name}: {name} has numbers that are not finite")
    b = b if pair.order is None else b[torch.from_numpy(pair.order(spec))]
    return pair.part, a, b


def _updates(linear: Linear, pairs: Sequence[tuple[int | None, Tensor, Tensor]], dtype: torch.dtype) -> list[LowRank]:
    """This rank's shares of an adapter's updates of a layer."""
    return [
        LowRank(a[:, share.inputs].to(dtype), b[share.outputs].to(dtype), share.here)
        for part, a, b in pairs
        for share in linear.shares(part)
    ]


def _merge(linear: Linear, pairs: Sequence[tuple[int | None, Tensor, Tensor]]) -> None:
    """Add B A · scale to this rank's weight, some rows at a time; each number is rounded once."""
    weight = linear.weight.tensors()["weight"]  # [outputs, inputs]
    step = max(1, MERGED_AT_ONCE // weight.shape[1])
    for part, a, b in pairs:
        for share in linear.shares(part):
            target, down, up = weight[share.here], a[:, share.inputs], b[share.outputs]
            for first in range(0, len(target), step):
                rows = slice(first, first + step)
                target[rows] = target[rows].float() + (up[rows] @ down).to(target.device)
