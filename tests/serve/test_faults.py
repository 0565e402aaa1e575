"""Faults of processes, clients, clocks, files and signals that no other file is about: docs/reliability.md lists them all."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from orcinus.disk_cache import DiskCache
from orcinus.observe.recorder import StepRecorder
from orcinus.serve import http_limits, server
from orcinus.serve.config import ServerConfig
from orcinus.socket_folder import PREFIX
from tests.chaos import engine_pids
from tests.serve.conftest import ENVIRONMENT, Running, serving
from tests.serve.in_process import serving_in_process
from tests.serve.test_signals import family, gone
from tests.waiting import wait_until

SIMULATED = ("--simulate", "llama-7b")
BODY: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True, "temperature": 0}


def answer(server: Running, **fields: Any) -> Any:
    return server.http.post("/v1/completions", json=BODY | fields).json()


class Streaming(threading.Thread):
    """A stream that is read while something happens."""

    def __init__(self, server: Running, **fields: Any) -> None:
        super().__init__()
        self.server, self.body = server, BODY | {"stream": True} | fields
        self.begun, self.lines = threading.Event(), list[str]()
        self.start()
        assert self.begun.wait(60)

    def run(self) -> None:
        with httpx.stream("POST", f"{self.server.url}/v1/completions", json=self.body, timeout=60) as answer:
            for line in answer.iter_lines():
                self.lines += [line] if line else []
                self.begun.set()

    def text(self) -> str:
        """The whole text, once the stream has ended well."""
        self.join(60)
        assert self.lines[-1] == "data: [DONE]"
        frames = [json.loads(line[6:]) for line in self.lines if line.startswith("data: {")]
        assert len(frames) == self.body["max_tokens"]
        return "".join(choice["text"] for frame in frames for choice in frame["choices"])


@pytest.mark.full
def test_a_server_that_stood_still_goes_on_and_blames_no_engine() -> None:
    """A paused container or a debugger stops all its processes; the engine may be the last to go on."""
    with serving(*SIMULATED, "--watchdog", "5") as server:
        expected = answer(server, max_tokens=400)["choices"][0]["text"]
        stream, engines = Streaming(server, max_tokens=400), engine_pids(server)
        for pid in (server.process.pid, *engines):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(8)
        server.process.send_signal(signal.SIGCONT)
        time.sleep(2)
        os.kill(engines[0], signal.SIGCONT)
        assert stream.text() == expected
        assert server.scheduler()["num_blocks"] > 0
        assert engine_pids(server) == engines


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT], ids=lambda number: signal.Signals(number).name)
def test_an_engine_that_crashes_is_replaced_as_one_that_is_killed(number: int) -> None:
    with serving(*SIMULATED) as server:
        expected = answer(server, max_tokens=200)["choices"][0]["text"]
        stream = Streaming(server, max_tokens=200)
        os.kill(engine_pids(server)[0], number)
        assert stream.text() == expected
        assert server.idle()


@pytest.mark.full
def test_no_engine_outlives_a_server_that_crashes() -> None:
    with serving(*SIMULATED) as server:
        pids = family(server.process.pid)
        server.process.send_signal(signal.SIGSEGV)
        assert server.process.wait(20) == -signal.SIGSEGV
        assert gone(pids)


@pytest.mark.full
def test_a_server_whose_sockets_were_swept_away_replaces_its_engine_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As cleaners of temporary folders do: what is open stays, and a successor gets a folder of its own."""
    with TemporaryDirectory(prefix="t") as place:  # a short path, for sockets
        monkeypatch.setitem(ENVIRONMENT, "TMPDIR", place)
        check_swept(Path(place))


def check_swept(place: Path) -> None:
    with serving(*SIMULATED) as server:
        expected = answer(server, max_tokens=200)["choices"][0]["text"]
        stream = Streaming(server, max_tokens=200)
        (folder,) = place.glob(f"{PREFIX}*")
        shutil.rmtree(folder)
        os.kill(engine_pids(server)[0], signal.SIGKILL)
        assert stream.text() == expected


@pytest.mark.full
def test_without_a_free_file_streams_go_on_and_clients_wait() -> None:
    with serving(*SIMULATED) as server:
        pid = server.process.pid
        _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        expected = answer(server, max_tokens=400)["choices"][0]["text"]
        stream = Streaming(server, max_tokens=400)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, most))  # no new one from now on
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
                connection.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert answer(server)["usage"]["completion_tokens"] == 60, "on the connection that is open"
        assert stream.text() == expected
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
        assert httpx.get(f"{server.url}/health", timeout=20).status_code == 200
        assert server.process.poll() is None


@pytest.mark.full
def test_no_one_needs_to_read_what_a_server_says() -> None:
    with serving(*SIMULATED) as server:
        expected = answer(server, max_tokens=200)["choices"][0]["text"]
        stream = Streaming(server, max_tokens=200)
        for pipe in (server.process.stdout, server.process.stderr):
            pipe.close()
        os.kill(engine_pids(server)[0], signal.SIGKILL)
        assert stream.text() == expected
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_line_that_cannot_be_said_disturbs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    server._say("hello")


@pytest.mark.full
def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "STUCK_S", 1.0)
    with serving_in_process(*SIMULATED, "--speed", "100", "--max-batch-size", "128") as server:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
            body = json.dumps(BODY | {"n": 100, "max_tokens": 1500, "stream": True}).encode()
            head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            wait_until(lambda: server.scheduler()["running"] > 0)
            assert server.idle(60)
            with suppress(ConnectionResetError):
                while client.recv(2**20):
                    pass
        assert answer(server)["usage"]["completion_tokens"] == 60


def test_a_wall_clock_that_steps_changes_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """NTP, a person, a virtual machine that was moved: time is measured on the monotonic clock."""
    wall, steps = time.time, cycle([3600.0, -7200.0, 86400.0 * 365, -86400.0 * 365])
    monkeypatch.setattr(time, "time", lambda: wall() + next(steps))
    with serving_in_process(*SIMULATED) as server:
        done = answer(server, timeout=30, max_tokens=20)
        assert done["usage"]["completion_tokens"] == 20
        assert 0 <= done["timings"]["total_ms"] < 30_000
        assert server.http.get("/ready").status_code == 200
        assert server.http.post("/v1/completions", json=BODY | {"timeout": 0.05, "max_tokens": 500}).status_code == 408


@pytest.mark.skipif(sys.platform != "linux", reason="asks for Linux's options of sockets")
def test_accepted_connections_notice_peers_that_are_lost() -> None:
    with server._listen(ServerConfig(port=0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            found = {name: accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in server.LOST_PEERS}
            assert found == server.LOST_PEERS


def test_files_that_are_deleted_meanwhile_are_no_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = StepRecorder(tmp_path / "run.jsonl", {})
    (tmp_path / "run.jsonl").unlink()
    recorder.close()
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("CACHE_DIRECTORY", str(folder))
    cache = DiskCache("kind", [], [])
    cache.keep(b"question", b"answer")
    shutil.rmtree(folder / "kind")
    assert cache.find(b"question") is None
    cache.keep(b"question", b"answer")
    assert cache.find(b"question") == b"answer"
