"""Reads bodies from the network, with limits on size and pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.requests import ClientDisconnect

from orcinus.serve.errors import CLIENT_CLOSED, ApiError

MOST_BYTES = 8 * 2**20  # of one body
MOST_BYTES_AT_ONCE = 64 * 2**20  # bytes of all bodies that are being read or parsed
SILENCE_S = 10.0  # most seconds without a byte
WITHIN_S = 60.0  # most seconds for a whole body
PACE = 16 * 1024  # least bytes per second, after the first `SILENCE_S`
CLOSE = {"Connection": "close"}


@dataclass(eq=False)
class Body:
    """A body being read; its bytes count until it is released."""

    reading: BodyReader
    raw: bytearray
    began: float

    def add(self, chunk: bytes) -> None:
        """Add bytes. Raises `ApiError` 413 or 429."""
        if len(self.raw) + len(chunk) > MOST_BYTES:
            raise _too_large()
        self.raw += chunk
        self.reading.bytes += len(chunk)
        # A body may have at most what is left for others: small ones find room beside any number of large ones.
        if len(self.raw) > MOST_BYTES_AT_ONCE - self.reading.bytes:
            message = "the server is reading too many large bodies at once; try again in 1 s"
            raise ApiError(429, message, code="too_many_bodies", headers={"Retry-After": "1", **CLOSE})

    def patience(self, now: float) -> float:
        """Seconds to wait for the next byte."""
        left = self.began + min(SILENCE_S + len(self.raw) / PACE, WITHIN_S) - now
        return max(0.0, min(SILENCE_S, left))


@dataclass(eq=False)
class BodyReader:
    """All bodies that a server reads at the moment."""

    bytes: int = 0

    @contextmanager
    def body(self) -> Iterator[Body]:
        """A new body, whose bytes count until the block ends."""
        body = Body(self, bytearray(), asyncio.get_running_loop().time())
        try:
            yield body
        finally:
            self.bytes -= len(body.raw)


async def receive(request: Request, body: Body) -> bytes:
    """Read the whole body of a request.

    Raises `ApiError` 408, 413, 415, 429 or 499.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "send the body with Content-Type: application/json", code="unsupported_media_type")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise ApiError(415, "send the body uncompressed, without Content-Encoding", code="unsupported_media_type")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MOST_BYTES:
        raise _too_large()
    stream = request.stream()
    now = asyncio.get_running_loop().time
    while True:
        patience = body.patience(now())
        try:
            chunk = await _next(stream, patience)
        except TimeoutError:
            raise _slow(silent=patience > SILENCE_S / 2) from None
        except ClientDisconnect:
            raise ApiError(CLIENT_CLOSED, "the client hung up", code="client_closed") from None
        if chunk is None:
            return bytes(body.raw)
        body.add(chunk)


async def _next(stream: AsyncIterator[bytes], patience: float) -> bytes | None:
    """The next part of a body; None after the last.

    Raises `TimeoutError` if it does not come in time.
    """
    async with asyncio.timeout(patience):
        return await anext(stream, None)


def _slow(*, silent: bool) -> ApiError:
    if silent:
        message = f"the body is not complete, and nothing came for {SILENCE_S:.0f} s"
    else:
        message = f"the body comes too slowly: send {PACE // 1024} KiB a second or more, and all of it within {WITHIN_S:.0f} s"
    return ApiError(408, message, code="slow_request", headers=CLOSE)


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MOST_BYTES // 2**20} MiB", code="body_too_large")
