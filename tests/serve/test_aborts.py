"""However a request is given up, its blocks are free one iteration later: seen in the stream of iterations itself."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.serve.conftest import Running
from tests.serve.watch import watching

BUSY = {"prompt": "Once upon a time", "max_tokens": 1800, "ignore_eos": True, "temperature": 0, "stream": True}
GIVEN_UP = {"prompt": "Tell me about rain and wind", "max_tokens": 1500, "ignore_eos": True, "temperature": 0}
HANG_UP_S = 0.25  # that a closed connection may take to be noticed on a busy machine


@pytest.fixture
def iterations(server: Running) -> Iterator[list[dict[str, Any]]]:
    """Everything that the engine runs, while another request keeps it busy."""
    with watching(server.url) as seen:
        with httpx.stream("POST", f"{server.url}/v1/completions", json=BUSY, timeout=30) as busy:
            lines = busy.iter_lines()
            next(lines)
            yield seen
        assert server.idle()


@contextmanager
def connection(server: Running, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A request over a socket of one's own."""
    host, port = server.url.removeprefix("http://").split(":")
    raw = json.dumps(body).encode()
    with socket.create_connection((host, int(port))) as made:
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(raw)}\r\n\r\n"
        made.sendall(head.encode() + raw)
        yield made


def ran(iterations: list[dict[str, Any]], busy: str | None = None) -> list[dict[str, Any]]:
    """The iterations that carried somebody beside the request that keeps the engine busy."""
    return [event for event in iterations if len(event["chunks"]) > 1]


def wait_for(iterations: list[dict[str, Any]]) -> None:
    until = time.monotonic() + 10
    while len(ran(iterations)) < 5:
        assert time.monotonic() < until
        time.sleep(0.005)


def settle(iterations: list[dict[str, Any]], count: int = 20) -> None:
    """Let the engine go on for a while."""
    until, enough = time.monotonic() + 10, len(iterations) + count
    while len(iterations) < enough:
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("streaming", [True, False])
def test_hanging_up_on_a_running_request(server: Running, iterations: list[dict[str, Any]], streaming: bool) -> None:
    with connection(server, GIVEN_UP | {"stream": streaming}):
        wait_for(iterations)
    gone = time.monotonic()
    settle(iterations, 100)
    assert max(event["at"] for event in ran(iterations)) - gone < HANG_UP_S


def test_cancelling_a_running_request(server: Running, iterations: list[dict[str, Any]]) -> None:
    with httpx.stream("POST", f"{server.url}/v1/completions", json=GIVEN_UP | {"stream": True}) as answer:
        wait_for(iterations)
        asked = time.monotonic()
        assert server.http.post(f"/v1/requests/{answer.headers['x-response-id']}/cancel").json()["cancelled"] == 1
        answered = time.monotonic()
        settle(iterations)
        together = ran(iterations)
    assert together[-1]["at"] >= asked - 1
    assert sum(event["at"] > answered for event in together) <= 1
    first_without = next(event for event in iterations if event["batch"] == together[-1]["batch"] + 1)
    assert first_without["free_blocks"] > together[-1]["free_blocks"], "its blocks are free when the next one is planned"


def test_a_deadline_that_passes(server: Running, iterations: list[dict[str, Any]]) -> None:
    began = time.monotonic()
    assert server.http.post("/v1/completions", json=GIVEN_UP | {"timeout": 0.4}).status_code == 408
    answered = time.monotonic()
    settle(iterations)
    assert 0.4 <= answered - began < 2
    assert sum(event["at"] > answered for event in ran(iterations)) == 0


def test_a_stop_string(server: Running, iterations: list[dict[str, Any]]) -> None:
    found = server.http.post("/v1/completions", json=GIVEN_UP | {"stop": ["e"]}).json()
    answered = time.monotonic()
    settle(iterations)
    assert found["choices"][0]["finish_reason"] == "stop"
    assert sum(event["at"] > answered for event in ran(iterations)) == 0
    assert len(ran(iterations)) <= found["usage"]["completion_tokens"] + found["timings"]["prefill_iterations"] + 1


@pytest.mark.parametrize("streaming", [True, False])
def test_hanging_up_on_a_queued_request(server: Running, iterations: list[dict[str, Any]], streaming: bool) -> None:
    """With a batch of one, the second request waits until the first, which runs long, has ended."""
    server.http.put("/v1/scheduler", json={"max_batch_size": 1})
    try:
        with connection(server, GIVEN_UP | {"stream": streaming}):
            until = time.monotonic() + 10
            while not (iterations and iterations[-1]["waiting"] == 1):
                assert time.monotonic() < until
                time.sleep(0.005)
        gone = time.monotonic()
        settle(iterations, 100)
        waited = [event["at"] for event in iterations if event["waiting"] == 1]
        assert max(waited) - gone < HANG_UP_S
        assert not ran(iterations)
    finally:
        server.http.put("/v1/scheduler", json={"max_batch_size": 8})


def test_two_hundred_clients_that_drop_at_once(server: Running) -> None:
    """All of them free again at once, and whoever comes next is answered within a second."""
    threads = []

    def drop() -> None:
        with connection(server, GIVEN_UP | {"stream": True}) as made:
            made.settimeout(0.5)
            try:
                made.recv(100)
                time.sleep(0.3)
            except TimeoutError:
                pass

    for _ in range(200):
        threads.append(threading.Thread(target=drop))
        threads[-1].start()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    assert server.http.post("/v1/completions", json=GIVEN_UP | {"max_tokens": 3}).status_code == 200
    assert time.monotonic() - began < 1
    assert server.idle(within=2)
