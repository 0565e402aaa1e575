"""Collectives of CPU ranks on one machine, through memory that they share (Linux)."""

from __future__ import annotations

import logging
import mmap
import os
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store

from orcinus.errors import EngineError, one_line
from orcinus.runtime.parallel.mesh import MeshPlace
from orcinus.runtime.parallel.shared_memory_kernel import DONE, LINE, all_gather, all_reduce
from orcinus.runtime.parallel.torch_collectives import ordered_sum

CAPACITY = 256 * 1024  # bytes of one rank's part of an exchange; larger tensors take several

log = logging.getLogger(__name__)


class SharedMemoryGroup:
    """Sums and rows of the tensor ranks of one stage. Sums are in float32 and in the order of the ranks."""

    def __init__(self, place: MeshPlace, memory: mmap.mmap, pids: Sequence[int], timeout_s: float) -> None:
        """`memory`: `size_of(tp)` zeros at first, which all ranks of the stage have mapped. `pids`: the ranks' process ids."""
        self._place, self._memory, self._timeout_s = place, memory, timeout_s
        self._peers = [_Peer(pid) for pid in pids]
        self._exchange = 0
        self._problem: str | None = None
        tp = place.mesh.tp
        self._flags: int = np.frombuffer(memory, np.int64).__array_interface__["data"][0]
        self._slots = np.frombuffer(memory, np.uint8, offset=tp * LINE).reshape(2, tp, CAPACITY)

    def all_reduce(self, x: Tensor) -> Tensor:
        """See `Collectives`."""
        self._check()
        if x.dtype not in (torch.float32, torch.bfloat16):
            tp = self._place.mesh.tp
            parts = self.all_gather(x.reshape(1, -1), [x.numel()] * tp)
            return ordered_sum(parts.view(tp, *x.shape).unbind(), x)
        whole = x.contiguous()
        elements = (whole if x.dtype is torch.float32 else whole.view(torch.uint16)).numpy().reshape(-1)
        slots = self._slots.view(elements.dtype)
        for start in range(0, len(elements), slots.shape[2]):
            self._run(all_reduce, elements[start : start + slots.shape[2]], slots)
        return x if whole is x else x.copy_(whole)

    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        """See `Collectives`."""
        self._check()
        assert x.shape[1] == widths[self._place.tensor]
        out = torch.empty(x.shape[0], sum(widths), dtype=x.dtype)
        if out.numel():
            given, found = x.contiguous().view(-1).view(torch.uint8).numpy(), out.view(torch.uint8).numpy()
            row_bytes = np.array(widths, np.int64) * x.element_size()
            for start in range(0, x.shape[0] * int(row_bytes.max()), CAPACITY):
                self._run(all_gather, given, found, row_bytes, start, self._slots)
        return out

    def _run(self, kernel: Callable[..., int], *arguments: object) -> None:
        """One exchange. Whenever the kernel returns before the end, look at the clock and at the rank that is missing."""
        self._exchange += 1
        state = (self._flags, self._place.tensor, self._exchange)
        missing = kernel(*arguments, *state, True)
        until = time.monotonic() + self._timeout_s
        while missing != DONE:
            gone, late = self._peers[missing].is_gone(), time.monotonic() > until
            missing = kernel(*arguments, *state, False)  # even one that is gone may have given its part before
            if missing != DONE and (gone or late):
                problem = "is gone" if gone else f"gave nothing within {self._timeout_s:g} s: it is stuck or gone"
                rank = self._place.rank - self._place.tensor + missing
                self._problem = f"rank {self._place.rank} cannot go on, rank {rank} {problem}"
                raise EngineError(self._problem)

    def _check(self) -> None:
        if self._problem is not None:
            raise EngineError(self._problem)

    def close(self) -> None:
        """Give back this rank's view of the memory."""
        self._problem = "the collectives are closed"
        del self._slots
        self._memory.close()
        for peer in self._peers:
            peer.close()


class _Peer:
    """Another process of this machine, and whether it has ended."""

    def __init__(self, pid: int) -> None:
        self._poll, self._handle = select.poll(), -1  # nothing is known of -1
        with suppress(OSError):  # an old kernel, or it has just ended: then time limits tell
            self._handle = os.pidfd_open(pid)
            self._poll.register(self._handle, select.POLLIN)

    def is_gone(self) -> bool:
        return bool(self._poll.poll(0))

    def close(self) -> None:
        """Forget it."""
        with suppress(OSError):
            os.close(self._handle)
        self._handle, self._poll = -1, select.poll()


def size_of(tp: int) -> int:
    """Bytes of memory that the ranks of a stage share."""
    return tp * (LINE + 2 * CAPACITY)


def compile_kernels() -> None:
    """Compile the kernels, or load them, before other ranks wait for this one."""
    for kind in (np.float32, np.uint16, np.uint8):
        alone, memory = np.zeros(1, kind), np.zeros(size_of(1), np.uint8)
        flags: int = memory.__array_interface__["data"][0]
        slots = memory[LINE:].reshape(2, 1, CAPACITY).view(kind)
        if kind is np.uint8:
            all_gather(alone, alone.reshape(1, 1), np.ones(1, np.int64), 0, slots, flags, 0, 1, True)
        else:
            all_reduce(alone, slots, flags, 0, 1, True)


def share_memory(place: MeshPlace, store: Store, timeout_s: float) -> SharedMemoryGroup | None:
    """The group of a stage whose ranks can share memory; None, on all of them, if they cannot.

    The memory has no name: the first rank makes it (`memfd_create`), the others open it through that process, and it is gone
    with the last of them, however they end. Raises `EngineError` if a rank does not answer.
    """
    ours = PrefixStore(f"memory-{place.stage}", store)
    file: int | None = None
    try:
        if place.tensor == 0:
            file = _make(size_of(place.mesh.tp))
            ours.set("where", "" if file is None else f"{_machine()} {os.getpid()} {file}")
        else:
            file = _open(ours.get("where").decode())
        memory = None if file is None else mmap.mmap(file, size_of(place.mesh.tp))
        ours.set(f"pid-{place.tensor}", str(os.getpid() if memory is not None else 0))
        pids = [int(ours.get(f"pid-{tensor}")) for tensor in range(place.mesh.tp)]  # then all have opened it
    except RuntimeError as error:
        raise EngineError(f"rank {place.rank}: the ranks of its stage do not answer: {one_line(error)}") from error
    finally:
        if file is not None:
            os.close(file)
    return SharedMemoryGroup(place, memory, pids, timeout_s) if memory is not None and all(pids) else None


def _make(size: int) -> int | None:
    """An open file of memory; None if this system has none to give."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        file = os.memfd_create("orcinus")
    except OSError as error:
        log.info("no shared memory: %s", error.strerror)
        return None
    try:
        os.posix_fallocate(file, 0, size)  # a lack of memory is told here, and does not kill a rank that touches it
    except OSError as error:
        log.info("no shared memory: %s", error.strerror)
        os.close(file)
        return None
    return file


def _open(where: str) -> int | None:
    """The memory of another process; None if this process cannot reach it."""
    machine, pid, file = where.split(" ") if where else ("", "", "")
    if not where or machine != _machine():
        return None
    try:
        return os.open(f"/proc/{pid}/fd/{file}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        log.info("memory of process %s cannot be shared: %s", pid, error.strerror)
        return None


def _machine() -> str:
    """The same for two processes only if they see each other under the same process ids."""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}/{os.readlink('/proc/self/ns/pid')}"
