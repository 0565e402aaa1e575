"""Collectives over torch.distributed: gloo between CPUs, NCCL between GPUs.

Groups are made from their backends directly, as vLLM's stateless groups are. There is then no global default group, a rank
connects to the ranks of its own groups alone, and gloo listens on the address that it is given instead of one it guesses.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store, Work

from orcinus.errors import EngineError, one_line, shortened
from orcinus.runtime.parallel.mesh import MeshPlace

SOURCE_LINE = re.compile(r"^\[\S+\] ")  # in front of gloo's messages


@dataclass(frozen=True, slots=True)
class GroupOptions:
    """What a rank connects with: its device, the ranks' store, the address on which it listens, and the bound of each wait."""

    device: torch.device
    store: Store
    host: str
    timeout_s: float


class TorchGroup:
    """Sums and rows of the tensor ranks of one stage."""

    def __init__(self, place: MeshPlace, options: GroupOptions) -> None:
        first = place.stage * place.mesh.tp
        self._group = _Group(f"stage-{place.stage}", place.rank, range(first, first + place.mesh.tp), options)

    def all_reduce(self, x: Tensor) -> Tensor:
        """See `Collectives`. CPUs sum in the order of the ranks, NCCL in its own."""
        if x.device.type == "cpu" and self._group.size > 2:  # two parts have one sum, which gloo finds in half the time
            return ordered_sum(self._gathered("all_reduce", x), x)
        whole = x.contiguous()
        with self._group.errors("all_reduce"):
            self._group.wait(self._group.backend.allreduce([whole]))
        return x if whole is x else x.copy_(whole)

    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        """See `Collectives`. Narrow parts travel padded: backends gather equal shapes."""
        missing = max(widths) - x.shape[1]
        parts = self._gathered("all_gather", torch.nn.functional.pad(x, (0, missing)) if missing else x)
        return torch.cat([part[:, :width] for part, width in zip(parts, widths, strict=True)], dim=1)

    def _gathered(self, action: str, x: Tensor) -> list[Tensor]:
        parts = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(self._group.size)]
        with self._group.errors(action):
            self._group.wait(self._group.backend.allgather([parts], [x.contiguous()]))
        return parts

    def close(self) -> None:
        """Close the connections."""
        self._group.close()


class StageLink:
    """From each stage to the next, between equal tensor ranks.

    A transfer ends when the receiver asks for it, and a stage may have several batches on their way. So `send` keeps a copy
    with its handle, and waits only for transfers that have ended long ago if all is well.
    """

    def __init__(self, place: MeshPlace, options: GroupOptions) -> None:
        self._place, self._device = place, options.device
        self._group = _Group(
            f"tensor-rank-{place.tensor}", place.rank, range(place.tensor, place.mesh.size, place.mesh.tp), options
        )
        self._kept: deque[tuple[Work, Tensor]] = deque()
        self._most_kept = 2 * place.mesh.pp  # one batch in flight for each stage, and up to two tensors a batch

    def send(self, x: Tensor) -> None:
        """See `Collectives`. The caller may overwrite `x` at once."""
        assert not self._place.last, "there is no next stage"
        with self._group.errors("send"):
            while len(self._kept) >= self._most_kept:
                self._group.wait(self._kept.popleft()[0])
            copy = x.clone(memory_format=torch.contiguous_format)
            self._kept.append((self._group.backend.send([copy], self._place.stage + 1, 0), copy))

    def recv(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Collectives`."""
        assert not self._place.first, "there is no stage before"
        found = torch.empty(shape, dtype=dtype, device=self._device)
        with self._group.errors("recv"):
            self._group.wait(self._group.backend.recv([found], self._place.stage - 1, 0))
        return found

    def close(self) -> None:
        """Close the connections. What has not been received is lost."""
        self._kept.clear()
        self._group.close()


def ordered_sum(parts: Sequence[Tensor], into: Tensor) -> Tensor:
    """The sum in float32 and in the order of the parts, so that all ranks get the same bits."""
    total = parts[0].to(torch.float32, copy=True)
    for part in parts[1:]:
        total += part
    return into.copy_(total)


class _Group:
    """A process group whose failures are `EngineError`s of one line. All its ranks make it at once."""

    def __init__(self, name: str, rank: int, members: Sequence[int], options: GroupOptions) -> None:
        """`rank` and `members` are ranks of the mesh."""
        self.size, self._options = len(members), options
        others = [str(member) for member in members if member != rank]
        self._who = f"rank {rank} with {'ranks' if len(others) > 1 else 'rank'} {', '.join(others)}"
        with self.errors("connecting"):
            self.backend = _backend(options, PrefixStore(name, options.store), members.index(rank), self.size)

    def wait(self, work: Work) -> None:
        """Until it is done. On a GPU only the stream waits, and NCCL's watchdog keeps the bound."""
        if self._options.device.type == "cuda":
            work.wait()
        else:
            work.wait(timedelta(seconds=self._options.timeout_s))

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """Failures within the block are of this action."""
        began, bound = time.monotonic(), self._options.timeout_s
        try:
            yield
        except RuntimeError as error:
            if time.monotonic() - began >= bound:
                problem = f"did not end within {bound:g} s: one of them is stuck or gone"
            else:
                problem = f"failed, one of them may be gone: {shortened(SOURCE_LINE.sub('', one_line(error)))}"
            raise EngineError(f"{action} of {self._who} {problem}") from error

    def close(self) -> None:
        """Close the connections."""
        self.backend = None


def _backend(options: GroupOptions, store: Store, rank: int, size: int) -> Any:
    timeout = timedelta(seconds=options.timeout_s)
    if options.device.type == "cuda":
        nccl: Any = distributed.ProcessGroupNCCL
        settings = nccl.Options()
        settings._timeout = timeout
        return nccl(store, rank, size, settings)
    gloo: Any = distributed.ProcessGroupGloo  # torch's stubs lack some of its Python signatures
    settings = gloo._Options()
    settings._devices = [gloo.create_device(hostname=options.host)]
    settings._timeout = timeout
    settings._threads = 1  # one collective at a time
    return gloo(store, rank, size, settings)
