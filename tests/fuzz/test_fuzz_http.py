"""Damaged HTTP over real sockets: every connection gets an answer or its end in time, and the server goes on.

No answer is a 5xx, but the one that RFC 9112 asks for where a coding is not known (section 6.1).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from tests.examples import examples
from tests.fuzz.conftest import chats
from tests.fuzz.mutations import mutated
from tests.fuzz.raw_http import BODY, COMPLETION, GET, HEADERS, SAMPLES, connect, responses, said
from tests.serve.conftest import Running

SEEDS = sorted((Path(__file__).parent / "seeds").glob("*.http"))  # what once was wrong


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """A request with some headers that say how long it is, and another one behind it."""
    headers = draw(st.lists(st.sampled_from(HEADERS), max_size=4))
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"]))
    body = draw(
        st.sampled_from([BODY, b"", b"1e\r\n" + BODY + b"\r\n0\r\n\r\n", b"0\r\n\r\n", b"-1\r\n", b"fffffffffffffffff\r\n"])
    )
    return COMPLETION + b"".join(header + end for header in headers) + b"\r\n" + body + draw(st.sampled_from([b"", GET]))


RAW = mutated(SAMPLES) | framed() | st.binary(max_size=200)


def check(server: Running, requests: list[bytes]) -> None:
    """All at once, each on a connection of its own."""
    connections = [connect(server.url) for _ in requests]
    try:
        for connection, raw in zip(connections, requests, strict=True):
            connection.sendall(raw)
        for connection, raw in zip(connections, requests, strict=True):
            answers = said(connection)  # it is closed in the end
            _check_answers(raw, answers)
    finally:
        for connection in connections:
            connection.close()


def _check_answers(raw: bytes, answers: bytes) -> None:
    begun = raw.lstrip(b"\r\n")
    assert answers or not begun, (raw, "no answer")
    if b"HEAD " in raw:  # whose answers' bodies h11 would wait for
        assert answers.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4", b"HTTP/1.1 501 ")), (raw, answers)
        return
    for status, body in responses(answers):
        code = json.loads(body)["error"].get("code") if status >= 400 else None  # Anthropic's errors have none
        assert 100 <= status < 500 or (status, code) == (501, "unknown_coding"), (raw, answers)


@examples(50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(RAW, min_size=8, max_size=8))
@example(SAMPLES)
def test_any_bytes_are_answered_or_refused(hasty: Running, requests: list[bytes]) -> None:
    check(hasty, requests)
    assert chats(hasty)


CONTROLS = re.compile("[\x00-\x1f\x7f]")  # which no parser lets through
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "M-SEARCH"]
ROUTES = [
    *(
        "/v1/models/",
        "/v1/requests/x/timeline",
        "/v1/responses/",
        "/v1/scheduler",
        "/metrics",
        "/health",
        "/ready",
        "/tokenize",
    ),
    *(
        "/openapi.json",
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/version",
        "/tokenizer_info",
        "*",
        "",
    ),
]
PATHS = st.tuples(
    st.sampled_from(ROUTES), st.text(max_size=8) | st.sampled_from(["..", "%00", "%ff%fe", "%2e%2e/", "?a=%", "x" * 9000])
)
NAMES = [
    "Accept",
    "Authorization",
    "X-API-Key",
    "Content-Type",
    "X-Request-ID",
    "Origin",
    "Accept-Encoding",
    "Range",
    "Sec-Fetch-Site",
]
VALUES = [
    *(
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text; version=1..0; escaping=\xb2",
        "text/plain;version=9",
    ),
    *(
        "Bearer",
        "Bearer a b",
        "Basic \xff",
        "bytes=0-",
        "null",
        "http://[::1",
        "http://a:99999",
        "application/json; charset=",
        "\xb2",
    ),
]
FIELDS = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(st.characters(codec="latin-1"), max_size=20), max_size=3
)


@examples(100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(METHODS), PATHS, FIELDS), min_size=8, max_size=8))
@example([("GET", ("/metrics", ""), {"Accept": VALUES[0]})])
def test_any_path_and_header_is_answered(hasty: Running, asked: list[tuple[str, tuple[str, str], dict[str, str]]]) -> None:
    requests = []
    for method, (route, rest), fields in asked:
        path = route + quote(rest, safe="/%?")
        lines = [f"{name}: {CONTROLS.sub('', value)}" for name, value in fields.items()]
        head = [f"{method} {path or '/'} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *lines]
        requests.append("\r\n".join([*head, "", ""]).encode("latin-1"))
    check(hasty, requests)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.stem)
def test_what_once_was_wrong_is_right(hasty: Running, seed: Path) -> None:
    check(hasty, [seed.read_bytes()])
