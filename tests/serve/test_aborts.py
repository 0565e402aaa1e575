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
from tests.serve.in_process import serving_in_process
from tests.serve.watch import watching
from tests.waiting import wait_until, within

BUSY = {"prompt": "Once upon a time", "max_tokens": 1800, "ignore_eos": True, "temperature": 0, "stream": True}
GIVEN_UP = {"prompt": "Tell me about rain and wind", "max_tokens": 1500, "ignore_eos": True, "temperature": 0}


@pytest.fixture
def iterations(server: Running) -> Iterator[list[dict[str, Any]]]:
    """Everything that the engine runs, while another request keeps it busy."""
    with all_iterations(server) as seen:
        yield seen


@pytest.fixture(scope="module")
def simulated() -> Iterator[Running]:
    """An iteration takes as long as one of the bundled model and a tenth of its work: for tests that wait for many."""
    with serving_in_process("--simulate", "llama-7b", "--speed", "4") as running:
        yield running


@contextmanager
def all_iterations(server: Running) -> Iterator[list[dict[str, Any]]]:
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
    """The iterations that carried a request beside the one that keeps the engine busy."""
    return [event for event in iterations if len(event["chunks"]) > 1]


def wait_for(iterations: list[dict[str, Any]]) -> None:
    wait_until(lambda: len(ran(iterations)) >= 5)


def settle(iterations: list[dict[str, Any]], count: int = 20) -> None:
    """Let the engine go on for a while."""
    enough = len(iterations) + count
    wait_until(lambda: len(iterations) >= enough)


@pytest.mark.parametrize("streaming", [True, False])
def test_hanging_up_on_a_running_request(simulated: Running, streaming: bool) -> None:
    with all_iterations(simulated) as iterations:
        with connection(simulated, GIVEN_UP | {"stream": streaming}):
            wait_for(iterations)
        settle(iterations, 80)
        assert not ran(iterations[-40:]), "it would run for 1500"


def test_cancelling_a_running_request(server: Running, iterations: list[dict[str, Any]]) -> None:
    several_blocks = {"prompt": str(GIVEN_UP["prompt"]) * 10, "stream": True}  # the busy request may take one that is freed
    with httpx.stream("POST", f"{server.url}/v1/completions", json=GIVEN_UP | several_blocks) as answer:
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
    assert answered - began >= 0.4
    assert sum(event["at"] > answered for event in ran(iterations)) == 0


def test_a_stop_string(server: Running, iterations: list[dict[str, Any]]) -> None:
    found = server.http.post("/v1/completions", json=GIVEN_UP | {"stop": ["e"]}).json()
    answered = time.monotonic()
    settle(iterations)
    assert found["choices"][0]["finish_reason"] == "stop"
    assert sum(event["at"] > answered for event in ran(iterations)) == 0
    needed = found["usage"]["completion_tokens"] + found["timings"]["prefill_iterations"] - 1
    assert needed <= len(ran(iterations)) < needed + 100, "some run while the text is searched, of the 1500 that it asked for"


@pytest.mark.parametrize("streaming", [True, False])
def test_hanging_up_on_a_queued_request(simulated: Running, streaming: bool) -> None:
    """With a batch of one, the second request waits until the first, which runs long, has ended."""
    simulated.http.put("/v1/scheduler", json={"max_batch_size": 1})
    try:
        with all_iterations(simulated) as iterations:
            with connection(simulated, GIVEN_UP | {"stream": streaming}):
                wait_until(lambda: iterations and iterations[-1]["waiting"] == 1)
            settle(iterations, 80)
            assert not any(event["waiting"] for event in iterations[-40:])
            assert not ran(iterations)
    finally:
        simulated.http.put("/v1/scheduler", json={"max_batch_size": 8})


def test_two_hundred_clients_that_drop_at_once(server: Running) -> None:
    """All of them are free again, and the next client is answered, long before their answers would have ended."""
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
    with within(20):
        assert server.http.post("/v1/completions", json=GIVEN_UP | {"max_tokens": 3}).status_code == 200
        assert server.idle()
