"""How requests end, whatever a server does. Nothing of it stops a run."""

from __future__ import annotations

import asyncio
import email.utils
import time
from contextlib import suppress
from typing import Any

import pytest

from orcinus.bench.client.events import MOST_BYTES
from orcinus.bench.client.load_generator import LoadGenerator
from orcinus.bench.record import RequestOutcome, RequestRecord
from tests.bench.client.fake import Request, fake, measured, run, token, usage, workload


def ended(answer: Any, requests: int = 1, **options: Any) -> list[RequestRecord]:
    return list(measured(answer, "closed:clients=1", requests, **options).requests)


async def good(request: Request) -> None:
    await request.tokens(3)


def test_a_whole_answer() -> None:
    (one,) = ended(good)
    assert (one.outcome, one.error, one.output_tokens, one.timed, len(one.times)) == (RequestOutcome.OK, "", 3, "tokens", 3)
    assert 0 <= one.due <= one.sent <= one.times[0] <= one.times[-1] <= one.ended


@pytest.mark.parametrize("tokens", [2, 4])
def test_another_length_than_was_asked_for(tokens: int) -> None:
    async def answer(request: Request) -> None:
        await request.tokens(tokens)

    (one,) = ended(answer)
    assert (one.outcome, one.error) == (RequestOutcome.WRONG_LENGTH, f"{tokens} output tokens, not 3")
    (one,) = ended(answer, exact_lengths=False)
    assert one.outcome is RequestOutcome.OK


def test_an_answer_without_a_count_is_no_failure() -> None:
    async def answer(request: Request) -> None:
        await request.head()
        for number in (1, 2):
            await request.frame(token(number, last=number == 2, ids=False))
        await request.end()

    (one,) = ended(answer)
    assert (one.outcome, one.output_tokens, one.timed, len(one.times)) == (RequestOutcome.OK, None, "frames", 2)


def test_a_stream_may_end_without_done_if_it_said_why() -> None:
    async def answer(request: Request) -> None:
        await request.head()
        for number in (1, 2, 3):
            await request.frame(token(number, last=number == 3))
        await request.raw(b"0\r\n\r\n")

    assert ended(answer)[0].outcome is RequestOutcome.OK


def test_what_the_server_says_of_lengths_is_kept() -> None:
    async def answer(request: Request) -> None:
        await request.head()
        await request.frame({"choices": [{"text": "a", "finish_reason": "stop"}], "usage": usage(11, 3)})
        await request.end()

    (one,) = ended(answer)
    assert (one.prompt_tokens, one.output_tokens, one.times[0]) == (11, 3, one.times[2])


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_not_now(status: str) -> None:
    async def answer(request: Request) -> None:
        await request.whole(status, {"error": {"message": "the queue is full"}}, retry_after="0")

    (one,) = ended(answer)
    assert (one.outcome, one.error) == (RequestOutcome.REJECTED, f"status {status[:3]}: the queue is full")


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Internal Server Error", "302 Found"])
def test_other_statuses(status: str) -> None:
    async def answer(request: Request) -> None:
        await request.whole(status, {"error": {"message": "no"}})

    assert [(one.outcome, one.error) for one in ended(answer, 2)] == [(RequestOutcome.FAILED, f"status {status[:3]}: no")] * 2


def test_an_error_in_the_middle_of_a_stream() -> None:
    async def answer(request: Request) -> None:
        await request.head()
        await request.frame(token(1))
        await request.frame({"error": {"message": "out of memory", "code": "x"}})
        await request.end()

    first, second = ended(answer, 2)
    assert (first.outcome, first.error, first.output_tokens) == (RequestOutcome.FAILED, "out of memory", 1)
    assert second.outcome is RequestOutcome.FAILED  # over a connection of its own


@pytest.mark.parametrize(
    "frame", ["{", "[1]", "nonsense", '{"choices": 1}', '{"choices": [{"text": 3}]}', "", "\x00", '{"a":' * 5000]
)
def test_frames_that_cannot_be_read(frame: str) -> None:
    async def answer(request: Request) -> None:
        await request.head()
        await request.frame(frame)
        await request.end()

    (one,) = ended(answer)
    assert one.outcome is RequestOutcome.MALFORMED
    assert one.error.startswith("a frame that cannot be read")


