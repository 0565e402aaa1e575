"""K/V memory and executor of a loaded model, for one device and for each rank."""

from __future__ import annotations

from collections.abc import Sequence

from orcinus.core.view import Limits
from orcinus.runtime import huge_pages, kv_cache
from orcinus.runtime.attention import WITH_KERNELS
from orcinus.runtime.device import Device
from orcinus.runtime.device_memory import told_if_short
from orcinus.runtime.executor import TorchExecutor, first_batches
from orcinus.runtime.kv_cache import LayerKV
from orcinus.runtime.models import Decoder
from orcinus.runtime.transfers import Link


def allocate_kv(model: Decoder, device: Device, num_blocks: int, block_size: int, kv_cache_dtype: str) -> tuple[LayerKV, ...]:
    """K/V memory for the layers and heads that this decoder holds. Raises `ConfigError` if memory is short.

    A CPU's is provided in the background, so that no prompt waits for the system to clear it.
    """
    sizes = len(model.stage), num_blocks, model.num_kv_heads, block_size, model.spec.head_dim
    with told_if_short("keys and values"):
        kv = kv_cache.allocate(*sizes, device.dtype, device.device, kv_cache_dtype)
    if device.device.type == "cpu":
        huge_pages.populate([tensor for layer in kv for tensor in layer.tensors()])
    return kv


def ready_executor(
    model: Decoder, kv: Sequence[LayerKV], link: Link, attention: str, limits: Limits, *, cuda_graphs: bool
) -> TorchExecutor:
    """A warmed-up executor."""
    if attention in WITH_KERNELS:
        from orcinus.runtime.gpu.executor import gpu_executor  # needs triton

        return gpu_executor(model, kv, link, limits, graphs=cuda_graphs)
    executor = TorchExecutor(model, kv, link)
    executor.warm_up(first_batches(limits))
    return executor
