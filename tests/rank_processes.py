"""Real processes as ranks of a mesh. They stay up and take one piece of work after the other."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from orcinus.runtime.parallel import join as joining
from orcinus.runtime.parallel.collectives import Collectives
from orcinus.runtime.parallel.mesh import Mesh, MeshPlace
from orcinus.runtime.parallel.rendezvous import FileRendezvous

START_TIMEOUT_S = 60.0  # compiling on a busy machine
CPU = torch.device("cpu")


def fork_server() -> ForkServerContext:
    """Starts processes as forks of one in which torch is imported once, for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.rank_libraries"])
    return context


class RankProcesses:
    """Processes 0, 1, ... that are the ranks of any mesh of at most so many. One that died is replaced when it is needed.

    `work(place, collectives, *arguments)` is a function of a module, and what it returns can be pickled; tensors as `bits_of`.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self._folder = folder
        self._context = fork_server()
        self._ranks = [self._start() for _ in range(count)]

    def _start(self) -> tuple[ForkServerProcess, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def run(
        self, mesh: Mesh, work: Callable[..., Any], *arguments: object, share: bool = True, timeout_s: float = 30, to: str = ""
    ) -> list[Any]:
        """What `work` returns, or raises, by rank; None of a process that ends.

        Ranks join a mesh once for all calls that agree in `share`, `timeout_s` and `to`. `share=False`: without shared memory.
        No rank begins its work before all have joined: one that ends at once would be gone while others still connect to it.
        """
        folder = self._folder / f"{mesh.tp}-{mesh.pp}-{share}-{timeout_s}-{to}"
        folder.mkdir(exist_ok=True)
        for rank in range(mesh.size):
            process, pipe = self._ranks[rank]
            if not process.is_alive():
                pipe.close()
                self._ranks[rank] = self._start()
        pipes = [pipe for _, pipe in self._ranks[: mesh.size]]
        for rank, pipe in enumerate(pipes):
            pipe.send((mesh.at(rank), folder, timeout_s, share))
        for failed in filter(None, list(map(_received, pipes))):
            self.close()  # the others wait for work
            raise failed
        for pipe in pipes:
            pipe.send((work, arguments))
        return list(map(_received, pipes))

    def close(self) -> None:
        """End them; `run` starts others."""
        for process, pipe in self._ranks:
            pipe.close()
            process.kill()
            process.join()


def bits_of(x: torch.Tensor) -> bytes:
    """All bits of a tensor."""
    return x.contiguous().view(torch.uint8).numpy().tobytes()


def _received(pipe: Connection) -> Any:
    assert pipe.poll(START_TIMEOUT_S * 2), "a rank does not answer"
    with suppress(EOFError, ConnectionResetError):
        return pipe.recv()
    return None


def _serve(pipe: Connection) -> None:
    torch.set_num_threads(1)
    joined: dict[Path, Collectives] = {}
    with suppress(EOFError):
        while True:
            place, folder, timeout_s, share = pipe.recv()
            try:
                if folder not in joined:
                    joined[folder] = _join(place, folder, timeout_s, share)
            except Exception as error:
                pipe.send(error)
                continue
            pipe.send(None)
            work, arguments = pipe.recv()
            try:
                answer = work(place, joined[folder], *arguments)
            except Exception as error:
                answer = error
            pipe.send(answer)


def _join(place: MeshPlace, folder: Path, timeout_s: float, share: bool) -> Collectives:
    rendezvous = FileRendezvous(folder / "rendezvous")
    if share:
        return joining.join(place, CPU, rendezvous, timeout_s, START_TIMEOUT_S)
    with mock.patch.object(joining, "share_memory", return_value=None):  # as on several machines
        return joining.join(place, CPU, rendezvous, timeout_s, START_TIMEOUT_S)