def test_text_that_is_no_utf8() -> None:
    async def answer(request: Request) -> None:
        await request.head()
        await request.chunk(b'data: {"choices": [{"text": "\xff"}]}\n\n')
        await request.end()

    assert ended(answer)[0].outcome is RequestOutcome.MALFORMED


def test_a_line_without_end() -> None:
    async def answer(request: Request) -> None:
        await request.head()
        with suppress(ConnectionError):
            while True:
                await request.chunk(b"x" * 2**18)

    (one,) = ended(answer)
    assert (one.outcome, one.error) == (RequestOutcome.MALFORMED, f"a line of more than {MOST_BYTES} bytes")


@pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x16\x03\x01", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http(raw: bytes) -> None:
    async def answer(request: Request) -> None:
        await request.raw(raw)

    (one,) = ended(answer)
    assert one.outcome is RequestOutcome.MALFORMED
    assert one.error.startswith("this is no HTTP")


def test_an_answer_that_is_no_stream() -> None:
    async def answer(request: Request) -> None:
        await request.whole("200 OK", {"choices": [{"text": "a b c"}]})

    (one,) = ended(answer)
    assert (one.outcome, one.error) == (
        RequestOutcome.MALFORMED,
        "an answer of application/json that is no stream, or has no ending",
    )


@pytest.mark.parametrize(
    "when", ["before the answer", "in the head", "before a token", "after a token", "after the last token"]
)
def test_connections_that_end_too_early(when: str) -> None:
    async def answer(request: Request) -> None:
        if when == "in the head":
            await request.raw(b"HTTP/1.1 200 OK\r\ncontent-ty")
        if when.endswith("token"):
            await request.head()
        if when.startswith("after"):
            await request.frame(token(1))
        if when == "after the last token":
            await request.frame(token(2, last=True))
        request.out.transport.abort()

    (one,) = ended(answer)
    assert one.outcome is RequestOutcome.RESET
    assert one.error
    assert len(one.times) == {"after a token": 1, "after the last token": 2}.get(when, 0)


def test_no_server_listens() -> None:
    async def test() -> list[RequestRecord]:
        async with fake(good) as server:
            form = server.form()
        return list((await LoadGenerator(form, workload("closed:clients=2", 4), timeout=5).run()).requests)

    found = run(test())
    assert [one.outcome for one in found] == [RequestOutcome.RESET] * 4
    assert all("cannot connect" in one.error for one in found)


@pytest.mark.parametrize("after", [0, 1])
def test_a_server_that_falls_silent(after: int) -> None:
    async def answer(request: Request) -> None:
        if after:
            await request.head()
            await request.frame(token(1))
        await asyncio.sleep(20)

    (one,) = ended(answer, timeout=0.2)
    assert (one.outcome, len(one.times)) == (RequestOutcome.TIMEOUT, after)
    assert 0.2 <= one.ended - one.sent < 2.0


def test_a_stream_is_over_when_it_says_so() -> None:
    """Even if the connection then hangs: its reader has everything."""

    async def answer(request: Request) -> None:
        await request.head()
        for number in (1, 2, 3):
            await request.frame(token(number, last=number == 3))
        await request.frame("[DONE]")
        await asyncio.sleep(20)

    (one,) = ended(answer, timeout=1.0)
    assert one.outcome is RequestOutcome.OK
    assert one.ended - one.sent < 0.9


def test_bodies_may_have_any_framing() -> None:
    """Chunks cut through frames, a length in the head, or an end with the connection's."""
    stream = b"".join(b"data: " + part + b"\n\n" for part in (b'{"choices":[{"text":"a","token_ids":[1,2,3]}]}', b"[DONE]"))

    async def answer(request: Request) -> None:
        kind = {"content-type": "text/event-stream"}
        if request.number == 0:
            await request.head()
            for place in range(len(stream)):
                await request.chunk(stream[place : place + 1])
            await request.raw(b"0\r\n\r\n")
        elif request.number == 1:
            await request.head(headers=kind | {"content-length": str(len(stream))})
            await request.raw(stream)
        else:
            await request.head(headers=kind)
            await request.raw(stream)
            request.out.close()

    assert [one.outcome for one in ended(answer, 3)] == [RequestOutcome.OK] * 3


def test_what_is_said_in_advance_is_no_answer() -> None:
    async def answer(request: Request) -> None:
        await request.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await request.tokens(3)

    assert [one.outcome for one in ended(answer, 2)] == [RequestOutcome.OK] * 2


