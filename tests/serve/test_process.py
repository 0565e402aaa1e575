"""Processes: start, hang-ups, full queues, deadlines, signals, and a dead engine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.commands import Done
from tests.engine_processes import engine_processes
from tests.product import part
from tests.serve.conftest import ENVIRONMENT, Running, serving
from tests.serve.in_process import refusals
from tests.waiting import wait_until

SIMULATED = ("--simulate", "llama-7b")  # two processes as ever, which start in a third of the time: the model is not the point
NAME = ("--served-model-name", "mine")
MODELS = part((*SIMULATED, "--speed", "4", *NAME), full=[(NAME,)])
LONG = {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "temperature": 0}


def in_one_line(done: Done, because: str) -> None:
    """A server that cannot start says why in one line, and its status is 1."""
    assert done.returncode == 1
    assert because in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def engine_pid(server: Running) -> int:
    return engine_processes(server.process.pid)[0].pid


def test_a_deadline_ends_a_request(server: Running) -> None:
    answer = server.http.post("/v1/completions", json=LONG | {"timeout": 0.3})
    assert answer.status_code == 408
    assert answer.json()["error"]["code"] == "timeout"
    assert server.idle()


def test_a_full_queue_says_when_to_come_back(server: Running) -> None:
    """64 may be in; of 100 at once the rest hear 429, and every accepted one completes."""

    def one(_: int) -> httpx.Response:
        return httpx.post(f"{server.url}/v1/completions", json=LONG | {"max_tokens": 3}, timeout=60)

    server.http.post("/pause")  # no request leaves before all have come
    with ThreadPoolExecutor(100) as pool:
        asked = [pool.submit(one, number) for number in range(100)]
        try:
            first = [each.result().status_code for each in islice(as_completed(asked, timeout=30), 36)]
        finally:
            server.http.post("/resume")
        answers = [each.result() for each in asked]
    assert first == [429] * 36
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} <= {200, 429}
    assert len(refused) == 36
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    texts = {answer.json()["choices"][0]["text"] for answer in answers if answer.status_code == 200}
    assert len(texts) == 1
    assert server.idle()


@pytest.mark.parametrize("model", MODELS, ids=" ".join)
def test_sigterm_drains_tells_new_requests_and_the_status_is_0(model: tuple[str, ...]) -> None:
    with serving(*model) as server:
        with server.http.stream("POST", "/v1/completions", json=LONG | {"max_tokens": 400, "stream": True}) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines)[6:])["model"] == "mine"
            engine = engine_pid(server)
            if SIMULATED[0] in model:
                assert not any("libtorch" in Path(f"/proc/{pid}/maps").read_text() for pid in (server.process.pid, engine))
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: server.http.get("/ready").status_code == 503)
            refused = httpx.post(f"{server.url}/v1/completions", json=LONG)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "draining"
            assert int(refused.headers["retry-after"]) >= 1
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert sum(line.startswith("data: {") for line in rest) > 350
        assert server.process.wait(timeout=20) == 0
        assert not Path(f"/proc/{engine}").exists()


@pytest.mark.full
def test_what_is_not_done_when_the_time_to_drain_is_over_ends_with_an_error() -> None:
    with serving(*SIMULATED, "--drain", "0.5") as server:
        with server.http.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as answer:
            lines = answer.iter_lines()
            next(lines)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
            assert time.monotonic() - began > 0.4
        assert rest[-1] == "data: [DONE]"
        assert json.loads(rest[-2][6:])["error"]["code"] == "shutting_down"
        assert server.process.wait(timeout=10) == 1
        assert server.process.stderr is not None
        assert server.process.stderr.read().splitlines()[-1] == "error: stopped after 0.5 s: 1 answer cut off"


@pytest.mark.full
def test_a_paused_server_that_is_told_to_leave_finishes_its_answers() -> None:
    with serving(*SIMULATED) as server:
        server.http.post("/pause")
        with server.http.stream("POST", "/v1/completions", json=LONG | {"max_tokens": 20, "stream": True}) as answer:
            server.process.send_signal(signal.SIGTERM)
            assert [line for line in answer.iter_lines() if line][-1] == "data: [DONE]"
        assert server.process.wait(timeout=10) == 0


@pytest.mark.full
def test_a_second_signal_stops_at_once() -> None:
    """The status is not 0, because an answer was cut off; the last line says so, and nothing else is said."""
    with serving(*SIMULATED) as server:
        with server.http.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as answer:
            lines = answer.iter_lines()  # kept, for a forgotten one hangs up
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: server.http.get("/ready").status_code == 503)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=20) == 1, "the first signal gave its answer 30 s"
        assert server.process.stderr is not None
        first, last = server.process.stderr.read().splitlines()
        assert first.startswith("draining: 1 answer may take 30 s")
        assert last == "error: stopped at the second signal: 1 answer cut off"


@pytest.mark.parametrize("after", part(1.2, full=[0.5, 2.0]))
def test_ctrl_c_while_it_starts_is_one_line(after: float) -> None:
    """As a terminal sends it: to every process of the group."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orcinus", "serve", "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert process.returncode in (0, 130)  # 0 if it served already
    assert errors in ("", "interrupted\n")


