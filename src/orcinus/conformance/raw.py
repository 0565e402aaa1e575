"""Checks with requests that no client library sends."""

from __future__ import annotations

import json
import time

from orcinus.conformance.registry import check
from orcinus.conformance.shapes import error_in
from orcinus.conformance.target import CHAT, HI, ServerUnderTest
from orcinus.conformance.verdict import expect, expect_equal
from orcinus.conformance.wire import RawResponse, connected, exchange, posting, receive, request

JSON = "Content-Type: application/json"


def _refused(target: ServerUnderTest, answer: RawResponse, *statuses: int) -> None:
    expect(answer.status in statuses, f"status {answer.status}, not {' or '.join(map(str, statuses))}")
    error_in(answer.body, answer.status)
    target.unharmed()


@check("wire: a header of 100 KB is 431")
def _large_header(target: ServerUnderTest) -> None:
    target.remember()
    _refused(target, exchange(target, request(target, "GET /v1/models HTTP/1.1", f"X-Large: {'x' * 100_000}")), 431)


@check("wire: 2,000 headers are 431 or 400")
def _many_headers(target: ServerUnderTest) -> None:
    target.remember()
    many = [f"X-{i}: {'x' * 40}" for i in range(2000)]
    _refused(target, exchange(target, request(target, "GET /v1/models HTTP/1.1", *many)), 431, 400)


@check("wire: a body shorter than its Content-Length is 408 after 10 s, and the connection is closed", ours=True, slow=True)
def _short_body(target: ServerUnderTest) -> None:
    target.remember()
    sent = request(target, f"POST {CHAT} HTTP/1.1", JSON, "Content-Length: 500", body=b'{"messages"')
    answer = exchange(target, sent, timeout=20, then_closed=True)
    expect(9 <= answer.seconds <= 13, f"the answer came after {answer.seconds:.1f} s")
    _refused(target, answer, 408)


@check("wire: Content-Length that is no number is 400")
def _no_number(target: ServerUnderTest) -> None:
    target.remember()
    for length in ("many", "-5", "1e3"):
        answer = exchange(target, request(target, f"POST {CHAT} HTTP/1.1", JSON, f"Content-Length: {length}", body=b"{}"))
        expect(answer.status in (400, 411), f"status {answer.status} for Content-Length: {length}")
    target.unharmed()


@check("wire: no HTTP at all is 400, or the connection ends")
def _no_http(target: ServerUnderTest) -> None:
    target.remember()
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"):
        with connected(target, 5) as one:
            one.sendall(sent)
            found = one.recv(100)
        expect(found == b"" or found.split()[1] in (b"400", b"505", b"404"), f"the answer is {found[:30]!r}")
    target.unharmed()


@check("wire: a body in chunks is a body")
def _chunks(target: ServerUnderTest) -> None:
    content = json.dumps({"model": target.model, "messages": HI, "max_tokens": 2}).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:9], content[9:])) + b"0\r\n\r\n"
    answer = exchange(target, request(target, f"POST {CHAT} HTTP/1.1", JSON, "Transfer-Encoding: chunked", body=chunks))
    expect_equal(answer.status, 200, "status")


@check("wire: a body that is larger than was said does not become a second request")
def _smuggled(target: ServerUnderTest) -> None:
    hidden = request(target, "GET /v1/models HTTP/1.1")
    line = f"POST {CHAT} HTTP/1.1"
    answer = exchange(
        target, request(target, line, JSON, "Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n" + hidden)
    )
    expect(answer.status in (400, 408, 411, 501), f"status {answer.status} for two lengths of a body")  # fmt: skip


@check("wire: a connection goes on after an error")
def _goes_on(target: ServerUnderTest) -> None:
    bad = posting(target, CHAT, {"messages": []})
    good = posting(target, CHAT, {"messages": HI, "max_tokens": 1})
    with connected(target) as one:
        for sent, status in ((bad, b"400"), (good, b"200")):
            one.sendall(sent)
            expect_equal(receive(one).split()[1], status, "status")


@check("wire: a connection is kept for longer than the 5 s for which clients keep theirs", ours=True, slow=True)
def _kept(target: ServerUnderTest) -> None:
    # A server that closes when the client is about to send again makes requests fail now and then.
    with connected(target) as one:
        for pause in (6.0, 0.0):
            one.sendall(request(target, "GET /v1/models HTTP/1.1"))
            expect(receive(one).startswith(b"HTTP/1.1 200"), "the connection was closed after 6 s")
            time.sleep(pause)


@check("wire: HTTP/1.0 is answered")
def _old(target: ServerUnderTest) -> None:
    expect_equal(exchange(target, request(target, "GET /v1/models HTTP/1.0")).status, 200, "status")
