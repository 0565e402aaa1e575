"""HTTP requests as bytes, and what a server says to them, read strictly."""

from __future__ import annotations

import socket
from contextlib import suppress

import h11
import httpx

BODY = b'{"prompt":"Hi","max_tokens":1}'
JSON = b"Content-Type: application/json\r\n"
HOST = b"Host: 127.0.0.1\r\n"
COMPLETION = b"POST /v1/completions HTTP/1.1\r\n" + HOST + JSON
GET = b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"
WHOLE = COMPLETION + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = (
    COMPLETION
    + b"Transfer-Encoding: chunked\r\n\r\n5\r\n"
    + BODY[:5]
    + b"\r\n%x\r\n" % len(BODY[5:])
    + BODY[5:]
    + b"\r\n0\r\n\r\n"
)
SAMPLES = [
    GET,
    WHOLE,
    CHUNKED,
    GET + WHOLE + GET,
    CHUNKED + GET,
    b"HEAD /health HTTP/1.1\r\n" + HOST + b"\r\n",
    b"OPTIONS /v1/completions HTTP/1.1\r\n" + HOST + b"Origin: http://a.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
    b"GET /openapi.json HTTP/1.0\r\n\r\n",
    b"GET http://127.0.0.1/metrics?a=b#c HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
    b"GET /v1/requests/%2e%2e%2fetc%2fpasswd/timeline HTTP/1.1\r\n" + HOST + b"Authorization: Bearer x\r\n\r\n",
    COMPLETION + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    COMPLETION + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    COMPLETION + b"Transfer-Encoding: chunked\r\nTrailer: x\r\n\r\n%x;a=b\r\n" % len(BODY) + BODY + b"\r\n0\r\nX: y\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"DELETE /v1/responses/resp_1 HTTP/1.1\r\n" + HOST + b"X-Request-ID: a\r\n\r\n",
]
HEADERS = [  # that matter to how a request is framed, or that a server echoes
    *(b"Content-Length: 0", b"Content-Length: 30", b"Content-Length: +30", b"Content-Length: 30, 30", b"Content-Length: -1"),
    *(b"Content-Length: 99999999999999999999", b"Content-Length : 30", b" Content-Length: 30", b"Content-Length: 0x1e"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked"),
    *(b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding : chunked"),
    *(
        b"Transfer_Encoding: chunked",
        b"TE: trailers",
        b"Connection: close",
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: h2c",
    ),
    *(b"Host: 127.0.0.1", b"Host: evil.example", b"Host:", b"X-Request-ID: \x00", b"X-Request-ID: " + b"x" * 300),
    *(b"Expect: 100-continue", b"Expect: nonsense", b"Content-Encoding: gzip", b"Origin: null", b"Cookie: \xff\xfe"),
    *(
        b"Authorization: Bearer",
        b"Content-Type: text/plain",
        b"Content-Type: application/json; charset=\xff",
        b": empty",
        b"no colon",
    ),
]


def connect(url: str) -> socket.socket:
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port or 80), timeout=10)


def said(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection. Raises `TimeoutError` if it does not."""
    found = bytearray()
    with suppress(ConnectionResetError, BrokenPipeError):
        while part := connection.recv(65536):
            found += part
    return bytes(found)


def responses(raw: bytes, requests: int = 100) -> list[tuple[int, bytes]]:
    """Status and body of each response, by a strict parser. Raises `h11.RemoteProtocolError` for what is none."""
    found: list[tuple[int, bytes]] = []
    while raw and len(found) < requests:
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(raw)
        status, body = 0, b""
        while not isinstance(event := reader.next_event(), h11.EndOfMessage | h11.PAUSED):
            match event:
                case h11.InformationalResponse() | h11.Response():
                    status = event.status_code
                case h11.Data():
                    body += event.data
                case h11.NEED_DATA:
                    reader.receive_data(b"")  # the server has closed
                case h11.ConnectionClosed():
                    break
        found.append((status, body))
        raw = bytes(reader.trailing_data[0])
    return found
