"""A batch against a server made up here: width, refusals, broken connections, and what a second run does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from orcinus.batch_files import line_client
from orcinus.batch_files.batch_run import pending_lines, run_batch
from orcinus.batch_files.line_client import LineClient, retry_after
from orcinus.batch_files.result_file import ResultFile
from orcinus.errors import RequestError

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


def request(custom_id: str, **body: Any) -> str:
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/completions", "body": {"prompt": custom_id, **body}}
    return json.dumps(line) + "\n"


class Batch:
    """A folder with a file of requests, run against a handler."""

    def __init__(self, folder: Path) -> None:
        self.requests, self.responses = folder / "in.jsonl", folder / "out.jsonl"
        self.reported = 0

    def write(self, *lines: str) -> None:
        self.requests.write_text("".join(lines), encoding="utf-8")

    def run(self, handler: Handler, in_flight: int = 4, patience_s: float = 60, **options: bool) -> list[dict[str, Any]]:
        """The lines of the responses after a run."""

        async def run() -> None:
            async with httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="http://127.0.0.1") as http:
                client = LineClient(http, patience_s)
                await run_batch(pending_lines(self.requests, results), client, results, in_flight, self.report)

        with ResultFile(self.responses, **options) as results:
            asyncio.run(run())
        return self.found()

    def report(self) -> None:
        self.reported += 1

    def found(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.responses.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    monkeypatch.setattr(line_client, "FIRST_WAIT_S", 0.001)
    return Batch(tmp_path)


async def echo(asked: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={"X-Request-ID": "r"}, json={"text": json.loads(asked.content)["prompt"]})


def by_id(found: list[dict[str, Any]]) -> dict[str, Any]:
    assert max(Counter(line["custom_id"] for line in found).values()) == 1
    return {line["custom_id"]: line for line in found}


def statuses(found: list[dict[str, Any]]) -> dict[str, int]:
    return {name: line["response"]["status_code"] for name, line in by_id(found).items()}


def test_every_line_gets_its_own_response(batch: Batch) -> None:
    names = [f"line {number}" for number in range(10)]
    batch.write(*map(request, names))
    found = batch.run(echo)
    assert {name: line["response"]["body"]["text"] for name, line in by_id(found).items()} == {name: name for name in names}
    assert batch.reported == 10


def test_as_many_lines_are_in_flight_as_allowed_and_no_more_are_read(batch: Batch) -> None:
    inside, most, allowed = 0, 0, asyncio.Event()

    async def together(asked: httpx.Request) -> httpx.Response:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 5:
            allowed.set()
        await allowed.wait()  # no line leaves before five are inside
        await asyncio.sleep(0)
        inside -= 1
        return await echo(asked)

    batch.write(*(request(str(number)) for number in range(23)))
    assert len(batch.run(together, in_flight=5)) == 23
    assert most == 5


def test_a_response_is_written_when_it_comes(batch: Batch) -> None:
    order = []

    async def last_first(asked: httpx.Request) -> httpx.Response:
        name = json.loads(asked.content)["prompt"]
        while name == "slow" and len(order) < 2:
            await asyncio.sleep(0)
        order.append(name)
        return await echo(asked)

    batch.write(request("slow"), request("b"), request("c"))
    assert [line["custom_id"] for line in batch.run(last_first)] == order
    assert order[-1] == "slow"


def test_wrong_lines_have_errors_and_the_others_responses(batch: Batch) -> None:
    batch.write(request("a"), "{\n", request("a"), request("b", stream=True), request("b"), "\n", request("c"))

    async def refuse(asked: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json={"error": {"message": "no", "code": "invalid_value"}})

    written = batch.run(refuse)
    errors = {(line["custom_id"], line["error"]["code"], line["error"]["line"]) for line in written if line["error"]}
    assert errors == {
        (None, "invalid_json_line", 2),
        ("a", "duplicate_custom_id", 3),
        ("b", "unsupported_value", 4),
        ("b", "duplicate_custom_id", 5),
    }
    assert {line["custom_id"] for line in written if line["response"]} == {"a", "c"}
    assert all(line["response"]["body"]["error"]["message"] == "no" for line in written if line["response"])


def test_a_second_run_sends_only_what_is_left(batch: Batch) -> None:
    sent = []

    async def note(asked: httpx.Request) -> httpx.Response:
        sent.append(json.loads(asked.content)["prompt"])
        return await echo(asked)

    batch.write(request("a"), request("b", stream=True))
    batch.run(note)
    batch.write(request("a"), request("b"), request("c"))  # b was mended
    assert statuses(batch.run(note)) == {"a": 200, "b": 200, "c": 200}
    assert sent == ["a", "b", "c"]


@pytest.mark.parametrize("status", [429, 503])
def test_a_line_that_is_refused_for_now_comes_again_when_told(
    batch: Batch, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept, refused = [], Counter[str]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def full(asked: httpx.Request) -> httpx.Response:
        name = json.loads(asked.content)["prompt"]
        refused[name] += 1
        if refused[name] <= 3:
            return httpx.Response(status, headers={"Retry-After": "7"}, json={"error": {"message": "full"}})
        return await echo(asked)

    monkeypatch.setattr(line_client, "sleep", sleep)  # not in asyncio: servers run in other threads
    batch.write(request("a"), request("b"))
    assert statuses(batch.run(full)) == {"a": 200, "b": 200}
    assert len(slept) == 6
    assert all(7 <= seconds <= 7.7 for seconds in slept)


def test_a_server_that_stays_full_is_given_up_and_nothing_is_lost(batch: Batch) -> None:
    async def full(asked: httpx.Request) -> httpx.Response:
        return httpx.Response(429, json={"error": {"message": "the queue is full"}})

    batch.write(request("a"), request("b"))
    with pytest.raises(RequestError, match=r"no line had a response for 0.01 s; the server answers 429: the queue is full"):
        batch.run(full, patience_s=0.01)
    assert statuses(batch.run(echo)) == {"a": 200, "b": 200}


def test_a_server_that_works_on_another_line_is_not_given_up(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = 0

    async def one_at_a_time(asked: httpx.Request) -> httpx.Response:
        nonlocal refused
        name = json.loads(asked.content)["prompt"]
        if name == "long":
            while refused < 20:
                await asyncio.sleep(0.001)
        elif refused < 20:
            refused += 1
            return httpx.Response(429, headers={"Retry-After": "0"})
        return await echo(asked)

    monkeypatch.setattr(line_client, "REFUSAL_S", -1.0)
    batch.write(request("long"), request("short"))
    assert statuses(batch.run(one_at_a_time, patience_s=0)) == {"long": 200, "short": 200}


def test_a_server_that_cannot_be_reached_is_tried_again(batch: Batch) -> None:
    tries = 0

    async def late(asked: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        if tries <= 6:
            raise httpx.ConnectError("Connection refused")
        return await echo(asked)

    batch.write(request("a"))
    assert statuses(batch.run(late)) == {"a": 200}
    tries = 0
    with pytest.raises(RequestError, match=r"no answer from http://127.0.0.1/?: Connection refused"):
        batch.run(late, patience_s=0, overwrite=True)


def test_a_line_that_breaks_every_connection_is_an_error_and_is_sent_again_by_a_second_run(batch: Batch) -> None:
    async def crash(asked: httpx.Request) -> httpx.Response:
        if json.loads(asked.content)["prompt"] == "a":
            raise httpx.RemoteProtocolError("Server disconnected")
        return await echo(asked)

    batch.write(request("a"), request("b"))
    found = by_id(batch.run(crash))
    assert found["a"]["error"]["code"] == "connection_error"
    assert "broke off 3 times: Server disconnected" in found["a"]["error"]["message"]
    assert found["b"]["response"]["status_code"] == 200
    assert statuses(batch.run(echo)) == {"a": 200, "b": 200}


@pytest.mark.parametrize(("failures", "status"), [(2, 200), (3, 500)])
def test_a_server_error_is_tried_three_times(batch: Batch, failures: int, status: int) -> None:
    tries = 0

    async def fail(asked: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        return httpx.Response(500, text="<html>") if tries <= failures else await echo(asked)

    batch.write(request("a"))
    found = batch.run(fail)
    assert statuses(found) == {"a": status}
    assert (found[0]["response"]["body"] == "<html>") == (status == 500)
    assert tries == 3


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (503, "engine_dead")])
def test_what_every_line_would_meet_ends_the_run(batch: Batch, status: int, code: str) -> None:
    async def refuse(asked: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"error": {"message": "go away", "code": code}})

    batch.write(request("a"), request("b"))
    with pytest.raises(RequestError, match=f"the server answers {status}: go away"):
        batch.run(refuse)
    assert batch.found() == []


def test_retry_after_is_a_number_of_seconds_or_a_date() -> None:
    assert retry_after("12") == 12
    assert 55 < (retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)) or 0) <= 60
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [retry_after(header) for header in (None, "", "soon", "-1")] == [None] * 4
