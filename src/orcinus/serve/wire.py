"""The socket between a server's two processes: typed MessagePack messages."""

from __future__ import annotations

from collections import Counter

import msgspec
import zmq
import zmq.asyncio

from orcinus.core.unserved import Reason
from orcinus.errors import EngineError, cause
from orcinus.serve.computing_file import read_computing
from orcinus.serve.messages import FromEngine, ToEngine
from orcinus.socket_folder import SocketFolder


def _decode_counter(_: type[Counter[Reason]], counts: dict[str, int]) -> Counter[Reason]:
    """A timeline's waits, the one type msgspec cannot decode itself."""
    return Counter({Reason(name): count for name, count in counts.items()})


encode = msgspec.msgpack.Encoder(enc_hook=int).encode  # a default max_tokens is a subclass of int
decode_to_engine = msgspec.msgpack.Decoder(ToEngine).decode
decode_from_engine = msgspec.msgpack.Decoder(FromEngine, dec_hook=_decode_counter).decode


class ServerWire:
    """The HTTP process's end; all methods belong to one event loop.

    Raises `ConfigError` if there is no folder for the socket.
    """

    def __init__(self) -> None:
        self._folder = SocketFolder()
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket = self._context.socket(zmq.PAIR)

    def bind(self) -> str:
        """Open the socket; returns the address for the other end."""
        self._socket.set_hwm(0)
        self._socket.bind(self._folder.address)
        return self._folder.address

    def send(self, message: ToEngine) -> None:
        """Queue a message. Never waits."""
        self._socket.send(encode(message))

    def computing(self) -> frozenset[str] | None:
        """The ids of the requests that the engine computes, or computed when it died.

        None if it could not say.
        """
        return read_computing(self._folder.computing)

    async def receive(self) -> FromEngine:
        """The next message. Raises `EngineError` for bytes that are none."""
        raw = await self._socket.recv()
        try:
            message: FromEngine = decode_from_engine(raw)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise EngineError(f"the engine sent what is no message ({cause(error)})") from None
        return message

    def close(self) -> None:
        """Close the socket, drop unsent messages and remove its folder."""
        self._socket.close(linger=0)
        self._context.term()
        self._folder.remove()


class EngineWire:
    """The engine process's end, for one thread."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        self._socket.set_hwm(0)
        self._socket.connect(address)

    def wait(self, milliseconds: int) -> bool:
        """Whether a message comes within this time."""
        return bool(self._socket.poll(milliseconds))

    def receive(self) -> ToEngine:
        """The next message."""
        message: ToEngine = decode_to_engine(self._socket.recv())
        return message

    def send(self, message: FromEngine) -> None:
        """Queue a message; ZeroMQ's own thread sends it. Never waits."""
        self._socket.send(encode(message))

    def close(self, linger_s: float) -> None:
        """Close the socket, with `linger_s` seconds for unsent messages."""
        self._socket.close(linger=int(1000 * linger_s))
        self._context.term()