def check_silence(server: Running) -> None:
    """An engine that stands still, and goes on."""
    engine = engine_pid(server)
    os.kill(engine, signal.SIGSTOP)
    try:
        assert server.http.post("/v1/completions", json=LONG | {"timeout": 1}).status_code == 408
        wait_until(lambda: server.http.get("/health").status_code != 200, pause=0.1)
        answer = server.http.get("/health")
        assert answer.json()["error"]["code"] == "engine_silent"
        assert server.http.get("/ready").status_code == 503
    finally:
        os.kill(engine, signal.SIGCONT)
    wait_until(lambda: server.http.get("/health").status_code == 200)


@pytest.mark.parametrize("model", MODELS, ids=" ".join)
def test_a_dead_engine_is_reported_to_clients_and_by_the_exit_status(model: tuple[str, ...]) -> None:
    """Before, it is silent for a while: the server is not healthy, and deadlines hold."""
    with serving(*model, "--on-engine-death", "exit") as server:
        check_silence(server)
        frames: list[Any] = []
        with server.http.stream("POST", "/v1/completions", json=LONG | {"stream": True}) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    frames.append(json.loads(line[6:]))
                    if len(frames) == 3:
                        os.kill(engine_pid(server), signal.SIGKILL)
        assert frames[-1]["error"]["type"] == "server_error"
        assert all(frame["choices"][0]["finish_reason"] is None for frame in frames[:-1])
        assert server.process.wait(timeout=20) == 1
        assert server.process.stderr is not None
        assert "the engine died" in server.process.stderr.read().splitlines()[-1]


def test_a_port_in_use(server: Running) -> None:
    port = server.url.rsplit(":", 1)[1]
    (done,) = refusals(("--port", port)).values()
    in_one_line(done, "Address already in use")


@pytest.mark.full
def test_while_the_model_loads_http_says_how_far_it_is_and_then_serves_it() -> None:
    """From the first moment: 503 with Retry-After, and the progress in words. Told to leave when idle, it does at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "orcinus", "serve", "--port", str(port), "--dtype", "float32"]
    command += ["--served-model-name", "mine"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    seen: list[tuple[str, int, str]] = []
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and not (seen and seen[-1][1] == 200):
            for path in ("/health", "/v1/models", "/ready"):
                try:
                    answer = httpx.get(f"http://127.0.0.1:{port}{path}")
                except httpx.ConnectError:
                    continue
                seen.append((path, answer.status_code, answer.text))
                if answer.status_code == 503:
                    assert int(answer.headers["retry-after"]) >= 1
            time.sleep(0.02)  # leave the processor to what is loading
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models").json()["data"][0]["id"] == "mine"
    finally:
        process.terminate()
        status = process.wait(20)
        assert process.stdout is not None
        process.stdout.close()
    loading = [text for _, status, text in seen if status == 503]
    assert {path for path, status, _ in seen if status == 503} == {"/health", "/v1/models", "/ready"}
    assert all('"code":"loading"' in text and "the model is loading" in text for text in loading)
    assert seen[-1] == ("/ready", 200, '{"status":"ready"}')
    assert status == 0


CANNOT_WORK = {
    ("--model", "nowhere"): "no model folder at nowhere",
    ("--policy", "magic"): "unknown policy 'magic'",
    ("--host", "0.0.0.0"): "other machines can reach 0.0.0.0: give --api-key-file, or --insecure",
    ("--access-log", "/nowhere/log"): "cannot write the access log",
    ("--api-key-file", "/nowhere/keys"): "cannot read the keys",
    ("a", "--model", "b"): "two models were given",
}


CANNOT_LOAD = {
    ("--num-blocks", "1", "--max-model-len", "500"): "not even one request",
    ("--kv-memory-mib", "100000000"): "the model does not fit",
}


@pytest.fixture(scope="module")
def refused() -> dict[tuple[str, ...], Done]:
    return refusals(*CANNOT_WORK)


@pytest.mark.parametrize("arguments", CANNOT_WORK, ids=" ".join)
def test_what_cannot_work_is_said_in_one_line(refused: dict[tuple[str, ...], Done], arguments: tuple[str, ...]) -> None:
    in_one_line(refused[arguments], CANNOT_WORK[arguments])


@pytest.mark.full
def test_what_cannot_be_loaded_is_said_in_one_line() -> None:
    for arguments, done in refusals(*CANNOT_LOAD).items():
        in_one_line(done, CANNOT_LOAD[arguments])


@pytest.mark.full  # one whose server is killed while it starts: test_signals.py
def test_an_engine_ends_with_its_server() -> None:
    with serving(*SIMULATED) as server:
        engine = engine_pid(server)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not Path(f"/proc/{engine}").exists())


def test_garbage_on_a_socket_is_answered_and_the_next_request_too(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for garbage, status in (
        (b"\x16\x03\x01\x00\xa5 no HTTP\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000, b"431"),
    ):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(garbage)
            answer = connection.recv(10_000)
        assert answer.split(b" ")[1] == status
        assert json.loads(answer.split(b"\r\n\r\n")[1])["error"]["type"] == "invalid_request_error"
    assert server.http.get("/health").status_code == 200


def send(server: Running, raw: bytes, wait: float = 10) -> bytes:
    """What comes back on a connection of one's own until it is closed or silent."""
    host, port = server.url.removeprefix("http://").split(":")
    found = b""
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(raw)
        try:
            while piece := connection.recv(65536):
                found += piece
                if b'"finish_reason":"length"' in found:
                    break
        except (TimeoutError, ConnectionResetError):
            pass
    return found


