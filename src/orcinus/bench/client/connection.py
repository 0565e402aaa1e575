"""HTTP/1.1 connections that record each byte's arrival time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import httptools

from orcinus.bench.record import RequestOutcome


class Receiver(Protocol):
    """Receives an answer. Times are seconds of the monotonic clock."""

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        """The answer begins. Header names are in lower case."""

    def on_body(self, data: bytes, at: float) -> None:
        """A part of the body arrived."""

    def on_end(self, at: float) -> None:
        """The answer is complete. The connection may already serve another."""

    def on_lost(self, outcome: RequestOutcome, reason: str, *, stale: bool) -> None:
        """The connection ended before the answer was complete.

        `stale`: the connection had served other requests before, and no byte of this answer came.
        """


class Connection(asyncio.Protocol):
    """A connection for one answer at a time.

    `on_idle` and `on_closed` tell its pool that it is free, or gone.
    """

    transport: asyncio.Transport

    def __init__(self, on_idle: Callable[[Connection], None], on_closed: Callable[[Connection], None]) -> None:
        self._on_idle, self._on_closed = on_idle, on_closed
        self._parser = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._answered = self._heard = self._complete = self._until_close = self._reusable = self._closed = False
        self._headers: dict[str, str] = {}
        self._now = 0.0

    def send(self, request: bytes, receiver: Receiver) -> None:
        """Send a request; the receiver gets its answer."""
        self._receiver, self._heard = receiver, False
        self.transport.write(request)

    def drop(self) -> None:
        """Close it at once; its receiver hears no more."""
        self._receiver, self._closed = None, True
        self.transport.abort()

    @property
    def usable(self) -> bool:
        """Whether another request may be sent, as far as known."""
        return not (self._closed or self.transport.is_closing())

    # Callbacks of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # of a stream

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            if not self._closed:  # no request was sent: these bytes are no answer
                self.drop()
            return
        self._now, self._heard = time.monotonic(), True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(RequestOutcome.MALFORMED, f"this is no HTTP: {error}")
            return
        if self._complete:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._on_closed(self)
        if self._receiver is None:
            return
        if error is None and self._until_close:
            self._now = time.monotonic()
            self._finish()
        else:
            self._fail(RequestOutcome.RESET, str(error) if error is not None else "the server closed the connection")

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._complete:  # trailers or informational headers
            return
        self._until_close = not {"content-length", "transfer-encoding"} & self._headers.keys()
        if self._receiver is not None:
            self._receiver.on_head(status, self._headers)

    def on_body(self, data: bytes) -> None:
        if self._receiver is not None and not self._complete:
            self._receiver.on_body(data, self._now)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            # No request asked for a second answer; only now does the parser know whether there is one.
            self._reusable = self._parser.should_keep_alive() and not self._complete
            self._complete = True

    # Endings

    def _finish(self) -> None:
        receiver, self._receiver = self._receiver, None
        self._complete, self._until_close, self._answered = False, False, True
        if self._reusable and self.usable:
            self._on_idle(self)
        elif not self._closed:
            self.drop()
        if receiver is not None:  # it may have given up while its last bytes were read
            receiver.on_end(self._now)

    def _fail(self, outcome: RequestOutcome, reason: str) -> None:
        receiver, stale = self._receiver, self._answered and not self._heard
        if not self._closed:
            self.drop()
        self._receiver = None
        if receiver is not None:
            receiver.on_lost(outcome, reason, stale=stale)
