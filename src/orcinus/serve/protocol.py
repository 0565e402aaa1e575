"""Uvicorn's HTTP protocol with bounds: on the size of headers, on the time to send them, and on the time to read an answer."""

from __future__ import annotations

import asyncio
import http
import json
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orcinus.serve.errors import ApiError

MOST_HEADER_BYTES = 64 * 1024
HEADERS_WITHIN_S = 10.0
STUCK_S = 60.0
UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431 or 408 and closes the connection, instead of collecting headers without end.

    The head of a request is collected until it is whole. An Upgrade header is then renamed: nothing is upgraded here, and a
    parser that believes otherwise takes the body for something else. A client that leaves its answer unread is cut off.
    """

    _head = b""  # of a request, until it is whole
    _between = True  # no request is being read
    _in_headers = False  # the parser is in the middle of them
    _piped = 0  # bytes that came meanwhile
    _refused = False  # nothing more is read from this connection
    _timer: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._unstick()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._between:
            whole = self._take_head(data)
            if whole is None:
                return
            data = whole
        super().data_received(data)
        if self._in_headers and not self._refused:  # of a request that came together with the one before
            self._piped += len(data)
            if self._timer is None:
                self._wait_for_headers()
            if self._piped > MOST_HEADER_BYTES:
                self._refuse_size()

    def _take_head(self, data: bytes) -> bytes | None:
        """What came so far, once it holds all headers. What is no HTTP at all is passed on at once, to be refused."""
        if not self._head:
            self._wait_for_headers()
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if (len(self._head) if end < 0 else end) > MOST_HEADER_BYTES:
            self._refuse_size()
            return None
        if end < 0 and self._head[:1].isalpha():
            return None
        head, rest, self._head = self._head[: max(end, 0)], self._head[max(end, 0) :], b""
        self._between = False
        return UPGRADE.sub(b"\r\nX-Upgrade:", head) + rest

    def on_message_begin(self) -> None:
        self._between, self._in_headers, self._piped = False, True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unstick()
        self._stuck = self.loop.call_later(STUCK_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._unstick()
        super().resume_writing()

    def _unstick(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(ApiError(400, "this is no HTTP request", code="invalid_http"))

    def _wait_for_headers(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(HEADERS_WITHIN_S, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._head or self._in_headers:
            self._refuse(ApiError(408, f"the headers took longer than {HEADERS_WITHIN_S:.0f} s", code="slow_request"))
        else:  # it has said nothing at all
            self._refused = True
            self.transport.close()

    def _refuse_size(self) -> None:
        size = MOST_HEADER_BYTES // 1024
        self._refuse(ApiError(431, f"path and headers are larger than {size} KiB", code="headers_too_large"))

    def _refuse(self, error: ApiError) -> None:
        """Answer and close; an answer to an earlier request that is under way is finished first."""
        self._refused = True
        self._stop_waiting()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body):
            cycle.keep_alive = False
            return
        body = json.dumps(error.body).encode()
        reason = http.HTTPStatus(error.status).phrase.encode()
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (error.status, reason, len(body)) + body)
        self.transport.close()
