"""A pool of reused connections to one server."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from orcinus.bench.client.connection import Connection, Receiver
from orcinus.bench.client.target import Target
from orcinus.bench.record import RequestOutcome

try:
    import resource
except ImportError:  # there is none on Windows
    resource = None  # type: ignore[assignment]


@dataclass(slots=True)
class Line:
    """The source of an answer: a connection, open or being opened."""

    task: asyncio.Task[None] | None = None
    connection: Connection | None = None

    def drop(self) -> None:
        """Give up; the receiver hears no more.

        Not to be called after an ending, when the connection may serve another request.
        """
        if self.connection is not None:
            self.connection.drop()
        elif self.task is not None:
            self.task.cancel()


class Pool:
    """Sends each request over an idle connection, or over a new one."""

    def __init__(self, target: Target) -> None:
        self._host, self._port, self._tls = target.host, target.port, target.tls
        self._address: tuple[str, int] | None = None  # of the first connection: the name is looked up once
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        _allow_many_connections()

    def send(self, request: bytes, receiver: Receiver, *, fresh: bool = False) -> Line:
        """Send a request; `fresh` opens a new connection.

        The receiver hears of everything that follows, but never before this returns.
        """
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.usable:
                connection.send(request, receiver)
                return Line(connection=connection)
        line = Line()
        line.task = asyncio.get_running_loop().create_task(self._connect(line, request, receiver))
        self._connecting.add(line.task)
        line.task.add_done_callback(self._connecting.discard)
        return line

    async def close(self) -> None:
        """Drop every connection."""
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        for connection in list(self._open):
            connection.drop()
        while self._open:  # transports close in the loop's next turns
            await asyncio.sleep(0)

    async def _connect(self, line: Line, request: bytes, receiver: Receiver) -> None:
        host, port = self._address or (self._host, self._port)
        name = self._host if self._tls is not None else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(self._idle.append, self._open.discard), host, port, ssl=self._tls, server_hostname=name
            )
        except OSError as error:  # of TLS, too
            receiver.on_lost(RequestOutcome.RESET, f"cannot connect: {error.strerror or error}", stale=False)
            return
        self._open.add(connection)
        if self._address is None:
            self._address = connection.transport.get_extra_info("peername")[:2]
        line.connection = connection
        if connection.usable:
            connection.send(request, receiver)
        else:
            receiver.on_lost(RequestOutcome.RESET, "the server closed the connection", stale=False)


def _allow_many_connections() -> None:
    """Raise the limit of open files as far as possible."""
    if resource is not None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
