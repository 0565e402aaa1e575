"""The page of a server, and what it asks the server for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from orcinus.sim.real_time import RealTimeExecutor
from tests.serve.conftest import Running, serving
from tests.serve.in_process import serving_in_process
from tests.serve.watch import watching
from tests.waiting import wait_until

LOAD = {"requests": [{"prompt": "Tell me a story", "max_tokens": 8}] * 12}


def test_the_page_and_its_files(server: Running) -> None:
    answer = server.http.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    script = server.http.get("/page/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = server.http.get("/page/main.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert server.http.get("/page/nothing.js").status_code == 404
    whole = server.http.get("/page/standalone.html")
    assert whole.headers["content-security-policy"] == "sandbox"  # it is saved, never run here
    assert "/" not in server.http.get("/openapi.json").json()["paths"]


def test_a_server_may_have_no_page() -> None:
    with serving("--no-page", "--simulate", "llama-7b") as bare:
        assert bare.http.get("/").status_code == 404
        assert bare.http.get("/page/main.js").status_code == 404


def test_the_page_needs_no_key_and_what_it_shows_does() -> None:
    with serving("--api-key", "one", "--simulate", "llama-7b") as keyed:
        assert keyed.http.get("/").status_code == 200
        assert keyed.http.get("/page/main.js").status_code == 200
        for path in ("/v1/scheduler/iterations", "/v1/scheduler/requests", "/v1/models"):
            assert keyed.http.get(path).status_code == 401
        assert keyed.http.get("/v1/scheduler/requests", headers={"Authorization": "Bearer one"}).status_code == 403


def test_live_requests_hold_the_blocks_of_their_tokens(server: Running) -> None:
    shared = "The same words begin both prompts, and fill more than one block of keys and values. " * 2
    server.http.post("/v1/completions", json={"prompt": shared, "max_tokens": 1})  # its blocks are cached from now on
    server.http.post("/pause")
    bodies = [{"prompt": shared + end, "max_tokens": 200, "ignore_eos": True} for end in ("One", "Two")]
    posts = [
        threading.Thread(target=httpx.post, args=(f"{server.url}/v1/completions",), kwargs={"json": body, "timeout": 60})
        for body in bodies
    ]
    try:
        for post in posts:
            post.start()
        wait_until(lambda: len(server.http.get("/v1/scheduler/requests").json()["requests"]) == 2)
        waiting = server.http.get("/v1/scheduler/requests").json()
        assert [one["blocks"] for one in waiting["requests"]] == [[], []]
        server.http.post("/v1/scheduler/step", json={"iterations": 8})
        wait_until(lambda: all(one["output_tokens"] for one in server.http.get("/v1/scheduler/requests").json()["requests"]))
        found = server.http.get("/v1/scheduler/requests").json()
        (size,), (blocks,) = found["block_size"], found["num_blocks"]
        one, two = found["requests"]
        for request in (one, two):
            assert len(request["blocks"]) == -(-request["computed_tokens"] // size)
            assert request["arrival"] <= found["now"]
            assert request["computed_tokens"] == request["prompt_tokens"] + request["output_tokens"] - 1
        common = set(one["blocks"]) & set(two["blocks"])
        assert len(common) == (waiting["requests"][0]["prompt_tokens"] - 4) // size, (
            "the blocks of the common prefix are shared"
        )
        held = len(set(one["blocks"]) | set(two["blocks"]))
        assert server.scheduler()["free_blocks"] == blocks - held
    finally:
        server.http.post("/resume")
        for post in posts:
            post.join()
    assert server.idle()
    assert server.http.get("/v1/scheduler/requests").json()["requests"] == []


def test_watchers_hear_latencies_and_who_left(server: Running) -> None:
    with watching(server.url) as seen:
        first = server.http.post("/v1/completions", json={"prompt": "x", "max_tokens": 3, "ignore_eos": True}).json()["id"]
        server.http.post("/v1/completions", json={"prompt": "y", "max_tokens": 2, "ignore_eos": True})
    mine = [event for event in seen if any(chunk["id"] == f"{first}-0" for chunk in event["chunks"])]
    assert [list(event["ttft"]) for event in mine] == [[f"{first}-0"], [], []]
    assert [list(event["tbt"]) for event in mine] == [[], [f"{first}-0"], [f"{first}-0"]]
    gaps = [seconds for event in mine for seconds in chain.from_iterable(event["tbt"].values())]
    assert all(seconds >= 0 for seconds in (*gaps, *mine[0]["ttft"].values()))
    assert [[len(gaps) for gaps in event["tbt"].values()] for event in mine] == [[], [1], [1]]
    assert [f"{first}-0" in event["removed"] for event in seen[:4]] == [False, False, False, True]


def test_watchers_hear_every_token_of_an_answer_that_was_held_back(server: Running) -> None:
    before = server.scheduler()["policy"]
    server.http.put("/v1/scheduler", json={"policy": "request-level"})
    try:
        with watching(server.url) as seen:
            body = {"requests": [{"prompt": "one", "max_tokens": 5}, {"prompt": "two", "max_tokens": 9}]}
            assert server.http.post("/v1/scheduler/load", json=body).json()["failed"] == 0
        told = [len(event["ttft"]) + sum(map(len, event["tbt"].values())) for event in seen]
        assert sum(told) >= 5 + 9
    finally:
        server.http.put("/v1/scheduler", json={"policy": before})


def test_a_load_of_the_servers_own(server: Running) -> None:
    body = {"requests": [{"prompt": f"number {number}", "max_tokens": 3} for number in range(20)]}
    with watching(server.url) as seen:
        outcome = server.http.post("/v1/scheduler/load", json=body).json()
    assert (outcome["requests"], outcome["failed"], outcome["error"]) == (20, 0, None)
    assert max(len(event["chunks"]) for event in seen) > 6, "more at once than a browser has connections"
    assert server.idle()


def test_a_load_says_what_failed_and_ends_with_its_client(server: Running) -> None:
    too_long = {"prompt": "word " * 5000, "max_tokens": 3}
    outcome = server.http.post("/v1/scheduler/load", json={"requests": [too_long, {"prompt": "Hi", "max_tokens": 2}]}).json()
    assert (outcome["requests"], outcome["failed"]) == (2, 1)
    assert "tokens" in outcome["error"]
    endless = {"requests": [{"prompt": "Hi", "max_tokens": 1500}] * 3 + [{"prompt": "Ho", "max_tokens": 5, "at": 60}]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/scheduler/load", json=endless, timeout=0.3)
    wait_until(lambda: not server.http.get("/v1/scheduler/requests").json()["requests"], pause=0.1)
    for wrong in (
        {},
        {"requests": []},
        {"requests": [{"prompt": "a"}]},
        {"requests": [{"prompt": "a", "max_tokens": 1, "at": -1}]},
    ):
        assert server.http.post("/v1/scheduler/load", json=wrong).status_code == 400
    assert server.idle()


def test_pipeline_stages_are_timed_while_there_is_a_watcher() -> None:
    asked, original = list[bool](), RealTimeExecutor.time_stages

    def time_stages(executor: RealTimeExecutor, *, on: bool) -> None:
        asked.append(on)
        original(executor, on=on)

    with patch.object(RealTimeExecutor, "time_stages", time_stages), pipelined() as pipeline:
        with httpx.stream("GET", f"{pipeline.url}/v1/scheduler/iterations", timeout=30) as answer:
            load = threading.Thread(target=pipeline.http.post, args=("/v1/scheduler/load",), kwargs={"json": LOAD})
            load.start()
            lines = answer.iter_lines()
            runs = [run for _ in range(3) for run in stages_event(lines)["runs"]]
            load.join()
        assert {run["stage"] for run in runs} == {0, 1}
        assert all(run["began"] < run["ended"] for run in runs)
        first = {run["batch"]: run for run in runs if run["stage"] == 0}
        second = {run["batch"]: run for run in runs if run["stage"] == 1}
        assert all(first[batch]["ended"] <= second[batch]["began"] + 1e-9 for batch in first.keys() & second.keys())
        wait_until(lambda: asked == [True, False])  # an engine that is not watched times nothing


def pipelined() -> AbstractContextManager[Running]:
    return serving_in_process("--simulate", "llama-7b", "--pp", "2")


def stages_event(lines: Iterator[str]) -> dict[str, Any]:
    """The next `stages` event."""
    while next(lines) != "event: stages":
        pass
    found: dict[str, Any] = json.loads(next(lines).removeprefix("data: "))
    return found


def test_a_load_may_have_an_slo_and_its_promises_are_counted(server: Running) -> None:
    before = server.scheduler()["promises"]
    body = {"requests": [{"prompt": "Hi", "max_tokens": 2}] * 3, "slo": {"ttft": 1e-6}}
    outcome = server.http.post("/v1/scheduler/load", json=body).json()
    after = server.scheduler()["promises"]
    refused = after["refused"] - before["refused"]
    assert (outcome["requests"], outcome["refused"], outcome["failed"]) == (3, refused, 0)
    made = after["made"] - before["made"]
    assert made + refused == 3
    assert after["broken"] - before["broken"] == made, "no engine keeps a microsecond"
    assert server.http.post("/v1/scheduler/load", json=body | {"slo": {}}).status_code == 400


def test_blocks_that_are_reserved_are_told_from_those_that_are_filled() -> None:
    with serving_in_process("--simulate", "llama-7b", "--paper", "orca") as reserving:
        reserving.http.post("/pause")
        body = {"requests": [{"prompt": "Hi", "max_tokens": 100}]}
        load = threading.Thread(target=reserving.http.post, args=("/v1/scheduler/load",), kwargs={"json": body})
        load.start()
        live = "/v1/scheduler/requests"
        wait_until(lambda: reserving.http.get(live).json()["requests"])
        reserving.http.post("/v1/scheduler/step", json={"iterations": 3})
        wait_until(lambda: reserving.http.get(live).json()["requests"][0]["output_tokens"])
        found = reserving.http.get(live).json()
        (request,), (size,) = found["requests"], found["block_size"]
        assert request["filled_blocks"] == -(-request["computed_tokens"] // size)
        assert len(request["blocks"]) == -(-(request["prompt_tokens"] + 100) // size)
        reserving.http.post("/resume")
        load.join()