def post(*headers: bytes, body: bytes = b'{"prompt":"Hi","max_tokens":1,"ignore_eos":true}') -> bytes:
    lines = [b"POST /v1/completions HTTP/1.1", b"Host: localhost", b"Content-Type: application/json", *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c", b"WebSocket"])
def test_nothing_is_upgraded_and_the_request_is_answered(server: Running, upgrade: bytes) -> None:
    asked = post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AAMAAABk")
    assert send(server, asked).startswith(b"HTTP/1.1 200 ")


def test_requests_that_come_together_or_in_crumbs_are_all_answered(server: Running) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    raw = post() * 3
    for size in (len(raw), 700, 97, 1):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(raw), size):
                connection.sendall(raw[at : at + size])
            found = b""
            while found.count(b'"finish_reason":"length"') < 3:
                piece = connection.recv(65536)
                assert piece, found
                found += piece
        assert found.count(b"HTTP/1.1 200 OK") == 3


def test_what_breaks_off_in_the_middle_is_400_and_what_came_before_is_answered(server: Running) -> None:
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert send(server, head + b"zz\r\n").startswith(b"HTTP/1.1 400 ")
    assert send(server, post() + b"garbage\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    piped = send(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nX: " + b"y" * 200_000, wait=3)
    assert piped.count(b"HTTP/1.1 ") <= 2


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", [], 400),
        ("1.1", ["Host: localhost"], 200),
        ("1.1", ["host: LOCALHOST:80"], 200),
        ("1.1", ["Host: [::1]:8000"], 200),
        ("1.1", ["Host: x", "Host: x"], 400),
        ("1.1", ["Host: x", "Host: y"], 400),
        ("1.1", ["Host: x y"], 400),
        ("1.1", ["Host: x/y"], 400),
        ("1.1", ["Host: user@x"], 400),
        ("1.1", ["Host: x:port"], 400),
        ("1.0", [], 200),
        ("1.0", ["Host: localhost"], 200),
        ("1.0", ["Host: x", "Host: y"], 400),
    ],
)
@pytest.mark.parametrize("path", ["/health", "/v1/models"])
def test_http_1_1_has_exactly_one_valid_host(server: Running, path: str, version: str, hosts: list[str], status: int) -> None:
    asked = "\r\n".join([f"GET {path} HTTP/{version}", *hosts, "Connection: close", "", ""]).encode()
    answer = send(server, asked)
    assert answer.split(b" ")[1] == b"%d" % status
    assert status == 200 or b'"code":"invalid_host"' in answer


def test_a_request_that_asks_for_more_answers_than_fit_is_told_so(server: Running) -> None:
    body = {"prompt": ["a"] * 33, "n": 2, "max_tokens": 1}  # 66 of 64
    answer = server.http.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "too_many_answers"
    assert server.http.post("/v1/completions", json=body | {"n": 1}).status_code == 200
