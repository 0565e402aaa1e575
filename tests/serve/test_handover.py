"""Rolling restarts: a new server takes the listening socket of a running one, and no client notices."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from orcinus.errors import ConfigError
from orcinus.serve import handover
from orcinus.serve.config import ServerConfig
from orcinus.serve.handover import Offer, Predecessor, ServerPlace, place_of
from orcinus.serve.service_manager import notify
from tests.commands import orcinus
from tests.serve.conftest import ENVIRONMENT, Running, arguments_of, serving
from tests.serve.in_process import serving_in_process
from tests.serve.test_signals import children_of, family, gone
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's abstract sockets")
SIMULATED = ("--simulate", "llama-7b", "--speed", "20")
BODY: dict[str, Any] = {"prompt": "Once upon a time", "max_tokens": 8, "ignore_eos": True, "temperature": 0}


class Clients:
    """Clients that ask in a loop; counts what they get."""

    def __init__(self, url: str) -> None:
        self.url, self.seen, self._over = url, Counter[str](), threading.Event()
        self._pool = ThreadPoolExecutor(2)
        self._asked = [self._pool.submit(self._ask, headers) for headers in ({}, {"Connection": "close"})]

    def _ask(self, headers: dict[str, str]) -> None:
        """Ask again and again; on one connection as long as the server keeps it, or on a new one each time."""
        with httpx.Client(base_url=self.url, timeout=60, headers=headers) as client:
            while not self._over.wait(0.01):
                try:
                    answer = client.post("/v1/completions", json=BODY)
                    complete = answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 8
                    self.seen["complete" if complete else answer.text] += 1
                except httpx.TransportError as error:
                    self.seen[repr(error)] += 1

    def more(self, count: int = 20) -> None:
        """Wait until so many more answers have come."""
        before = self.seen.total()
        wait_until(lambda: self.seen.total() >= before + count, 60)

    def stop(self) -> Counter[str]:
        self._over.set()
        for one in self._asked:
            one.result(60)
        return self.seen


@contextmanager
def successor(
    server: Running, *arguments: str, meanwhile: Callable[[subprocess.Popen[str]], object] = lambda process: None
) -> Iterator[Running]:
    """A server that takes the place of another one, once it has; `meanwhile` is called while it loads."""
    command = [sys.executable, "-m", "orcinus", "serve", "--replace", str(server.process.pid), *arguments_of(arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env=ENVIRONMENT, **pipes)  # type: ignore[call-overload]
    try:
        meanwhile(process)
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield Running(process, server.http, line.split()[-1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def test_no_client_notices_that_a_server_is_replaced() -> None:
    with serving(*SIMULATED) as old, ThreadPoolExecutor(1) as pool:
        pids, clients = family(old.process.pid), Clients(old.url)
        clients.more()
        stream = pool.submit(httpx.post, f"{old.url}/v1/completions", json=BODY | {"max_tokens": 1500}, timeout=60)
        with successor(old, *SIMULATED) as new:
            assert new.url == old.url
            clients.more()
            assert stream.result().json()["usage"]["completion_tokens"] == 1500
            assert old.process.wait(20) == 0
            clients.more()
            assert clients.stop() == {"complete": clients.seen.total()}
            assert gone(pids)
            assert "serves in place of this one" in old.process.stderr.read()


@pytest.mark.full
@pytest.mark.parametrize("arguments", [(), (*SIMULATED, "--replicas", "2")], ids=" ".join)
def test_nor_when_that_happens_again_and_again(arguments: tuple[str, ...]) -> None:
    with serving(*arguments) as first:
        clients = Clients(first.url)
        with successor(first, *arguments) as second:
            assert first.process.wait(40) == 0
            with successor(second, *arguments) as third:
                assert second.process.wait(40) == 0
                clients.more()
                assert clients.stop() == {"complete": clients.seen.total()}
                assert third.process.poll() is None


@pytest.mark.full
def test_a_server_that_cannot_start_leaves_the_running_one_alone(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    with serving(*SIMULATED, "--record", str(record)) as server:
        pid, clients = str(server.process.pid), Clients(server.url)
        for wrong, reason in {
            ("--simulate", "llama-9b"): f"unknown model .*; process {pid} goes on serving",
            ("--kv-memory-mib", str(2**40)): f"; process {pid} goes on serving",
            (*SIMULATED, "--port", "9"): f"process {pid} listens at 127.0.0.1:",
            (*SIMULATED, "--host", "0.0.0.0"): f"process {pid} listens at 127.0.0.1:",
            (*SIMULATED, "--record", str(record)): f"process {pid} still writes the record",
        }.items():
            command = [sys.executable, "-m", "orcinus", "serve", "--replace", pid, *wrong]
            done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
            assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
            assert re.search(reason, done.stderr), done.stderr
        clients.more()
        assert clients.stop() == {"complete": clients.seen.total()}


@pytest.mark.full
def test_a_successor_serves_at_once_when_the_server_is_killed_meanwhile() -> None:
    def kill(loads: subprocess.Popen[str]) -> None:
        children_of(loads, 1)
        old.process.kill()

    with serving() as old, successor(old, meanwhile=kill) as new:
        assert httpx.post(f"{new.url}/v1/completions", json=BODY, timeout=60).status_code == 200
        assert old.process.poll() == -signal.SIGKILL


class Meeting:
    """An offer in this process, at an address of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(handover, "_address", lambda pid: f"\0orcinus-test-{os.getpid()}-{pid}")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.taken: list[int] = []

    def run(self, scenario: Callable[[], object]) -> None:
        """Run something in a thread while the offer stands."""

        async def both() -> None:
            place = place_of(self.listener, "127.0.0.1", "run.jsonl")
            offer = asyncio.create_task(Offer(self.listener, place, self.taken.append).stand())
            await asyncio.sleep(0.01)
            await asyncio.to_thread(scenario)
            await asyncio.sleep(0.05)  # the last successor is met, and its connection closed
            offer.cancel()

        with self.listener:
            asyncio.run(both())


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> Meeting:
    return Meeting(monkeypatch)


