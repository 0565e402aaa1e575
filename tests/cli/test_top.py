"""`orcinus top` beside real servers: numbers that are right, terminals of all widths, servers that go and come back."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from rich.console import Console

from orcinus.cli.server_metrics import Scrape, ScrapeWindow, ServerMetrics
from orcinus.cli.top_view import picture
from tests.commands import ENVIRONMENT, ORCINUS, orcinus
from tests.serve.conftest import Running, serving
from tests.serve.in_process import serving_in_process

SIMULATED = ("--simulate", "opt-13b", "--speed", "20")
KEY = "a-key-of-this-test"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of two replicas with keys, which has answered four requests and refused one."""
    keys = tmp_path_factory.mktemp("keys") / "admins"
    keys.write_text(KEY)
    arguments = ("--replicas", "2", "--router", "round-robin", "--admin-key-file", str(keys))
    with serving_in_process(*SIMULATED, *arguments) as server:
        server.http.headers["Authorization"] = f"Bearer {KEY}"
        for _ in range(4):
            server.http.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 5, "ignore_eos": True})
        server.http.post("/v1/completions", json={"prompt": [1] * 5000})
        asked = {"prompt": "Hi", "max_tokens": 2, "ignore_eos": True, "slo": {"ttft": 1000}}
        assert server.http.post("/v1/completions", json=asked).status_code == 200
        yield server


def test_json_has_the_numbers_of_all_replicas_and_of_each(busy: Running) -> None:
    done = orcinus("top", busy.url + "/v1/", "--json", "-i", "0.1", "--api-key", KEY)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["model"], found["state"], found["ended"]) == ("opt-13b", "ready", {"length": 5})
    assert found["promises"] == {"made": 1, "kept": 1, "broken": 0, "refused": 0}
    assert found["refused"] == {"context_length_exceeded": 1}
    assert list(found["replicas"]) == ["0", "1"]
    assert [found["replicas"][name]["replicas_up"] for name in "01"] == [1, 1]
    assert (found["all"]["replicas_up"], found["all"]["running"], found["all"]["kv_use"]) == (2, 0, 0)
    assert 0 < found["all"]["ttft_p50_s"] <= found["all"]["ttft_p99_s"] < 10
    assert 0 < found["all"]["tbt_p50_s"] <= found["all"]["tbt_p99_s"] < 1
    assert found["seconds"] >= 0.1


def test_without_a_terminal_there_is_one_picture(busy: Running) -> None:
    done = orcinus("top", busy.url, "-i", "0.1", "--api-key", KEY)
    assert done.returncode == 0
    assert f"opt-13b  {busy.url}  ready" in done.stdout
    assert re.search(r"^engines up +2 +1 +1$", done.stdout, re.M)
    assert "ended: length 5" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_wider_than_the_terminal(busy: Running, width: int) -> None:
    server = ServerMetrics(busy.url, KEY)
    scrape = server.scrape()
    server.close()
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(picture(ScrapeWindow(scrape, scrape), ScrapeWindow(Scrape(), scrape), server.url, width))
    lines = console.export_text().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert any(line.startswith("running") for line in lines)
    assert ("more replicas" in "".join(lines)) == (width < 48)


def test_what_cannot_be_shown_is_one_line(busy: Running) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        expected = {
            busy.url: "shows its metrics to admins alone: give an admin key with --api-key",
            f"http://127.0.0.1:{other.server_port}": "is no server of Orcinus",
            f"http://127.0.0.1:{closed.getsockname()[1]}": "Connection refused; is the server running?",
            "ftp://somewhere": "is no URL of a server: give one like http://127.0.0.1:8000",
            "x y": "is no URL of a server",
        }
        for url, words in expected.items():
            done = orcinus("top", url, "--once")
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
            assert words in done.stderr
        other.shutdown()
        thread.join()


def test_quantiles_are_those_of_prometheus() -> None:
    """Four observations up to 1 and four up to 2: the median is at the border, three quarters in the middle above."""

    def scrape(*counts: float) -> Scrape:
        bounds = ("1.0", "2.0", "+Inf")
        samples = {frozenset({("le", le), ("engine", "0")}): count for le, count in zip(bounds, counts, strict=True)}
        return Scrape(samples={"m_bucket": samples})

    window = ScrapeWindow(scrape(2, 2, 2), scrape(6, 10, 10))
    assert [window.quantile("m", q) for q in (0.25, 0.5, 0.75, 1.0)] == [0.5, 1.0, 1.5, 2.0]
    assert ScrapeWindow(scrape(6, 10, 10), scrape(6, 10, 10)).quantile("m", 0.5) is None
    assert ScrapeWindow(scrape(0, 0, 0), scrape(0, 0, 3)).quantile("m", 0.5) == 2.0, "how far above is unknown"


@pytest.mark.full
def test_a_server_that_goes_away_is_waited_for() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with serving(*SIMULATED, "--port", port) as server, Screen(server.url) as screen:
        assert screen.shows(lambda text: "engines up" in text and "ready" in text)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        assert screen.shows(lambda text: "trying again" in text)
        with serving(*SIMULATED, "--port", port):
            assert screen.shows(lambda text: "ready" in text and "trying again" not in text)
            assert screen.leave() == 0


class Screen:
    """`orcinus top` in a terminal of 70 columns."""

    def __init__(self, url: str) -> None:
        self.parent, child = pty.openpty()
        environment = ENVIRONMENT | {"COLUMNS": "70", "LINES": "30", "TERM": "xterm"}
        command = [*ORCINUS, "top", url, "--interval", "0.2"]
        self.process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=environment, close_fds=True)
        os.close(child)

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.parent)

    def shows(self, condition: Callable[[str], bool], within: float = 30.0) -> bool:
        """Whether a new picture meets a condition soon."""
        text, until = "", time.monotonic() + within
        while time.monotonic() < until:
            if select.select([self.parent], [], [], 0.2)[0]:
                text += os.read(self.parent, 65536).decode(errors="replace")
            *_, last = re.split(r"\x1b\[H", text)  # each picture begins at the top left
            if condition(last):
                return True
        return False

    def leave(self) -> int:
        """The exit status after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)
