"""Uvicorn's HTTP protocol with bounds on headers: how large they may be, and how long a client may take to send them."""

from __future__ import annotations

import asyncio
import http
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orcinus.serve.errors import ApiError

MOST_HEADER_BYTES = 64 * 1024
HEADERS_WITHIN_S = 10.0


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431 or 408 and closes the connection, instead of collecting headers without end."""

    _header_bytes = 0  # of the request whose headers are being read
    _in_headers = False
    _refused = False  # nothing more is read from this connection
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._in_headers:  # not even complete yet
            self._count(len(data))

    def on_message_begin(self) -> None:
        self._in_headers, self._header_bytes = True, 0
        self._wait_for_headers()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._stop_waiting()
        self._count(len(self.url))
        if not self._refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            self._refuse(ApiError(400, "this is no HTTP request", code="invalid_http"))

    def _count(self, more: int) -> None:
        self._header_bytes += more
        if self._header_bytes > MOST_HEADER_BYTES and not self._refused:
            size = MOST_HEADER_BYTES // 1024
            self._refuse(ApiError(431, f"path and headers are larger than {size} KiB", code="headers_too_large"))

    def _wait_for_headers(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(HEADERS_WITHIN_S, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._in_headers:
            self._refuse(ApiError(408, f"the headers took longer than {HEADERS_WITHIN_S:.0f} s", code="timeout"))
        else:  # it has said nothing at all
            self._refused = True
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        self._refused = True
        self._stop_waiting()
        if self.cycle is None or self.cycle.response_complete:  # else an answer to an earlier request is being written
            body = json.dumps(error.body).encode()
            reason = http.HTTPStatus(error.status).phrase.encode()
            head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % (error.status, reason, len(body)) + body)
        self.transport.close()
