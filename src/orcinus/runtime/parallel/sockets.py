"""The sockets between the engine's process and its ranks, on one machine or several."""

from __future__ import annotations

from dataclasses import dataclass

import zmq

from orcinus.core.batch import BatchResult
from orcinus.runtime.parallel.messages import (
    RankReport,
    ToRank,
    decode_report,
    decode_result,
    decode_to_rank,
    encode,
)
from orcinus.socket_folder import SocketFolder

JOINED = b"\x01"  # what a publisher hears of a new subscriber


@dataclass(frozen=True, slots=True)
class RankAddresses:
    """Where ranks find the engine's process."""

    batches: str
    results: str
    reports: str
    key: str = ""  # the engine's public key, if others can reach its sockets: who does not have it cannot connect


class EngineSockets:
    """The engine's ends: batches to all ranks, results of one, reports of all.

    On one machine they lie in a private folder; with `host` they are bound to that address, encrypted (CurveZMQ), and only
    ranks, which were given the public key at their start, can connect. Raises `ConfigError` if there is no folder.
    """

    def __init__(self, host: str | None = None) -> None:
        self._context = zmq.Context()
        self.folder = SocketFolder()
        self._public, self._secret = zmq.curve_keypair() if host else (b"", b"")
        places = [f"tcp://{host}:*" if host else self.folder.socket(name) for name in ("batches", "results", "reports")]
        kinds = zmq.XPUB, zmq.PULL, zmq.PULL
        self._batches, self._results, self.reports = map(self._bound, kinds, places)
        self._batches.setsockopt(zmq.XPUB_VERBOSE, 1)  # tell of every subscriber, not of the first alone
        self._subscribers = 0

    def _bound(self, kind: int, place: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.set_hwm(0)
        socket.linger = 0
        if self._secret:
            socket.curve_secretkey, socket.curve_publickey, socket.curve_server = self._secret, self._public, True
        socket.bind(place)
        return socket

    @property
    def addresses(self) -> RankAddresses:
        """For the ranks."""
        batches, results, reports = (
            socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()  # type: ignore[union-attr]
            for socket in (self._batches, self._results, self.reports)
        )
        return RankAddresses(batches, results, reports, self._public.decode())

    def all_listen(self, ranks: int, milliseconds: int) -> bool:
        """Whether so many ranks hear what is broadcast; waits a while for more."""
        while self._subscribers < ranks and self._batches.poll(milliseconds):
            self._subscribers += self._batches.recv()[:1] == JOINED
        return self._subscribers >= ranks

    def broadcast(self, message: ToRank) -> None:
        """Queue a message for every rank. Never waits."""
        self._batches.send(encode(message))

    def result(self, milliseconds: int) -> BatchResult | None:
        """The next result, if it comes within this time."""
        if not self._results.poll(milliseconds):
            return None
        found: BatchResult = decode_result(self._results.recv())
        return found

    def report(self, milliseconds: int) -> RankReport | None:
        """The next report, if it comes within this time. For one thread, which may be another than that of batches."""
        if not self.reports.poll(milliseconds):
            return None
        found: RankReport = decode_report(self.reports.recv())
        return found

    def close(self) -> None:
        """Close the sockets, drop unsent messages and remove the folder."""
        self._context.destroy(linger=0)
        self.folder.remove()


class RankSockets:
    """A rank's ends, for its main thread."""

    def __init__(self, addresses: RankAddresses) -> None:
        self._context = zmq.Context()
        self._addresses = addresses
        self._batches = self._connected(zmq.SUB, addresses.batches)
        self._batches.subscribe(b"")
        self._results = self._connected(zmq.PUSH, addresses.results)
        self._reports = self.reporter()

    def reporter(self) -> zmq.Socket[bytes]:
        """A socket of its own for reports, for another thread."""
        return self._connected(zmq.PUSH, self._addresses.reports)

    def _connected(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.set_hwm(0)
        if self._addresses.key:
            socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
            socket.curve_serverkey = self._addresses.key.encode()
        socket.connect(address)
        return socket

    def waiting(self) -> bool:
        """Whether a message from the engine is here."""
        return bool(self._batches.poll(0))

    def receive(self) -> ToRank:
        """The next message; waits without a limit, as an idle stage does."""
        message: ToRank = decode_to_rank(self._batches.recv())
        return message

    def answer(self, result: BatchResult) -> None:
        """Send a batch's result."""
        self._results.send(encode(result))

    def report(self, report: RankReport) -> None:
        """Send a report. Never waits."""
        self._reports.send(encode(report))

    def close(self, linger_s: float) -> None:
        """Close the sockets, with `linger_s` seconds for unsent messages."""
        self._context.destroy(linger=int(1000 * linger_s))
