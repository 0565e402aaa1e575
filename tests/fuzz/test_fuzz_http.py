"""Damaged HTTP over real sockets: every connection gets an answer or its end in time, never a 5xx, and the server goes on."""

from __future__ import annotations

import json
from pathlib import Path

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
        assert answers.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), (raw, answers)
        return
    for status, body in responses(answers):
        assert 100 <= status < 500, (raw, answers)
        if status >= 400:
            assert json.loads(body)["error"], (raw, answers)


@examples(50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(RAW, min_size=8, max_size=8))
@example(SAMPLES)
def test_any_bytes_are_answered_or_refused(hasty: Running, requests: list[bytes]) -> None:
    check(hasty, requests)
    assert chats(hasty)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.stem)
def test_what_once_was_wrong_is_right(hasty: Running, seed: Path) -> None:
    check(hasty, [seed.read_bytes()])
