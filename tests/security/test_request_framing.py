"""Requests whose end two readers could see in different places: one 400, and nothing behind them is read."""

from __future__ import annotations

import json

import pytest

from tests.fuzz.raw_http import BODY, COMPLETION, connect, responses, said
from tests.serve.conftest import Running

HIDDEN = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"  # the request that a smuggler wants to be read
LENGTH = b"Content-Length: %d" % len(BODY)
CODED = b"Transfer-Encoding: chunked"
CHUNKS = b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"


def post(*headers: bytes, body: bytes, end: bytes = b"\r\n") -> bytes:
    return COMPLETION + b"".join(header + end for header in headers) + b"\r\n" + body


AMBIGUOUS = {
    "a length and a coding": post(LENGTH, CODED, body=CHUNKS),
    "a coding and a length": post(CODED, LENGTH, body=CHUNKS),
    "two lengths": post(LENGTH, b"Content-Length: 3", body=BODY),
    "a length twice": post(LENGTH, LENGTH, body=BODY),
    "a list of lengths": post(b"Content-Length: 30, 30", body=BODY),
    "a length with a sign": post(b"Content-Length: +30", body=BODY),
    "a length in hexadecimals": post(b"Content-Length: 0x1e", body=BODY),
    "a blank before the colon of a length": post(b"Content-Length : 30", body=BODY),
    "a blank before the colon of a coding": post(b"Transfer-Encoding : chunked", body=CHUNKS),
    "a coding on a folded line": post(b"Transfer-Encoding:\r\n chunked", body=CHUNKS),
    "a coding twice": post(CODED, CODED, body=CHUNKS),
    "lines that end with LF": post(LENGTH, body=BODY, end=b"\n"),
    "lines that end with CR": post(LENGTH, body=BODY, end=b"\r"),
    "a folded line": post(b"X: a\r\n b", LENGTH, body=BODY),
    "a zero byte": post(b"X: a\x00b", LENGTH, body=BODY),
    "a chunk's size with a sign": post(CODED, body=b"+" + CHUNKS),
    "a chunk's size with 0x": post(CODED, body=b"0x" + CHUNKS),
    "a chunk's size that overflows": post(CODED, body=b"10000000000000001e\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunks that end with LF": post(CODED, body=CHUNKS.replace(b"\r\n", b"\n")),
    "a chunk without an end": post(CODED, body=CHUNKS.replace(b"}\r\n", b"}")),
    "a blank behind a chunk's size": post(CODED, body=CHUNKS.replace(b"\r\n", b" \r\n", 1)),
    "LF in a chunk's extension": post(CODED, body=CHUNKS.replace(b"\r\n", b";a\nb\r\n", 1)),
}

UNKNOWN = 501, "unknown_coding"
CODINGS = {
    **dict.fromkeys((b"identity", b"gzip", b"gzip, chunked", b"xchunked", b'"chunked"'), UNKNOWN),
    **dict.fromkeys((b"chunked, identity", b"chunked, chunked", b""), (400, "invalid_http")),
}


def refusal(server: Running, request: bytes) -> tuple[int, str]:
    """The status and code of the only answer to a request with another one hidden behind it."""
    connection = connect(server.url)
    try:
        connection.sendall(request + HIDDEN)
        ((status, body),) = responses(said(connection))
    finally:
        connection.close()
    return status, json.loads(body)["error"]["code"]


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_is_refused_and_hides_no_other(server: Running, name: str) -> None:
    assert refusal(server, AMBIGUOUS[name]) == (400, "invalid_http")


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_in_another_coding_than_chunks_is_refused(server: Running, coding: bytes) -> None:
    """The parser knows chunks alone: it would pass a compressed body on as if it were the JSON."""
    for header in (b"Transfer-Encoding: ", b"transfer-encoding:"):
        assert refusal(server, post(header + coding, body=CHUNKS)) == CODINGS[coding]


def test_a_coding_in_two_headers_is_refused_like_one_in_one(server: Running) -> None:
    assert refusal(server, post(b"Transfer-Encoding: gzip", CODED, body=CHUNKS)) == UNKNOWN


@pytest.mark.parametrize("headers", [(LENGTH,), (CODED,)], ids=["a length", "a coding"])
def test_one_that_is_not_is_answered_and_so_is_the_next(server: Running, headers: tuple[bytes, ...]) -> None:
    body = BODY if headers == (LENGTH,) else CHUNKS
    connection = connect(server.url)
    try:
        connection.sendall(post(*headers, body=body) + HIDDEN.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        found = responses(said(connection))
    finally:
        connection.close()
    assert [status for status, _ in found] == [200, 200]
