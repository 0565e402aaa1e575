"""All-reduce between CPU ranks of one machine: shared memory and gloo, in turn.

    python benchmarks/collectives.py [--ranks 2] [--repeats 500] [--dtype float32]

Microseconds on rank 0, each side once in turn: median, and the tenth percentile, which a busy machine disturbs less. Each
rank has one thread. As root, `chrt -f 10` in front of the command keeps other processes off the ranks' cores.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from orcinus.machine_load import load_average, usable_cores
from orcinus.runtime.parallel.join import join
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from orcinus.runtime.parallel.rendezvous import FileRendezvous
from orcinus.runtime.parallel.shared_memory import SharedMemoryGroup
from orcinus.runtime.parallel.torch_collectives import GroupOptions, TorchGroup

KIB = (16, 32, 512)
CPU = torch.device("cpu")
TIMEOUT_S = 120.0


def sides(place: MeshPlace, folder: Path) -> dict[str, Callable[[Tensor], object]]:
    """All-reduces by name."""
    shared = join(place, CPU, FileRendezvous(folder / "shared"), TIMEOUT_S)
    assert isinstance(shared.ranks, SharedMemoryGroup), "these ranks cannot share memory"
    rendezvous = FileRendezvous(folder / "gloo")
    gloo = TorchGroup(place, GroupOptions(CPU, rendezvous.store(place, TIMEOUT_S), rendezvous.own_host(), TIMEOUT_S))
    return {"shared memory": shared.all_reduce, "gloo": gloo.all_reduce}


def run_rank(place: MeshPlace, folder: Path, dtype: torch.dtype, repeats: int) -> None:
    """Measure; rank 0 prints."""
    torch.set_num_threads(1)
    calls = sides(place, folder)
    for kib in KIB:
        x = torch.zeros(8, kib * 1024 // 8 // dtype.itemsize, dtype=dtype)
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repeats):
            for name, call in calls.items():
                call(x)  # the ranks begin the next one together
                began = time.perf_counter()
                call(x)
                taken[name].append(1e6 * (time.perf_counter() - began))
        if place.rank == 0:
            for name, times in taken.items():
                print(f"{kib:4} KiB  {name:15} {statistics.median(times):8.0f} {statistics.quantiles(times, n=10)[0]:8.0f}")
    shared_memory, *_ = calls.values()
    shared_memory(torch.zeros(1))  # no rank leaves before the others have finished


def main() -> None:
    parser = argparse.ArgumentParser(description="All-reduce between CPU ranks of one machine.")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    asked = parser.parse_args()
    mesh, dtype, context = Mesh(tp=asked.ranks), getattr(torch, asked.dtype), multiprocessing.get_context("spawn")
    print(f"{asked.ranks} ranks, {asked.dtype}, {usable_cores()} cores, load average {load_average()}; microseconds")
    print("    size  side              median  tenth percentile")
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(mesh.at(rank), Path(folder), dtype, asked.repeats) for rank in range(mesh.size)]
        ranks = [context.Process(target=run_rank, args=each) for each in arguments]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()


if __name__ == "__main__":
    main()
