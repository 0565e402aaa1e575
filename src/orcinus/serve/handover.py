"""Rolling restart: a new server takes the listening socket of a running one.

The socket itself crosses (SCM_RIGHTS), not its address. Its accept queue stays, so no connection is refused or lost, whichever
of the two processes accepts next. They meet at a socket in Linux's abstract namespace, whose name has the old server's process
id in it, and which leaves no file behind.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from orcinus.errors import ConfigError
from orcinus.serve.config import ServerConfig

ANSWER_S = 10.0  # for the other process to answer
MOST_BYTES = 4096  # of a description
IN_PLACE = b"+"  # the successor accepts connections; the predecessor answers with it when it no longer does


class ServerPlace(NamedTuple):
    """What a server has that its successor takes over, or must not take."""

    host: str
    port: int
    record: str | None  # a file that only one of them can write


def _address(pid: int) -> str:
    return f"\0orcinus-serve-{pid}"


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process id and user id of the other side, as the kernel says."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid


def _is_here(pid: int) -> bool:
    """Whether a process is in this one's container: its process ids are ours.

    Names in the abstract namespace belong to a network, which containers may share, and their root may have our user id.
    """
    try:
        return os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:
        return False


class Offer:
    """A running server's side: offers its place to one successor of the same user at a time.

    `on_taken` is called with the successor's process id, as soon as that accepts connections; this server's listener must be
    closed when it returns.
    """

    def __init__(self, listener: socket.socket, place: ServerPlace, on_taken: Callable[[int], None]) -> None:
        self._listener, self._place, self._on_taken = listener, place, on_taken
        self._successor: int | None = None
        self._meetings: set[asyncio.Task[None]] = set()

    async def stand(self) -> None:
        """Meet successors until cancelled. Elsewhere than on Linux, and without a free address, there is no offer."""
        if sys.platform != "linux":
            return
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as door:
            door.setblocking(False)
            try:
                door.bind(_address(os.getpid()))
            except OSError:  # processes of several containers may share a network and have equal ids
                return
            door.listen()
            while True:
                try:
                    peer, _ = await loop.sock_accept(door)
                except OSError:  # no file descriptor is free
                    await asyncio.sleep(1)
                    continue
                meeting = asyncio.create_task(self._meet(peer))
                self._meetings.add(meeting)
                meeting.add_done_callback(self._meetings.discard)

    async def _meet(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            pid, uid = _peer(peer)
            if uid != os.geteuid():
                peer.send(_refusal("only the user who started it may replace it"))
            elif not _is_here(pid):
                peer.send(_refusal("a process of another container may not replace it"))
            elif self._successor is not None:
                peer.send(_refusal(f"process {self._successor} is about to replace it already"))
            else:
                self._successor = pid
                try:
                    await self._hand_over(peer, pid)
                finally:
                    self._successor = None

    async def _hand_over(self, peer: socket.socket, pid: int) -> None:
        loop = asyncio.get_running_loop()
        socket.send_fds(peer, [json.dumps(self._place._asdict()).encode()], [self._listener.fileno()])
        if await loop.sock_recv(peer, 1) == IN_PLACE:
            self._on_taken(pid)
            await loop.sock_sendall(peer, IN_PLACE)
        else:
            print(f"process {pid} was to replace this server, and has ended: this one goes on", file=sys.stderr, flush=True)


def _refusal(reason: str) -> bytes:
    return json.dumps({"refused": reason}).encode()


class Predecessor:
    """A successor's side: the running server whose place it takes.

    `listener` is that server's socket. Raises `ConfigError` if there is no such server, or it may not be replaced.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.dismissed = False
        self._peer = _connect(pid)
        try:
            self.place, self.listener = self._receive()
        except BaseException:
            self._peer.close()
            raise

    def __enter__(self) -> Predecessor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._peer.close()
        self.listener.close()

    def _receive(self) -> tuple[ServerPlace, socket.socket]:
        self._peer.settimeout(ANSWER_S)
        try:
            said, files, _, _ = socket.recv_fds(self._peer, MOST_BYTES, 1)
            told = json.loads(said)
        except (OSError, ValueError):
            raise ConfigError(f"process {self.pid} does not answer: it may be stopped, or on its way out") from None
        if "refused" in told:
            raise ConfigError(f"process {self.pid} cannot be replaced: {told['refused']}")
        os.set_inheritable(files[0], False)
        self._peer.setblocking(False)
        return ServerPlace(**told), socket.socket(fileno=files[0])

    def adopt(self, asked: ServerConfig, said: Collection[str]) -> ServerConfig:
        """The options with the predecessor's address.

        `said` names the options that the user gave. Raises `ConfigError` if they ask for another address.
        """
        host, port, _ = self.place
        if ("host" in said and asked.host != host) or ("port" in said and asked.port not in (0, port)):
            raise ConfigError(
                f"process {self.pid} listens at {host}:{port}, and --replace keeps its address: leave --host and --port out"
            )
        return replace(asked, host=host, port=port)

    def check_record(self, record: str | Path | None) -> None:
        """Raise `ConfigError` if both servers would write the same record."""
        if record is not None and os.path.abspath(record) == self.place.record:
            raise ConfigError(f"process {self.pid} still writes the record {record}: name another file")

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        try:
            return self._peer.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def dismiss(self) -> None:
        """Tell it that this server accepts connections; returns when it accepts no more."""
        self.dismissed, loop = True, asyncio.get_running_loop()
        with suppress(OSError, TimeoutError):  # it has ended, or stands still: both accept nothing
            await loop.sock_sendall(self._peer, IN_PLACE)
            async with asyncio.timeout(ANSWER_S):
                await loop.sock_recv(self._peer, 1)


def _connect(pid: int) -> socket.socket:
    """A connection to a server of this user. Raises `ConfigError`."""
    if sys.platform != "linux":
        raise ConfigError("--replace needs Linux: stop the running server, then start this one")
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_S)
    try:
        connection.connect(_address(pid))
        if _peer(connection) == (pid, os.geteuid()):
            return connection
    except OSError:
        pass
    connection.close()
    raise ConfigError(_why_not(pid))


def _why_not(pid: int) -> str:
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return f"there is no process {pid} to replace"
    if owner != os.geteuid():
        return f"process {pid} is another user's: only the user who started a server may replace it"
    return f"process {pid} is no orcinus server that serves: give the process id of orcinus serve itself, not of its engine"


def place_of(listener: socket.socket, host: str, record: str | Path | None) -> ServerPlace:
    """The place of a server that listens here."""
    return ServerPlace(host, listener.getsockname()[1], None if record is None else os.path.abspath(record))
