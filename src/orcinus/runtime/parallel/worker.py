"""One rank of a model: `python -m orcinus.runtime.parallel.worker PARENT`, with its configuration on standard input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from orcinus.runtime.attention import ATTENTION, operators_of
from orcinus.runtime.checkpoint import known_checkpoint, load_model
from orcinus.runtime.device import DTYPES, Device
from orcinus.runtime.device_memory import told_if_short
from orcinus.runtime.executor import TorchExecutor
from orcinus.runtime.lora.adapt import adapt
from orcinus.runtime.lora.adapter import open_adapters
from orcinus.runtime.parallel.collectives import Collectives
from orcinus.runtime.parallel.join import join
from orcinus.runtime.parallel.rank_config import RankConfig, RankModel
from orcinus.runtime.parallel.rank_loop import run_process
from orcinus.runtime.parallel.rendezvous import rendezvous_at
from orcinus.runtime.parallel.sign_of_life import SignsOfLife
from orcinus.runtime.ready_executor import allocate_kv, ready_executor
from orcinus.runtime.transfers import Link
from orcinus.threads import limit_spinning

JOIN_S = 120.0  # between the first rank and the last, each of which has to load libraries


class WatchedCollectives:
    """Collectives that tell the signs of life when this rank waits for others."""

    def __init__(self, collectives: Collectives, signs: SignsOfLife) -> None:
        self._collectives, self._signs = collectives, signs

    def all_reduce(self, x: Tensor) -> Tensor:
        with self._signs.waiting_in("all_reduce"):
            return self._collectives.all_reduce(x)

    def all_gather(self, x: Tensor, widths: Sequence[int]) -> Tensor:
        with self._signs.waiting_in("all_gather"):
            return self._collectives.all_gather(x, widths)

    def send(self, x: Tensor) -> None:
        with self._signs.waiting_in("send"):
            self._collectives.send(x)

    def recv(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        with self._signs.waiting_in("recv"):
            return self._collectives.recv(shape, dtype)

    def close(self) -> None:
        self._collectives.close()


def load(config: RankConfig, signs: SignsOfLife, progress: Callable[[str, int, int], None]) -> Callable[[], TorchExecutor]:
    """Meet the other ranks, read this rank's part, and take its K/V memory."""
    torch.set_num_threads(config.threads)
    limit_spinning()
    model = msgspec.convert(config.load, RankModel)
    device = Device(torch.device(model.device), DTYPES[model.dtype], "as planned")
    found = join(config.place, device.device, rendezvous_at(config.rendezvous), config.timeout_s, JOIN_S)
    collectives = WatchedCollectives(found, signs)
    checkpoint = known_checkpoint(Path(model.folder), model.architecture, model.spec, device.device.type, keeps=model.keeps)
    attend, operators = ATTENTION[model.attention](), operators_of(model.attention)
    adapters = open_adapters(model.adapters, checkpoint)
    complete = adapt(adapters, model.spec, device.dtype, model.attention, merged=model.merge_lora)
    with told_if_short("weights"):
        decoder = load_model(
            checkpoint, device, attend, operators, partial(progress, "weights"),
            dummy=model.dummy, quantization=model.quantization, place=config.place, collectives=collectives, complete=complete,
        )  # fmt: skip
    kv = allocate_kv(decoder, device, model.num_blocks, model.block_size, model.kv_cache_dtype)
    link = Link(device.device)
    return lambda: ready_executor(decoder, kv, link, model.attention, model.limits, cuda_graphs=model.cuda_graphs)


if __name__ == "__main__":
    run_process(load)
