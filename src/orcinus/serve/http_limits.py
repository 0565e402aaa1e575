"""Uvicorn's HTTP protocol with limits on each connection's memory and time."""

from __future__ import annotations

import asyncio
import http
import json
import re
import resource
from collections import OrderedDict
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orcinus.errors import shown
from orcinus.serve.errors import ApiError, error_body

MOST_HEADER_BYTES = 64 * 1024
HEADERS_WITHIN_S = 10.0
STUCK_S = 60.0
LINGER_S = 10.0  # for the rest of a body whose request is already answered
MOST_PIPELINED = 16  # requests queued behind the one being answered
MOST_CONNECTIONS = 8192
SPARE_FILES = 64  # beside connections
UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class BoundedProtocol(HttpToolsProtocol):
    """Answers 431, 408 or 503 and closes connections that exceed a limit.

    The head of a request is collected until it is complete. An Upgrade header is then renamed: nothing is upgraded here, and a
    parser that believes otherwise takes the body for something else. Bytes after the head must bring the request forward: chunk
    extensions, trailers (which mean nothing here) and the heads of further requests have the same limit as a head. A client
    that leaves its answer unread is cut off, and so is one that goes on sending behind its answer. A body that is encoded for
    its transfer in another way than in chunks gets 501: the parser would pass it on as it is.

    Connections that wait for no answer make room for new ones, the longest-waiting first.
    """

    unoccupied: ClassVar[OrderedDict[BoundedProtocol, None]] = OrderedDict()  # connections that wait for no answer
    _head = b""  # of an incomplete request
    _between = True  # no request is being read
    _in_headers = False  # the parser is inside the headers
    _moved = False  # the last bytes brought a request forward
    _idle_bytes = 0  # that did not, in a row
    _refusal = ApiError(400, "this is not an HTTP request", code="invalid_http")  # if the parser stops
    _refused = False  # no more bytes are read from this connection
    _timer: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.unoccupied[self] = None
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if len(self.connections) > min(MOST_CONNECTIONS, max(1, files - SPARE_FILES)):
            oldest, _ = self.unoccupied.popitem(last=False)
            oldest._make_room(self)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self.unoccupied.pop(self, None)
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
        self._moved = False
        super().data_received(data)
        if self._refused:
            return
        self._idle_bytes = 0 if self._moved else self._idle_bytes + len(data)
        if self._in_headers and self._timer is None:  # of a request that came together with the one before
            self._wait_for_headers()
        if self._idle_bytes > MOST_HEADER_BYTES:
            self._refuse_size()

    def _take_head(self, data: bytes) -> bytes | None:
        """The bytes so far, once they hold all headers.

        Bytes that are not HTTP are passed on at once, to be refused.
        """
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
        if len(self.pipeline) >= MOST_PIPELINED:
            raise OverflowError("too many requests in a row")  # the parser makes it an error of its own
        self._between, self._in_headers, self._moved = False, True, True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_headers:  # it is a trailer
            return
        if name.lower() == b"transfer-encoding" and value.strip(b" \t").lower() != b"chunked":
            said = shown(value.decode("latin-1"))
            self._refusal = ApiError(501, f"Transfer-Encoding {said} is not known here, only chunked", code="unknown_coding")
            raise ValueError("an unknown coding")  # the parser makes it an error of its own
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_headers, self._moved = False, True
        self._stop_waiting()
        self.unoccupied.pop(self, None)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._between = self._moved = True
        self._stop_waiting()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:
            self.unoccupied[self] = None
            if self.cycle.more_body and not self._between:
                self._stop_waiting()
                self._timer = self.loop.call_later(LINGER_S, self.transport.close)

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
        self._refuse(self._refusal)

    def _wait_for_headers(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(HEADERS_WITHIN_S, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_room(self, newcomer: BoundedProtocol) -> None:
        if self is newcomer:  # all others are being answered
            error = ApiError(503, "too many connections", code="too_many_connections", headers={"Retry-After": "1"})
            self._refuse(error)
        else:  # without a response, which might be taken for that of a request on its way
            self._refused = True
            self.transport.close()

    def _too_slow(self) -> None:
        if self._head or self._in_headers:
            self._refuse(ApiError(408, f"the headers took longer than {HEADERS_WITHIN_S:.0f} s", code="slow_request"))
        else:  # it has said nothing at all
            self._refused = True
            self.transport.close()

    def _refuse_size(self) -> None:
        size = MOST_HEADER_BYTES // 1024
        self._refuse(ApiError(431, f"path and headers are larger than {size} KiB", code="headers_too_large"))

    def _path(self) -> str:
        """The path of the request being read, as far as it is known."""
        target = self._head.split(b" ", 2)[1] if self._head.count(b" ") > 1 else getattr(self, "url", b"")
        return str(target[:64].partition(b"?")[0], "latin-1")

    def _refuse(self, error: ApiError) -> None:
        """Send an error and close, after any answer under way."""
        self._refused = True
        self._stop_waiting()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body):
            cycle.keep_alive = False
            return
        if cycle is not None and cycle.response_complete and cycle.more_body:  # this request has its answer
            self.transport.close()
            return
        body = json.dumps(error_body(error, self._path(), None)).encode()
        reason = http.HTTPStatus(error.status).phrase.encode()
        extra = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items()).encode()
        head = b"HTTP/1.1 %d %s\r\n%bcontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % (error.status, reason, extra, len(body)) + body)
        self.transport.close()
