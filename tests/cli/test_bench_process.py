"""`orcinus bench` as a process: against a real server, and interrupted."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from orcinus.bench.measure import metrics
from orcinus.bench.result import read_result
from tests.commands import ENVIRONMENT, ORCINUS, orcinus
from tests.product import part
from tests.serve.conftest import Running

BARS = {"FORCE_COLOR": "1", "NO_COLOR": "1"}  # bars without a terminal, and without colours between their words
SHORT = ("--workload", "fixed:tokens=20,fixed:tokens=5")
PATIENT = ("--max-delay", "60")  # the machine of a test is busy


def interrupted(arguments: list[str], after: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark and press Ctrl-C as soon as its progress bars say this."""
    process = subprocess.Popen(
        [*ORCINUS, "bench", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | BARS
    )
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(after, line):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.mark.parametrize(
    "how",
    part(
        ("--arrivals", "poisson:rate=20"),
        ("--api", "chat", "--arrivals", "all-at-once"),
        full=[
            (("--arrivals", "closed:clients=2"),),
            (("--prompts", "text", "--arrivals", "constant:rate=20"),),
            (("--any-length",),),
        ],
    ),
    ids=" ".join,
)
def test_a_server_is_measured(server: Running, how: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    load = ("--requests", "6", "--workload", "fixed:tokens=20,fixed:tokens=5", "--out", str(out))
    done = orcinus("bench", "serve", "--url", server.url, *PATIENT, *load, *how)
    assert done.returncode == 0, done.stdout + done.stderr
    (side,) = read_result(out).sides
    (repeat,) = side.repeats
    assert [request.outcome for request in repeat.requests] == ["ok"] * 6
    assert [request.output_tokens for request in repeat.requests] == [len(request.times) for request in repeat.requests]
    if "--any-length" not in how:
        assert {request.output_tokens for request in repeat.requests} == {5}
    if "text" not in how and "chat" not in how:
        assert {request.prompt_tokens for request in repeat.requests} == {20}
    assert metrics(repeat)["ttft.p50"] > 0
    assert "The client's own delay (P99)" in done.stdout
    assert "counted by token ids" in done.stdout


@pytest.mark.full
def test_a_server_is_swept_and_its_capacity_found(server: Running) -> None:
    load = ("--requests", "6", "--workload", "fixed:tokens=20,fixed:tokens=5", *PATIENT)
    swept = orcinus("bench", "sweep", "--url", server.url, "--rates", "20,40", "--repeats", "1", *load)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert swept.stdout.count("orcinus-tiny at") == 2
    search = ("--first", "80", "--tolerance", "0.9", "--median-ttft", "0.2", "--requests", "100")
    found = orcinus("bench", "capacity", "--url", server.url, *load, *search)
    assert "capacity, requests/s" in found.stdout, found.stderr


def test_a_late_client_is_called_invalid(server: Running) -> None:
    """No client reads every answer within a nanosecond."""
    done = orcinus("bench", "serve", "--url", server.url, "--requests", "4", *SHORT, "--max-delay", "1e-9")
    assert done.returncode == 1
    assert "INVALID" in done.stdout
    assert "The client sent late" in done.stdout


def test_ctrl_c_keeps_what_a_server_was_measured_at(server: Running, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    load = ["--workload", "fixed:tokens=20,fixed:tokens=5", "--arrivals", "constant:rate=10", "--requests", "1000"]
    done = interrupted(["serve", "--url", server.url, *load, *PATIENT, "--out", str(out)], after=r" [1-9]\d+/1000 ")
    assert done.returncode == 130, done.stdout + done.stderr
    found = read_result(out)
    assert not found.complete
    (repeat,) = found.sides[0].repeats
    assert repeat.partial
    assert 5 <= len(repeat.requests) < 1000
    assert "It was interrupted" in done.stdout
    assert "TTFT" in done.stdout
    assert server.idle(), "the requests in flight were given up"


@pytest.mark.full
def test_ctrl_c_keeps_what_an_engine_was_measured_at(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    load = ["--workload", "fixed:tokens=20,fixed:tokens=40", "--requests", "2000", "--repeats", "9", "--out", str(out)]
    done = interrupted(["offline", *load], after=r" [1-9]\d*/2000 ")
    assert done.returncode == 130, done.stdout + done.stderr
    found = read_result(out)
    assert not found.complete
    assert found.sides[0].repeats[-1].partial
    assert "It was interrupted" in done.stdout
