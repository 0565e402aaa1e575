"""A server that answers what a test wants, byte for byte, and remembers when it wrote what. It runs in the client's loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from orcinus.bench.client.bodies import Form
from orcinus.bench.client.load_generator import LoadGenerator, execute
from orcinus.bench.client.target import Target
from orcinus.bench.record import Repeat
from orcinus.workload.workload import make_workload

STREAM = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
Answer = Callable[["Request"], Awaitable[None]]


def run(test: Coroutine[Any, Any, Any]) -> Any:
    """Within some time: a client that waits for ever must fail its test, not stop all tests."""
    return execute(asyncio.wait_for(test, 30))


@dataclass
class Request:
    """What came, and how to answer it."""

    number: int
    connection: int
    line: str
    headers: dict[str, str]
    body: dict[str, Any]
    out: asyncio.StreamWriter
    at: float
    written: list[float] = field(default_factory=list)  # when each frame was

    async def raw(self, data: bytes) -> None:
        self.out.write(data)
        await self.out.drain()

    async def head(self, status: str = "200 OK", headers: dict[str, str] | None = None) -> None:
        lines = [
            f"HTTP/1.1 {status}",
            *(f"{name}: {value}" for name, value in (STREAM if headers is None else headers).items()),
        ]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        self.written.append(time.monotonic())
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def frame(self, content: dict[str, Any] | str) -> None:
        data = content if isinstance(content, str) else json.dumps(content)
        await self.chunk(f"data: {data}\n\n".encode())

    async def end(self) -> None:
        await self.frame("[DONE]")
        await self.raw(b"0\r\n\r\n")

    async def whole(self, status: str, content: dict[str, Any] | str, **headers: str) -> None:
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        fields = {"content-type": "application/json", "content-length": str(len(data))}
        await self.head(status, fields | {name.replace("_", "-"): value for name, value in headers.items()})
        await self.raw(data)

    async def tokens(self, count: int, gap: float = 0.0) -> None:
        """A stream of tokens, as Orcinus and vLLM have it, to its end."""
        await self.head()
        for number in range(1, count + 1):
            if gap and number > 1:
                await asyncio.sleep(gap)
            await self.frame(token(number, last=number == count))
        await self.end()


def token(number: int, *, last: bool = False, ids: bool = True) -> dict[str, Any]:
    """A frame of a completion with one token."""
    choice: dict[str, Any] = {"index": 0, "text": f" t{number}", "finish_reason": "length" if last else None}
    return {"choices": [choice | ({"token_ids": [number]} if ids else {})]}


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


@dataclass
class Fake:
    """The server, while it runs."""

    answer: Answer
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    readers: list[asyncio.StreamReader] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def form(self, **fields: Any) -> Form:
        """How to load it."""
        return Form(Target(self.url, "m"), **fields)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections, connection = self.connections + 1, self.connections
        self.open.add(writer)
        self.readers.append(reader)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await self.read(reader, writer, connection)
                self.requests.append(request)
                await self.answer(request)
        self.open.discard(writer)
        writer.close()

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> Request:
        line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(one.split(": ", 1) for one in rest if one)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        number = len(self.requests)
        return Request(number, connection, line, headers, json.loads(body or b"{}"), writer, time.monotonic())


@asynccontextmanager
async def fake(answer: Answer) -> AsyncIterator[Fake]:
    """A server for the block, on a port of its own."""
    server = Fake(answer)
    listening = await asyncio.start_server(server.connected, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for writer in list(server.open):
            writer.transport.abort()
        await asyncio.sleep(0.01)


def workload(arrivals: str, requests: int, tokens: int = 3) -> Any:
    return make_workload(arrivals, f"fixed:tokens=8,fixed:tokens={tokens}", requests)


def measured(answer: Answer, arrivals: str = "constant:rate=100", requests: int = 1, tokens: int = 3, **options: Any) -> Repeat:
    """One run against a server that answers so."""

    async def test() -> Repeat:
        async with fake(answer) as server:
            form = server.form(exact_lengths=options.pop("exact_lengths", True))
            return await LoadGenerator(
                form, workload(arrivals, requests, tokens), **{"timeout": 5, "max_delay": 5, **options}
            ).run()

    found: Repeat = run(test())
    return found