def test_the_socket_itself_is_handed_over(meeting: Meeting) -> None:
    """A connection that waits to be accepted is there for the successor."""

    def scenario() -> None:
        with socket.create_connection(meeting.listener.getsockname()) as waiting, Predecessor(os.getpid()) as predecessor:
            meeting.listener.close()
            waiting.sendall(b"hello")
            with predecessor.listener.accept()[0] as accepted:
                assert accepted.recv(5) == b"hello"
            assert (meeting.taken, predecessor.gone) == ([], False)
            asyncio.run(predecessor.dismiss())
            assert meeting.taken == [os.getpid()]

    meeting.run(scenario)


def test_one_successor_at_a_time(meeting: Meeting, capfd: pytest.CaptureFixture[str]) -> None:
    def scenario() -> None:
        with (
            Predecessor(os.getpid()),
            pytest.raises(ConfigError, match=f"process {os.getpid()} is about to replace it already"),
        ):
            Predecessor(os.getpid())
        wait_until(lambda: "has ended: this one goes on" in capfd.readouterr().err)
        Predecessor(os.getpid()).__exit__(None, None, None)

    meeting.run(scenario)


def test_the_address_stays(meeting: Meeting) -> None:
    def scenario() -> None:
        with Predecessor(os.getpid()) as predecessor:
            port = predecessor.place.port
            for said in ([], ["port"]):
                adopted = predecessor.adopt(ServerConfig(port=port if said else 8000), said)
                assert (adopted.host, adopted.port) == ("127.0.0.1", port)
            for asked, said in (ServerConfig(port=9), ["port"]), (ServerConfig(host="::1"), ["host"]):
                with pytest.raises(ConfigError, match=f"listens at 127.0.0.1:{port}, and --replace keeps its address"):
                    predecessor.adopt(asked, said)
            with pytest.raises(ConfigError, match="name another file"):
                predecessor.check_record("./run.jsonl")

    meeting.run(scenario)


