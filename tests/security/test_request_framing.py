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
    "a coding that is none": post(b"Transfer-Encoding: identity", body=BODY),
    "a coding behind chunked": post(b"Transfer-Encoding: chunked, identity", body=CHUNKS),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=CHUNKS),
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


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_is_refused_and_hides_no_other(server: Running, name: str) -> None:
    connection = connect(server.url)
    try:
        connection.sendall(AMBIGUOUS[name] + HIDDEN)
        found = responses(said(connection))
    finally:
        connection.close()
    assert [status for status, _ in found] == [400]
    assert json.loads(found[0][1])["error"]["code"] == "invalid_http"


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
