"""The memory of a device or machine: its size and its bandwidth."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from orcinus.control_groups import CGROUPS, PROC, control_groups
from orcinus.errors import ConfigError
from orcinus.runtime.linear_weight import Split
from orcinus.runtime.models.linear import PlainWeight
from orcinus.runtime.quantized_weights import QUANTIZED_WEIGHTS

MOST_READ = 2**27  # bytes; more than caches hold, and quick to read
SECONDS = 0.1
# A group's limit, its use, and the file cache in that use, which is given back when memory is short: version 2, version 1.
COUNTERS = {
    "": ("memory.max", "memory.current", ("active_file", "inactive_file")),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_active_file", "total_inactive_file")),
}


def memory_available(device: torch.device) -> int:
    """Bytes that could be allocated on the device now.

    They include what torch has reserved and does not use.
    """
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + idle
    return max(0, min([_of_the_machine(PROC), *_of_the_groups(PROC, CGROUPS)]))


def memory_total(device: torch.device) -> int:
    """Bytes that the device, or the machine, has in all."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def release_freed() -> None:
    """Give memory that was freed back to the machine.

    glibc keeps it otherwise: a tenth of a model's bytes after its weights were quantised. Elsewhere it does nothing.
    """
    with suppress(AttributeError, OSError, TypeError):  # other C libraries
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def told_if_short(purpose: str) -> Iterator[None]:
    """Raise `ConfigError` if a GPU runs out of memory inside."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise ConfigError(
            f"the GPU ran out of memory for {purpose}: something else took it meanwhile, or gpu_memory_utilization leaves too "
            "little beside it; lower it, or see what else runs there"
        ) from None


def _of_the_machine(proc: Path) -> int:
    try:
        lines = (proc / "meminfo").read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _of_the_groups(proc: Path, root: Path) -> Iterator[int]:
    """Bytes left in this process's control group and each of its ancestors."""
    for hierarchy, group in control_groups("memory", proc, root):
        left = _left(group, *COUNTERS[hierarchy])
        if left is not None:
            yield left


def _left(group: Path, limit: str, usage: str, cache: tuple[str, str]) -> int | None:
    """Bytes that a group may still take; None if nothing limits it."""
    try:
        most, used = int((group / limit).read_text()), int((group / usage).read_text())
        counted = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no such group, or its limit is "max"
        return None
    return most - used + sum(int(counted.get(name, 0)) for name in cache)


def read_bandwidth(device: torch.device, num_bytes: int) -> float:
    """Bytes per second at which all of torch's threads sum a tensor.

    The tensor takes `num_bytes`, at most 128 MiB. A small model's weights stay in the processor's cache, so a small tensor has
    to stay there, too.
    """
    numbers = torch.ones(max(1, min(num_bytes, MOST_READ) // 4), device=device)
    return numbers.nbytes / best_seconds(numbers.sum)


def product_bandwidth(
    device: torch.device, dtype: torch.dtype, num_bytes: int, inputs: int, rows: int, *, quantization: str | None = None
) -> float:
    """Bytes per second of weights read by a product with `rows` rows.

    A decode reads its weights in this way, in the layout that they are served in. If computing keeps up with memory, it is as
    fast as reading them.
    """
    x, most = torch.ones(rows, inputs, dtype=dtype, device=device), min(num_bytes, MOST_READ)
    if quantization is not None:
        made = QUANTIZED_WEIGHTS[quantization]
        quantized = made.ones(max(1, 16 * most // made.bytes_of((16, inputs))), inputs)
        return quantized.num_bytes / best_seconds(lambda: quantized.multiply(x, None).sum())
    outputs = max(1, most // (inputs * dtype.itemsize))
    plain = PlainWeight(torch.ones(outputs, inputs, dtype=dtype, device=device), Split.columns(outputs))
    weights = plain.process_after_loading()
    return plain.num_bytes / best_seconds(lambda: weights.multiply(x, None).sum())


def best_seconds(work: Callable[[], torch.Tensor]) -> float:
    """Seconds of the fastest of several runs, over a tenth of a second.

    The first one does not count. The work returns a number, in a tensor.
    """
    work()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while best == float("inf") or time.perf_counter() < end:
        began = time.perf_counter()
        work().item()  # reading the number waits for a GPU
        best = min(best, time.perf_counter() - began)
    return best
