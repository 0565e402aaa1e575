"""Pause, steps and slow motion: of one loop, and of a server."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import httpx
import pytest

from orcinus.serve.pace import Pace
from tests.serve.conftest import Running
from tests.serve.watch import watching
from tests.waiting import wait_until


def test_a_paused_loop_starts_nothing_but_its_steps() -> None:
    pace = Pace()
    assert pace.wait(0.0) == 0
    pace.set(paused=True, min_seconds=0.0)
    assert pace.wait(1.0) == math.inf
    pace.steps += 2
    for now in (1.0, 2.0):
        assert pace.wait(now) == 0
        pace.start(now)
    assert pace.wait(3.0) == math.inf
    pace.steps += 1
    pace.set(paused=True, min_seconds=0.0)
    assert pace.wait(3.0) == math.inf, "a new pause forgets the steps that are left"


def test_slow_motion_spaces_the_starts() -> None:
    pace = Pace()
    pace.set(paused=False, min_seconds=0.5)
    assert pace.wait(10.0) == 0
    pace.start(10.0)
    assert pace.wait(10.2) == pytest.approx(0.3)
    assert pace.wait(10.5) == 0
    pace.set(paused=False, min_seconds=0.0)
    assert pace.wait(10.2) == 0


def test_a_paused_server_runs_the_iterations_that_it_is_told_to(server: Running) -> None:
    refused = server.http.post("/v1/scheduler/step", json={})
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "not_paused"
    with watching(server.url) as seen:
        server.http.post("/pause")
        try:
            body = {"prompt": "Once", "max_tokens": 6, "ignore_eos": True, "stream": True}
            with httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=30) as answer:
                lines = answer.iter_lines()
                wait_until(lambda: server.scheduler()["waiting"] == 1)
                for iterations, generated in ((1, 1), (3, 4)):
                    server.http.post("/v1/scheduler/step", json={"iterations": iterations})
                    wait_until(lambda so_far=generated: len(seen) >= so_far)
                    time.sleep(0.1)
                    assert len(seen) == generated
                    (live,) = server.http.get("/v1/scheduler/requests").json()["requests"]
                    assert live["output_tokens"] == generated
                server.http.post("/resume")
                assert sum(line.startswith("data: {") for line in lines) == 6
        finally:
            server.http.post("/resume")
    assert server.idle()


def test_steps_that_were_left_do_not_run_later_requests(server: Running) -> None:
    server.http.post("/pause")
    try:
        server.http.post("/v1/scheduler/step", json={"iterations": 50})
        assert server.http.post("/v1/completions", json={"prompt": "a", "max_tokens": 1, "timeout": 1.5}).status_code == 408
    finally:
        server.http.post("/resume")


def test_slow_motion_of_a_server(server: Running) -> None:
    try:
        assert server.http.put("/v1/scheduler", json={"min_iteration_seconds": 0.1}).json()["min_iteration_seconds"] == 0.1
        with watching(server.url) as seen:
            server.http.post("/v1/completions", json={"prompt": "b", "max_tokens": 4, "ignore_eos": True})
            starts = [event["at"] for event in seen[:4]]
        assert all(later - sooner >= 0.0999 for sooner, later in pairwise(starts))
        assert server.scheduler()["min_iteration_seconds"] == 0.1
    finally:
        server.http.put("/v1/scheduler", json={"min_iteration_seconds": 0})
    for wrong in (-1, 11, "fast", True):
        assert server.http.put("/v1/scheduler", json={"min_iteration_seconds": wrong}).status_code == 400
    assert server.scheduler()["min_iteration_seconds"] == 0
