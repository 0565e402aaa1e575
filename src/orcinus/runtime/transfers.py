"""Asynchronous host-device copies, and events that mark their end.

A device reads pinned memory by itself while the host goes on. torch's allocator reuses pinned memory only when the copies that
use it are done, so its users need no bookkeeping. On a CPU all of this is plain memory.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orcinus.errors import EngineError


class Mark:
    """A point in the device's queue of work (a CUDA event)."""

    def __init__(self, device: torch.device, *, timed: bool = False) -> None:
        self._event: Any = torch.cuda.Event(enable_timing=timed) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        """Wait until the device has reached this point."""
        if self._event is not None:
            self._event.synchronize()

    def seconds_until(self, later: Mark) -> float:
        """Device seconds between two timed marks; 0 on a CPU."""
        if self._event is None or later._event is None:
            return 0.0
        return float(self._event.elapsed_time(later._event)) / 1000


class Link:
    """Copies to and from one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._far = device.type == "cuda"
        self._here = None if self._far else Mark(device)  # a host's work is done when it returns

    @property
    def is_cpu(self) -> bool:
        """Whether the device is the host: `up` copies nothing."""
        return self.device.type == "cpu"

    def on(self) -> AbstractContextManager[object]:
        """A context whose kernels run on this device."""
        return torch.cuda.device(self.device) if self._far else nullcontext()

    def empty(self, size: int) -> Tensor:
        """Host memory, int32 `[size]`, from which `up` copies without waiting."""
        return torch.empty(size, dtype=torch.int32, pin_memory=self._far)

    def up(self, host: Tensor, into: Tensor | None = None) -> Tensor:
        """A copy on the device.

        `host` is read later: it must not be written again.
        """
        if into is not None:
            return into.copy_(host, non_blocking=True)
        return host.to(self.device, non_blocking=True)

    def numbers(self, values: NDArray[np.generic]) -> Tensor:
        """A copy of an array on the device."""
        host = torch.from_numpy(values)
        return self.up(host.pin_memory() if self._far else host)

    def down(self, tensor: Tensor) -> Tensor:
        """A copy on the host, complete once the next `mark` passes."""
        if not self._far:
            return tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)

    def free(self) -> None:
        """Give torch's cached memory back to the device."""
        if self._far:
            torch.cuda.empty_cache()

    def check(self) -> None:
        """Raise `EngineError` if the device accepts no more work.

        After some errors all calls fail until the process ends.
        """
        if self._far:
            try:
                torch.cuda.synchronize(self.device)
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                raise EngineError(f"{self.device} takes no more work ({reason}): the engine cannot go on") from error

    def mark(self, *, timed: bool = False) -> Mark:
        return self._here or Mark(self.device, timed=timed)
