"""Checks that client request ids are echoed and never used inside."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from orcinus.conformance.registry import check
from orcinus.conformance.shapes import expect_error
from orcinus.conformance.target import CHAT, HI, ServerUnderTest
from orcinus.conformance.verdict import expect, expect_equal


def _named(target: ServerUnderTest, name: str) -> httpx.Response:
    return target.ask(CHAT, {"messages": HI, "max_tokens": 20, "temperature": 0}, {"X-Request-ID": name})


@check("request ids: every answer has x-request-id")
def _present(target: ServerUnderTest) -> None:
    answer = target.ask(CHAT, {"messages": HI, "max_tokens": 1})
    expect(answer.headers.get("x-request-id"), "no x-request-id")
    expect(target.stream(CHAT, max_tokens=1).headers.get("x-request-id"), "no x-request-id on a stream")


@check("request ids: errors have x-request-id")
def _error(target: ServerUnderTest) -> None:
    answer = target.post(CHAT, {"messages": []}, {"X-Request-ID": "mine-1"})
    expect_error(answer, 400)
    expect_equal(answer.headers.get("x-request-id"), "mine-1", "x-request-id")


@check("request ids: X-Request-ID comes back")
def _echoed(target: ServerUnderTest) -> None:
    expect_equal(_named(target, "mine-2").headers.get("x-request-id"), "mine-2", "x-request-id")
    stream = target.stream(CHAT, headers={"X-Request-ID": "mine-3"}, max_tokens=1)
    expect_equal(stream.headers.get("x-request-id"), "mine-3", "x-request-id of a stream")


@check("request ids: the field request_id comes back", ours=True)
def _field(target: ServerUnderTest) -> None:
    answer = target.ask(CHAT, {"messages": HI, "max_tokens": 1, "request_id": "mine-4"})
    expect_equal(answer.headers.get("x-request-id"), "mine-4", "x-request-id")


@check("request ids: the same one twice, or the beginning of another, is no matter")
def _twice(target: ServerUnderTest) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda name: _named(target, name), ["same", "same", "sam", "same-2"]))
    expect_equal(len({answer.json()["id"] for answer in answers}), 4, "the number of ids of our own")
    texts = {answer.json()["choices"][0]["message"]["content"] for answer in answers}
    expect_equal(len(texts), 1, "the number of different texts")


@check("request ids: a very long one, and an odd one, do no harm")
def _odd(target: ServerUnderTest) -> None:
    for name in ("x" * 5000, "a b\tc", "'; drop", "%0d%0aX-Evil: 1"):
        answer = target.post(CHAT, {"messages": HI, "max_tokens": 1}, {"X-Request-ID": name})
        expect(answer.status_code in (200, 400), f"status {answer.status_code}")
        expect("x-evil" not in answer.headers, "a header was injected")
    target.unharmed()


@check("request ids: an odd one in the field request_id is taken or refused, never a broken answer", ours=True)
def _odd_field(target: ServerUnderTest) -> None:
    for name in ("a\nb", "a\r\nX-Evil: 1", "\u0001", "\u0000", "北京", "é", " ", ""):
        for stream in (False, True):
            answer = target.post(CHAT, {"messages": HI, "max_tokens": 1, "request_id": name, "stream": stream})
            expect(answer.status_code in (200, 400), f"status {answer.status_code} for {name!r}")
            expect("x-evil" not in answer.headers, "a header was injected")
    target.unharmed()
