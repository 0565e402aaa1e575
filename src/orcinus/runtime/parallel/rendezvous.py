"""Where ranks meet: the store through which they first find each other."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from torch.distributed import FileStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.distributed_c10d import Store

from orcinus.errors import ConfigError, EngineError, one_line, shown
from orcinus.runtime.parallel.mesh import MeshPlace

LOOPBACK = "127.0.0.1"


class Rendezvous(Protocol):
    """A meeting point of all ranks of one mesh, for one start."""

    @property
    def address(self) -> str:
        """What other ranks are told; `rendezvous_at` reads it."""
        ...

    def store(self, place: MeshPlace, timeout_s: float) -> Store:
        """The keys and values that all ranks share. Raises `EngineError` if it cannot be reached in time."""
        ...

    def own_host(self) -> str:
        """The address on which this rank listens for the others."""
        ...


@dataclass(frozen=True, slots=True)
class FileRendezvous:
    """A file in a private folder of the one machine that has all ranks.

    It does not exist before the start, and the process that made the folder removes it afterwards.
    """

    file: Path

    @property
    def address(self) -> str:
        return f"file:{self.file}"

    def store(self, place: MeshPlace, timeout_s: float) -> Store:
        if not self.file.parent.is_dir():  # FileStore would look for it for minutes
            raise EngineError(f"rank {place.rank} cannot meet the others in {self.file.parent}: there is no such folder")
        store = FileStore(str(self.file), place.mesh.size)
        store.set_timeout(timedelta(seconds=timeout_s))
        return store

    def own_host(self) -> str:
        return LOOPBACK


@dataclass(frozen=True, slots=True)
class TcpRendezvous:
    """A socket of rank 0, for ranks on several machines.

    Rank 0 calls `listen`, and only then the others are told its `address`: no port is chosen before it is bound. Whoever
    reaches the port can disturb the start, so it belongs into a private network, as the connections between ranks do.
    """

    host: str
    port: int
    listener: int | None = None  # rank 0: the file descriptor of the bound socket

    @classmethod
    def listen(cls, host: str) -> TcpRendezvous:
        """For rank 0. `host` is an address of this machine under which the others reach it. Raises `ConfigError`."""
        if host in ("", "0.0.0.0", "::"):
            raise ConfigError(f"ranks on other machines cannot reach {host!r}: name an address of this machine")
        try:
            family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
            bound = socket.create_server(address[:2], family=family)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}: {error.strerror or error}") from error
        return cls(host, bound.getsockname()[1], bound.detach())

    @property
    def address(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"

    def store(self, place: MeshPlace, timeout_s: float) -> Store:
        try:
            return TCPStore(
                self.host,
                self.port,
                place.mesh.size,
                is_master=self.listener is not None,
                timeout=timedelta(seconds=timeout_s),
                wait_for_workers=False,
                master_listen_fd=self.listener,
            )
        except RuntimeError as error:
            raise EngineError(f"rank {place.rank} cannot reach rank 0 at {self.address}: {one_line(error)}") from error

    def own_host(self) -> str:
        """The address from which this machine reaches rank 0."""
        family, kind, protocol, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)  # datagrams: nothing is sent
            return str(probe.getsockname()[0])


def rendezvous_at(address: str) -> Rendezvous:
    """The meeting point that another rank, or the process that starts ranks, told. Raises `ConfigError`."""
    kind, _, rest = address.partition(":")
    if kind == "file" and rest.startswith("/"):
        return FileRendezvous(Path(rest))
    try:
        parts = urlsplit(address)
        if kind == "tcp" and parts.hostname and parts.port:
            return TcpRendezvous(parts.hostname, parts.port)
    except ValueError:  # a port that is no number
        pass
    raise ConfigError(f"ranks cannot meet at {shown(address)}: give file:/PATH or tcp://HOST:PORT")


def meet(store: Store, place: MeshPlace, timeout_s: float) -> None:
    """Wait until all ranks of the mesh are here. Raises `EngineError` that names those who are not."""
    until = time.monotonic() + timeout_s
    keys = [f"here/{rank}" for rank in range(place.mesh.size)]
    try:
        store.set(keys[place.rank], "")
        while missing := [rank for rank, key in enumerate(keys) if not store.check([key])]:
            if time.monotonic() > until:
                ranks = "ranks " + ", ".join(map(str, missing)) if len(missing) > 1 else f"rank {missing[0]}"
                raise EngineError(
                    f"rank {place.rank} waited {timeout_s:g} s for {ranks} of {place.mesh.size}: see what they said, or "
                    f"allow more time to start"
                )
            time.sleep(0.01)
    except RuntimeError as error:
        if isinstance(error, EngineError):
            raise
        raise EngineError(f"rank {place.rank} lost rank 0 while the ranks met: {one_line(error)}") from error
