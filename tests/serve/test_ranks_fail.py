"""A server whose model lies on several ranks, and what its clients hear when one of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.serve.conftest import Running, serving
from tests.waiting import wait_until, within

STREAMS = 20
LONG = {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "temperature": 0, "stream": True}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ranks(server: Running) -> list[int]:
    """Process ids of the ranks, in their order."""
    (engine,) = [pid for pid in children(server.process.pid) if b"engine_loop" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    found = [pid for pid in children(engine) if b"parallel.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return sorted(found)


def last_event(url: str, started: list[int]) -> str:
    """Stream a long answer to its end, which is told."""
    with httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        started.append(1)
        data = [line[6:] for line in lines if line.startswith("data: {")]
    return json.loads(data[-1])["error"]["code"]


def fail_under_streams(mesh: list[str], victim: int, sent: signal.Signals) -> str:
    """The server's last words when a rank fails under twenty streams, which all end with an error."""
    with serving(*mesh, "--max-batch-size", "32", "--max-model-len", "1600") as server, ThreadPoolExecutor(STREAMS) as pool:
        pids, started = ranks(server), list[int]()
        asked = [pool.submit(last_event, server.url, started) for _ in range(STREAMS)]
        wait_until(lambda: len(started) == STREAMS, seconds=60)
        with within(30):
            os.kill(pids[victim], sent)
            assert {one.result() for one in asked} == {"engine_dead"}
            assert server.process.wait(timeout=30) == 1
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert server.process.stderr is not None
        said = server.process.stderr.read().splitlines()
    assert len(said) == 1, said
    return said[0]


def test_a_killed_rank_ends_every_stream_with_an_error_and_the_server_with_one_line() -> None:
    said = fail_under_streams(["--tp", "2"], 1, signal.SIGKILL)
    assert re.fullmatch(
        r"error: the engine died: rank 1 \(process \d+\) was killed by SIGKILL .*: start the engine again", said
    )


@pytest.mark.full
@pytest.mark.parametrize("victim", range(4))
def test_each_rank_of_a_pipeline_may_be_the_one(victim: int) -> None:
    said = fail_under_streams(["--tp", "2", "--pp", "2"], victim, signal.SIGKILL)
    assert f"rank {victim} (stage {victim // 2}, process" in said


@pytest.mark.full
@pytest.mark.parametrize("victim", range(2))
def test_a_rank_that_is_stopped_is_found_within_seconds(victim: int) -> None:
    said = fail_under_streams(["--pp", "2"], victim, signal.SIGSTOP)
    assert re.search(rf"rank {victim} \(stage {victim}, process \d+\) does not answer: no sign of life for 5 s", said)


@pytest.mark.full
def test_an_idle_server_ends_when_a_rank_dies() -> None:
    with serving("--tp", "2") as server:
        os.kill(ranks(server)[0], signal.SIGKILL)
        assert server.process.wait(timeout=20) == 1


@pytest.mark.full
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_rank_outlives_its_server(sent: signal.Signals) -> None:
    with serving("--tp", "2") as server:
        pids = ranks(server)
        server.process.send_signal(sent)
        server.process.wait(timeout=20)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
