"""Signals to every process of a server at once, as service managers and terminals send them; and no process left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Barrier

import httpx
import pytest

from orcinus.parent import LEAVE
from orcinus.text.chat_template import TemplateRenderer
from tests.commands import ORCINUS
from tests.product import part
from tests.serve.conftest import ENVIRONMENT, Running, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see who is still there")
SIMULATED = ("--simulate", "llama-7b")
BODY = {"prompt": "Once upon a time", "max_tokens": 60, "ignore_eos": True, "temperature": 0, "stream": True}
STREAMS = 12
PARALLEL = """
import sys, time
from orcinus.sim.parallel import in_parallel
if __name__ == "__main__":
    list(in_parallel(time.sleep, [600, 600], workers=2))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(one for child in children for one in family(int(child)))]


def gone(pids: list[int], within: float = 20.0) -> bool:
    until = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def to_all(process: subprocess.Popen[str], number: int) -> list[int]:
    """Send a signal to every process of the server, as systemd does to a control group."""
    pids = family(process.pid)
    for pid in pids:
        os.kill(pid, number)
    return pids


def streams(server: Running, count: int, then: Callable[[], object]) -> list[list[str]]:
    """The lines of so many streams; `then` is called when all have begun."""
    begun = Barrier(count + 1)

    def one(_: int) -> list[str]:
        with httpx.stream("POST", f"{server.url}/v1/completions", json=BODY, timeout=60) as answer:
            lines = answer.iter_lines()
            first = next(lines)
            begun.wait(60)
            return [first, *(line for line in lines if line)]

    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(one, number) for number in range(count)]
        begun.wait(60)
        then()
        return [each.result() for each in asked]


def test_a_signal_to_all_processes_drains_and_a_second_one_ends_at_once() -> None:
    with serving(*SIMULATED, "--max-batch-size", "16") as server:
        pids = family(server.process.pid)
        assert len(pids) == 2
        assert len({os.getpgid(pid) for pid in pids}) == 1, "the engine is of the server's group: a terminal reaches it"
        with httpx.stream("POST", f"{server.url}/v1/completions", json=BODY | {"max_tokens": 1500}, timeout=60) as answer:
            lines = answer.iter_lines()  # kept, for a forgotten one hangs up
            next(lines)
            for ended in streams(server, STREAMS, lambda: to_all(server.process, signal.SIGHUP)):
                assert ended[-1] == "data: [DONE]"
                assert sum(line.startswith("data: {") for line in ended) == BODY["max_tokens"]
            assert server.http.get("/ready").status_code == 503
            to_all(server.process, signal.SIGHUP)
            assert server.process.wait(timeout=20) == 1
        assert gone(pids)


@pytest.mark.full
@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM], ids=lambda number: signal.Signals(number).name
)
def test_a_signal_to_all_processes_drains(number: int) -> None:
    with serving(*SIMULATED, "--max-batch-size", "16") as server:
        pids = family(server.process.pid)
        assert len(pids) == 2
        assert len({os.getpgid(pid) for pid in pids}) == 1, "the engine is of the server's group: a terminal reaches it"
        answers = streams(server, STREAMS, lambda: to_all(server.process, number))
        for lines in answers:
            assert lines[-1] == "data: [DONE]"
            assert sum(line.startswith("data: {") for line in lines) == BODY["max_tokens"]
        assert server.process.wait(timeout=20) == 0
        assert gone(pids)


def _children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split())


def test_a_template_that_renders_meanwhile_goes_on() -> None:
    """The process of the chat template is one of those that get the signal."""
    before = _children()  # renderers of other tests among them
    renderer = TemplateRenderer()
    assert renderer.render("{{ messages[0].content }}", [{"content": "a"}]) == "a"
    children = _children() - before
    (process,) = (int(pid) for pid in children if b"template_process" in Path(f"/proc/{pid}/cmdline").read_bytes())
    for number in LEAVE:
        os.kill(process, number)
    assert renderer.render("{{ messages[0].content }}", [{"content": "b"}]) == "b"
    assert alive(process)


@pytest.mark.full
@pytest.mark.parametrize("model", [SIMULATED, ("--dtype", "float32")], ids=" ".join)
def test_so_does_one_to_the_process_group(model: tuple[str, ...]) -> None:
    """The engine is of the group: what a terminal sends reaches it, and it leaves that to the server."""
    with in_group(*ORCINUS, "serve", "--port", "0", *model) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        running = Running(process, httpx.Client(), url)
        assert {os.getpgid(pid) for pid in family(process.pid)} == {process.pid}
        answers = streams(running, 4, lambda: os.killpg(process.pid, signal.SIGTERM))
        assert [lines[-1] for lines in answers] == ["data: [DONE]"] * 4
        assert process.wait(timeout=30) == 0


@pytest.mark.full  # with the first one in a server: above
def test_a_second_signal_to_all_ends_at_once() -> None:
    with serving(*SIMULATED) as server:

        def twice() -> None:
            to_all(server.process, signal.SIGTERM)
            wait_until(lambda: server.http.get("/ready").status_code == 503)
            to_all(server.process, signal.SIGTERM)

        pids = family(server.process.pid)
        with httpx.stream("POST", f"{server.url}/v1/completions", json=BODY | {"max_tokens": 1500}, timeout=60) as answer:
            lines = answer.iter_lines()  # kept, for a forgotten one hangs up
            next(lines)
            twice()
            assert server.process.wait(timeout=20) == 1
        assert gone(pids)


@contextmanager
def in_group(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process with a group of its own, which is empty at the end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, text=True, env=ENVIRONMENT | environment, start_new_session=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
        process.stdout.close()


def children_of(process: subprocess.Popen[str], count: int) -> list[int]:
    """Its children, as soon as there are so many."""
    wait_until(lambda: process.poll() is not None or len(family(process.pid)[1:]) >= count, 60)
    assert process.poll() is None
    return family(process.pid)[1:]


@pytest.mark.parametrize("after", part(1.0, full=[0.0, 0.3, 2.0, 4.0]))
def test_no_engine_stays_when_its_server_is_killed_while_it_starts(after: float, tmp_path: Path) -> None:
    """Whatever the engine is doing then: starting Python, importing torch, reading weights, compiling, serving."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    with in_group(*ORCINUS, "serve", "--port", "0", "--dtype", "float32", TMPDIR=str(folder)) as process:
        engine = children_of(process, 1)
        time.sleep(after)
        process.kill()
        process.wait()
        assert gone(engine)
        assert not list(folder.glob("orcinus-*")), "the folder of the socket is gone with them"


def test_no_worker_stays_when_a_parallel_run_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "parallel.py"
    program.write_text(PARALLEL)
    with in_group(sys.executable, str(program)) as process:
        workers = children_of(process, 3)  # two, and the tracker of their semaphores
        process.kill()
        process.wait()
        assert gone(workers)


def test_a_program_that_is_not_ours_ends_with_its_parent(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux can end a program with its parent")
    program = tmp_path / "parent.py"
    program.write_text(
        "import subprocess, time\nfrom orcinus.parent import killed_with_this\n"
        "subprocess.Popen(['sleep', '600'], preexec_fn=killed_with_this())\ntime.sleep(600)\n"
    )
    with in_group(sys.executable, str(program)) as process:
        (child,) = children_of(process, 1)
        process.kill()
        process.wait()
        assert gone([child])