def connections(
    answer: Any, requests: int = 3, arrivals: str = "closed:clients=1:think=0.02"
) -> tuple[list[RequestOutcome], int, int]:
    """How requests ended, and how many connections and requests the server saw."""

    async def test() -> tuple[list[RequestOutcome], int, int]:
        async with fake(answer) as server:
            repeat = await LoadGenerator(server.form(), workload(arrivals, requests), timeout=5).run()
            return [one.outcome for one in repeat.requests], server.connections, len(server.requests)

    found: tuple[list[RequestOutcome], int, int] = run(test())
    return found


def test_connections_are_used_again() -> None:
    assert connections(good) == ([RequestOutcome.OK] * 3, 1, 3)


def test_a_server_may_want_a_connection_for_each_request() -> None:
    async def answer(request: Request) -> None:
        await request.head(headers={"content-type": "text/event-stream", "connection": "close", "transfer-encoding": "chunked"})
        await request.frame({"choices": [{"token_ids": [1, 2, 3]}]})
        await request.end()

    assert connections(answer) == ([RequestOutcome.OK] * 3, 3, 3)


def test_a_connection_that_was_closed_while_it_was_idle_costs_nothing() -> None:
    async def answer(request: Request) -> None:
        await good(request)
        request.out.close()

    assert connections(answer) == ([RequestOutcome.OK] * 3, 3, 3)


def test_a_connection_that_is_closed_as_we_write_is_replaced_once() -> None:
    async def answer(request: Request) -> None:
        if request.connection == 0 and request.number > 0:
            request.out.transport.abort()
        else:
            await good(request)

    assert connections(answer) == ([RequestOutcome.OK] * 3, 2, 4)


def test_a_server_that_breaks_every_connection_is_not_asked_again_and_again() -> None:
    async def answer(request: Request) -> None:
        if request.number > 0:
            request.out.transport.abort()
        else:
            await good(request)

    outcomes, made, seen = connections(answer, requests=2)
    assert (outcomes, made, seen) == ([RequestOutcome.OK, RequestOutcome.RESET], 2, 3)


@pytest.mark.parametrize("later", [False, True])
def test_bytes_without_a_request_are_no_answer(later: bool) -> None:
    """Bytes after an answer: the next request goes over another connection."""
    more = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 2\r\n\r\nxx"

    async def answer(request: Request) -> None:
        await request.head()
        await request.frame({"choices": [{"token_ids": [1, 2, 3]}]})
        await request.frame("[DONE]")
        await request.raw(b"0\r\n\r\n" + (b"" if later else more))
        if later:
            await asyncio.sleep(0.002)
            await request.raw(more)

    assert connections(answer, arrivals="constant:rate=20") == ([RequestOutcome.OK] * 3, 3, 3)


@pytest.mark.parametrize("date", [False, True])
def test_refused_clients_wait_as_long_as_they_are_told(date: bool) -> None:
    """Retry-After is in seconds, or a date."""

    async def answer(request: Request) -> None:
        if request.number == 0:
            when = email.utils.formatdate(time.time() + 2, usegmt=True) if date else "0.5"
            await request.whole("429 Too Many Requests", "", retry_after=when)
        else:
            await good(request)

    first, second = ended(answer, 2)
    assert (first.outcome, second.outcome) == (RequestOutcome.REJECTED, RequestOutcome.OK)
    assert second.due - first.ended == pytest.approx(1.5 if date else 0.5, abs=0.6 if date else 0.1)


@pytest.mark.parametrize(("said", "waits"), [({}, 1.0), ({"retry_after": "soon"}, 1.0), ({"retry_after": "nan"}, 1.0)])
def test_refused_clients_wait_a_second_if_they_are_told_nothing(said: dict[str, str], waits: float) -> None:
    async def answer(request: Request) -> None:
        await request.whole("503 Service Unavailable", "", **said)

    first, second = ended(answer, 2)
    assert second.due - first.ended == pytest.approx(waits, abs=0.1)


def test_an_open_loop_does_not_wait() -> None:
    async def answer(request: Request) -> None:
        await request.whole("429 Too Many Requests", "", retry_after="60")

    repeat = measured(answer, "constant:rate=50", 5)
    assert [one.outcome for one in repeat.requests] == [RequestOutcome.REJECTED] * 5
    assert repeat.seconds < 60
