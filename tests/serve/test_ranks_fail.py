"""A server whose model lies on several ranks, and what its clients hear when one of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from orcinus.errors import ConfigError
from orcinus.runtime.parallel import start_local
from orcinus.runtime.parallel.rank_config import RankConfig
from tests.engine_processes import engine_processes
from tests.runtime.parallel.fake_launcher import FakeRanks
from tests.serve.conftest import Running, serving
from tests.serve.in_process import serving_in_process
from tests.waiting import wait_until, within

EXIT = ("--on-engine-death", "exit")
STREAMS = 20
LONG = {"prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True, "temperature": 0, "stream": True}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ranks(server: Running) -> list[int]:
    """Process ids of the ranks, in their order."""
    (engine,) = engine_processes(server.process.pid)
    found = [pid for pid in children(engine.pid) if b"parallel.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return sorted(found)


def ranks_of_this_process() -> list[int]:
    """Process ids of the ranks of an engine in a thread, in their order."""
    tasks = Path("/proc/self/task").iterdir()
    below = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return sorted(pid for pid in below if b"fake_worker" in Path(f"/proc/{pid}/cmdline").read_bytes())


class RanksWithoutModel(FakeRanks):
    """Ranks that load no torch and answer at once."""

    def start(self, configs: Sequence[RankConfig]) -> None:
        super().start([replace(one, load={"block_size": one.load["block_size"], "faults": ()}) for one in configs])


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
    with (
        serving(*mesh, *EXIT, "--max-batch-size", "32", "--max-model-len", "1600") as server,
        ThreadPoolExecutor(STREAMS) as pool,
    ):
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


KILLED = r"the engine died: rank 1 \(process \d+\) was killed by SIGKILL .*: the engine cannot go on"


def test_a_killed_rank_ends_every_stream_with_an_error_and_the_server_with_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranks are processes; the engine and the server, which end in order, are threads."""
    monkeypatch.setattr(start_local, "LocalLauncher", RanksWithoutModel)
    pids = list[int]()

    def kill_one_under_streams() -> None:
        started = list[int]()
        with serving_in_process("--tp", "2", *EXIT, "--max-model-len", "1600") as server, ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(last_event, server.url, started) for _ in range(4)]
            wait_until(lambda: len(started) == 4)
            pids.extend(ranks_of_this_process())
            with within(30):
                os.kill(pids[1], signal.SIGKILL)
                assert {one.result() for one in asked} == {"request_failed"}

    with pytest.raises(ConfigError, match=f"^{KILLED}$"):
        kill_one_under_streams()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert capfd.readouterr().err == ""


@pytest.mark.full
def test_so_it_does_where_the_engine_is_a_process() -> None:
    assert re.fullmatch(f"error: {KILLED}", fail_under_streams(["--tp", "2"], 1, signal.SIGKILL))


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
    with serving("--tp", "2", *EXIT) as server:
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