def test_only_the_same_user_may_take_over(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    me, server = os.getpid(), threading.current_thread()
    users: dict[bool, int] = {}  # whom the server sees, and its successor

    def peer(connection: socket.socket) -> tuple[int, int]:
        return me, users[threading.current_thread() is server]

    def scenario() -> None:
        monkeypatch.setattr(handover, "_peer", peer)
        users.update({True: os.geteuid() + 1, False: os.geteuid()})
        with pytest.raises(ConfigError, match="cannot be replaced: only the user who started it may replace it"):
            Predecessor(me)
        users.update({True: os.geteuid(), False: os.geteuid() + 1})
        with pytest.raises(ConfigError, match="is no orcinus server that serves"):  # it only has the name of one
            Predecessor(me)

    meeting.run(scenario)


def test_a_process_of_another_container_may_not_take_over(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers may share a network, and with it the names of sockets; their root has the same user id."""
    server, seen = threading.current_thread(), handover._peer

    def peer(connection: socket.socket) -> tuple[int, int]:
        pid, uid = seen(connection)
        return (0 if threading.current_thread() is server else pid), uid  # 0: it has no process id here

    def scenario() -> None:
        monkeypatch.setattr(handover, "_peer", peer)
        with pytest.raises(ConfigError, match="cannot be replaced: a process of another container may not replace it"):
            Predecessor(os.getpid())

    meeting.run(scenario)


def test_what_cannot_be_replaced_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    for pid, reason in {
        gone.pid: f"there is no process {gone.pid} to replace",
        os.getppid(): f"process {os.getppid()} is no orcinus server that serves",
    }.items():
        done = orcinus("serve", *SIMULATED, "--replace", str(pid))
        assert (done.returncode, reason in done.stderr, len(done.stderr.splitlines())) == (1, True, 1)
    monkeypatch.setattr(handover, "ANSWER_S", 0.1)
    monkeypatch.setattr(
        handover, "_address", lambda pid: f"\0orcinus-test-{pid}"
    )  # a server of another test may have this one's
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(handover._address(os.getpid()))
        stopped.listen()
        with pytest.raises(ConfigError, match="does not answer: it may be stopped"):
            Predecessor(os.getpid())


def test_load_balancers_are_told_before_requests_are_refused() -> None:
    with serving_in_process(*SIMULATED, "--drain-delay", "1.5") as server:
        assert "connection" not in server.http.post("/v1/completions", json=BODY).headers
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.http.get("/ready").status_code == 503)
        served = server.http.post("/v1/completions", json=BODY)
        assert (served.status_code, served.headers["connection"]) == (200, "close")
        wait_until(lambda: refused_or_gone(server))


def refused_or_gone(server: Running) -> bool:
    try:
        return server.http.post("/v1/completions", json=BODY).status_code == 503
    except httpx.TransportError:
        return True


def test_a_service_manager_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for address, bound in ((str(tmp_path / "notify"), None), (f"@orcinus-{os.getpid()}", f"\0orcinus-{os.getpid()}")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(bound or address)
            monkeypatch.setenv("NOTIFY_SOCKET", address)
            notify(READY=1, MAINPID=7)
            assert manager.recv(100) == b"READY=1\nMAINPID=7"
    notify(STOPPING=1)  # and one that is gone disturbs nothing
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify(STOPPING=1)


def test_a_place_has_the_port_in_use_and_a_whole_path() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert place_of(listener, "127.0.0.1", Path("a")) == ServerPlace("127.0.0.1", port, os.path.abspath("a"))
        assert place_of(listener, "::", None) == ServerPlace("::", port, None)
