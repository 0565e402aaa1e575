"""Upper bounds of decoding speed: bytes to read / memory bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orcinus.machine_load import cpu_times, taken, usable_cores
from orcinus.memory.footprint import decode_kv_bytes
from orcinus.plan import Plan
from orcinus.runtime.device_memory import product_bandwidth, read_bandwidth


@dataclass(frozen=True, slots=True)
class Speed:
    """An upper bound of decoding speed for one batch size."""

    requests: int
    weights_bytes_per_s: float  # read by a product with so many rows
    iterations_per_s: float

    @property
    def tokens_per_s(self) -> float:
        return self.requests * self.iterations_per_s


@dataclass(frozen=True, slots=True)
class Speeds:
    """Upper bounds of decoding speed: only memory reads count."""

    context: int  # tokens behind every decode: half of the longest request
    kv_bytes_per_s: float
    measured: bool  # whether the rates were measured; else they are a data sheet's
    decode: tuple[Speed, ...]  # of one request, and of as many as there may be
    doubts: tuple[str, ...] = ()  # why measured rates are too low


def measure(plan: Plan) -> Speeds:
    """Upper bounds of decoding speed for a planned engine.

    The memory bandwidth is measured, which takes a second or two, or comes from a data sheet. A decode iteration reads the
    weights once for all requests, and the keys and values of each; of experts it reads those that a router without
    preferences chooses. The stages of a pipeline run one after another. Among the tensor ranks of a stage the slowest
    counts; on a CPU all of them count, because they share its memory.
    """
    spec, dtype, device, sheet = plan.model.checkpoint.spec, plan.device.dtype, plan.device.device, plan.sheet
    limits, products = plan.resolved.limits, sorted(plan.ranks[0].products)
    quantization = plan.resolved.quantization or (products[0] if products else None)
    context = -(-limits.max_model_len // 2)
    formats = dtype.itemsize, plan.resolved.kv_cache_dtype
    kv = _one_after_the_other(plan, [decode_kv_bytes(rank.spec, formats[0], context, formats[1]) for rank in plan.ranks])
    most = min(limits.max_batch_size, plan.sequences(context))
    usual, before = sheet.bandwidth * sheet.efficiency.bandwidth if sheet else 0.0, cpu_times()
    counts = sorted({1, most})
    weights_of = {each: _one_after_the_other(plan, [rank.decode_bytes(each) for rank in plan.ranks]) for each in counts}
    kv_rate = usual or read_bandwidth(device, weights_of[most] + most * kv)
    speeds = []
    for requests, weights in weights_of.items():
        rate = usual or product_bandwidth(device, dtype, weights, spec.hidden_size, requests, quantization=quantization)
        speeds.append(Speed(requests, rate, 1 / (weights / rate + requests * kv / kv_rate)))
    others = None if sheet else taken(before, cpu_times(), usable_cores())
    doubts = (f"{others} while these rates were measured",) if others is not None else ()
    return Speeds(context, kv_rate, sheet is None, tuple(speeds), doubts)


def _one_after_the_other(plan: Plan, ranks: Sequence[int]) -> int:
    """Bytes read in sequence, from the bytes of each rank."""
    together = sum if plan.device.device.type == "cpu" else max
    tp = plan.mesh.tp
    return sum(together(ranks[first : first + tp]) for first in range(0, len(ranks), tp))
