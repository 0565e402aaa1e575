"""A server with several engine processes: they share the work, die under streams, and none is left at the end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from orcinus.serve import response_schema
from tests.engine_processes import engine_processes
from tests.product import part
from tests.serve.conftest import ENVIRONMENT, Running, serving
from tests.serve.in_process import serving_in_process
from tests.waiting import wait_until

SIMULATED = ("--simulate", "llama-7b", "--replicas", "2")
BODY = {"prompt": "Once upon a time", "max_tokens": 200, "ignore_eos": True, "stream": True}


def engine_pids(server: Running) -> dict[str, int]:
    """The engine processes of a server, by their names."""
    return {engine.name: engine.pid for engine in engine_processes(server.process.pid)}


class Client(threading.Thread):
    """Reads one stream: how often a token came, its text, and its end."""

    def __init__(self, server: Running, **fields: Any) -> None:
        super().__init__()
        self.url, self.body = server.url, BODY | {"stream_options": {"include_usage": True}} | fields
        self.text, self.ends, self.usage, self.error = "", 0, 0, ""
        self.start()

    def run(self) -> None:
        with httpx.stream("POST", f"{self.url}/v1/completions", json=self.body, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    self._take(json.loads(line[6:]))

    def _take(self, frame: dict[str, Any]) -> None:
        if "error" in frame:
            self.error = frame["error"]["code"]
        for choice in frame.get("choices", ()):
            self.text += choice["text"]
            self.ends += choice["finish_reason"] is not None
        self.usage = (frame.get("usage") or {}).get("completion_tokens", self.usage)


def gauge(server: Running, name: str) -> dict[str, float]:
    """By engine."""
    page = text_string_to_metric_families(server.http.get("/metrics").text)
    return {sample.labels["engine"]: sample.value for family in page for sample in family.samples if sample.name == name}


@pytest.mark.full  # requests that move: test_replica_set.py; the death of the only engine's process: test_process.py
def test_streams_of_a_replica_that_is_killed_go_on_and_the_last_death_is_the_servers() -> None:
    with serving(*SIMULATED, "--max-batch-size", "3", "--on-engine-death", "exit") as server:
        pids = engine_pids(server)
        assert sorted(pids) == ["engine 0", "engine 1"]
        kinds: list[dict[str, Any]] = [{"temperature": 0}, {"temperature": 1, "seed": 1}]
        alone = [Client(server, **kind) for kind in kinds]
        for client in alone:
            client.join()
        crowd = [Client(server, **kinds[number % 2]) for number in range(10)]
        wait_until(lambda: sum(replica["running"] for replica in server.scheduler()["replicas"]) == 6)
        state = response_schema.SchedulerState.model_validate(server.scheduler())
        assert [(one.replica, one.running, one.waiting) for one in state.replicas] == [(0, 3, 2), (1, 3, 2)]
        assert (state.running, state.waiting, state.num_blocks) == (6, 4, 2 * state.replicas[0].num_blocks)
        before = gauge(server, "orcinus_generation_tokens_total")["0"]
        wait_until(lambda: gauge(server, "orcinus_generation_tokens_total")["0"] > before + 10)
        os.kill(pids["engine 0"], signal.SIGKILL)
        for client in crowd:
            client.join()
        assert [(client.text, client.usage, client.ends, client.error) for client in crowd] == [
            (alone[number % 2].text, 200, 1, "") for number in range(10)
        ]
        assert gauge(server, "orcinus_engine_up") == {"0": 0, "1": 1}
        assert [one["replica"] for one in server.scheduler()["replicas"]] == [1]
        assert server.idle()
        assert (server.http.get("/ready").status_code, server.http.get("/health").status_code) == (200, 200)
        last = Client(server)
        wait_until(lambda: server.scheduler()["running"] == 1)
        os.kill(pids["engine 1"], signal.SIGKILL)
        last.join()
        assert (last.ends, last.error) == (0, "engine_dead")
        assert server.process.wait(timeout=20) == 1
        assert server.process.stderr is not None
        first, second = server.process.stderr.read().splitlines()
        assert first.startswith("replica 0 is gone: the engine process was killed by SIGKILL")
        assert re.search("; [1-5] requests? moved, 1 of 2 replicas are left$", first), "on a busy machine some had ended"
        assert second.startswith("error: the engine died: the engine process was killed by SIGKILL")


@pytest.mark.full  # named in threads: test_replica_set.py; no process is left over: test_signals.py
def test_a_replica_that_cannot_start_takes_the_others_with_it(tmp_path: Path) -> None:
    (tmp_path / "run.1.jsonl").mkdir()
    command = [sys.executable, "-m", "orcinus", "serve", "--port", "0", *SIMULATED, "--record", str(tmp_path / "run.jsonl")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    out, errors = server.communicate(timeout=60)
    assert (server.returncode, out) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("error: replica 1: cannot record to ")
    commands = [path.read_bytes().split(b"\0") for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)]
    assert not [words for words in commands if b"orcinus.serve.engine_loop" in words and str(server.pid).encode() in words]


def readable(path: Path) -> bool:
    """Whether the process is still there."""
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def gone(pids: dict[str, int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids.values())


@pytest.mark.parametrize("start", part(serving_in_process, full=[serving]), ids=["in threads", "in processes"])
def test_one_queue_and_one_switch_for_all_and_all_end_when_it_drains(
    start: Callable[..., AbstractContextManager[Running]],
) -> None:
    with start(*SIMULATED, "--router", "round-robin", "--max-queue", "4") as server:
        seen: dict[int, int] = {}
        with httpx.stream("GET", f"{server.url}/v1/scheduler/iterations", timeout=60) as answer:
            clients = [Client(server, max_tokens=20) for _ in range(2)]
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    batch = json.loads(line[6:])
                    seen[batch["replica"]] = seen.get(batch["replica"], 0) + sum(one["tokens"] for one in batch["chunks"])
                if len(seen) == 2 and min(seen.values()) >= 19:
                    break
        for client in clients:
            client.join()
        assert sorted(seen) == [0, 1]
        assert server.http.put("/v1/scheduler", json={"policy": "orca", "max_batch_size": 3}).status_code == 200
        answer = server.http.put("/v1/scheduler", json={"max_batch_size": 0})
        assert answer.status_code == 400
        assert server.scheduler()["limits"]["max_batch_size"] == 3
        server.http.post("/pause")
        crowd = [Client(server, max_tokens=20) for _ in range(4)]
        wait_until(lambda: server.scheduler()["waiting"] == 4)
        refused = server.http.post("/v1/completions", json=BODY | {"stream": False})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full"), "one queue for all"
        assert int(refused.headers["retry-after"]) >= 1
        server.http.post("/resume")
        for client in crowd:
            client.join()
        assert [client.usage for client in crowd] == [20] * 4
        pids = engine_pids(server) if start is serving else {}
        last = [Client(server, max_tokens=30) for _ in range(2)]
        wait_until(lambda: all(replica["running"] == 1 for replica in server.scheduler()["replicas"]))
        server.process.send_signal(signal.SIGTERM)
        for client in last:
            client.join()
        assert [(client.usage, client.ends) for client in last] == [(30, 1)] * 2
        if start is serving:
            assert server.process.wait(20) == 0
        assert gone(pids)


@pytest.mark.full
def test_a_real_model_goes_on_with_the_same_tokens() -> None:
    with serving("--replicas", "2", "--max-batch-size", "4") as server:
        kinds: list[dict[str, Any]] = [{"temperature": 0, "presence_penalty": 0.5}, {"temperature": 0.9, "seed": 1}]
        alone = [Client(server, **kind) for kind in kinds]
        for client in alone:
            client.join()
        crowd = [Client(server, **kinds[number % 2]) for number in range(12)]
        wait_until(lambda: all(replica["running"] == 4 for replica in server.scheduler()["replicas"]))
        before = gauge(server, "orcinus_generation_tokens_total")["0"]
        wait_until(lambda: gauge(server, "orcinus_generation_tokens_total")["0"] > before + 100)
        os.kill(engine_pids(server)["engine 0"], signal.SIGKILL)
        for client in crowd:
            client.join()
        assert [(client.text, client.usage) for client in crowd] == [(alone[number % 2].text, 200) for number in range(12)]
